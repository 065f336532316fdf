//! Starts a monitor: opens what it needs, says in its configuration which descriptor is what, and executes it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use node_api::{
    guest::{CONFIG_SERIAL, ROOT_SERIAL},
    image, vmm,
};
use rustix::fs::{FlockOperation, flock};

use super::{
    CGROUPS, Networking, RUN, SpecError, VmId, VmSpec, config_disk,
    process::Process,
    registry::{self, Running},
    uid,
    volume::{self, VolumeError},
};
use crate::guest_net::Slot;

/// What a monitor may use beyond its guest's memory, in bytes.
pub const MEMORY_HEADROOM: u64 = 64 << 20;
/// Threads of a monitor beyond its processors.
const SPARE_THREADS: u32 = 32;
/// Upper bound of a guest's serial log in bytes.
pub const SERIAL_BYTES: u64 = 1 << 20;
/// How long the processes of a stale cgroup may take to die.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Lowest context id that a guest may have.
const FIRST_CID: u32 = 3;
/// Kernel command line of guests. No self-tests of ciphers and no probing for a keyboard: they are most of a guest's boot.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=1 random.trust_cpu=on cryptomgr.notests i8042.noaux i8042.nomux \
     i8042.nopnp i8042.dumbkbd swiotlb=noforce tsc=reliable 8250.nr_uarts=1";

/// File with what the monitor writes to its standard error, in the VM's directory.
pub const MONITOR_LOG: &str = "monitor.log";

/// Why a monitor was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The specification is wrong.
    #[error("specification")]
    Spec(#[from] SpecError),
    /// Something could not be opened.
    #[error("{step} {}", path.display())]
    Open {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A volume is not there.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A volume is in use by a monitor that still runs.
    #[error("the volume {0} is in use by another monitor")]
    VolumeInUse(String),
    /// The guest's configuration does not fit.
    #[error(transparent)]
    Config(#[from] config_disk::ConfigDiskError),
    /// The monitor's own configuration could not be written.
    #[error("write the monitor's configuration")]
    Memory(#[source] io::Error),
}

/// What all monitors are started from.
#[derive(Debug)]
pub struct Launcher {
    /// [`RUN`].
    pub run: PathBuf,
    /// [`CGROUPS`]; absent in tests on machines without cgroup v2.
    pub cgroups: Option<PathBuf>,
    /// The monitor's program.
    pub vmm: PathBuf,
    /// The guest kernel, unpacked.
    pub kernel: OwnedFd,
    /// The guest's initial ram file system.
    pub initrd: PathBuf,
    /// The program that formats volumes.
    pub mke2fs: PathBuf,
    /// `/dev/kvm`.
    pub kvm: PathBuf,
}

impl Launcher {
    /// The places of the image, with a kernel from [`super::kernel::unpack`].
    #[must_use]
    pub fn new(kernel: OwnedFd) -> Self {
        Self {
            run: RUN.into(),
            cgroups: Some(CGROUPS.into()),
            vmm: image::VMM.into(),
            kernel,
            initrd: image::GUEST_INITRD.into(),
            mke2fs: volume::MKE2FS.into(),
            kvm: "/dev/kvm".into(),
        }
    }

    /// Starts a monitor whose volumes and logs are in `directory`. `tap` is the slot's, for a guest with a network. Blocks while
    /// new volumes are formatted.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub fn start(
        &self,
        spec: &VmSpec,
        slot: Slot,
        tap: Option<OwnedFd>,
        directory: &Path,
    ) -> Result<Running, StartError> {
        spec.check()?;
        make_directory(directory)?;
        volume::check_room(directory, &spec.volumes, spec.volume_room)?;
        let run = registry::directory(&self.run, &spec.id);
        // Sockets of the monitor before this one.
        registry::forget(&self.run, &spec.id).map_err(open_error("clear", &run))?;
        make_directory(&run)?;
        let mut kept = Descriptors::default();
        let config = self.configuration(spec, slot, tap, directory, &run, &mut kept)?;
        let json = serde_json::to_vec(&config).map_err(|error| StartError::Memory(error.into()))?;
        let config_fd = kept.keep(config_disk::sealed("vmm-config", &json).map_err(StartError::Memory)?);
        let log = directory.join(MONITOR_LOG);
        let stderr = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&log);
        let mut command = Command::new(&self.vmm);
        command
            .args(["--config-fd", &config_fd.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.map_err(open_error("open", &log))?);
        let child = crate::sys::inherit(&mut command, kept.list)
            .spawn()
            .map_err(open_error("execute", &self.vmm))?;
        drop(command);
        let process = Process::of_child(&child).map_err(open_error("watch", &self.vmm))?;
        let running = Running {
            process,
            slot,
            digest: spec.digest(),
            size: spec.size(),
            directory: directory.to_owned(),
        };
        if let Err(source) = registry::record(&self.run, &spec.id, &running) {
            // A monitor that the next agent could not find must not run.
            _ = running.process.kill();
            return Err(StartError::Open {
                step: "record",
                path: run,
                source,
            });
        }
        Ok(running)
    }

    fn configuration(
        &self,
        spec: &VmSpec,
        slot: Slot,
        tap: Option<OwnedFd>,
        directory: &Path,
        run: &Path,
        kept: &mut Descriptors,
    ) -> Result<vmm::Config, StartError> {
        // A description of its own for each monitor: they share the bytes, not the position.
        let kernel = PathBuf::from(format!("/proc/self/fd/{}", self.kernel.as_raw_fd()));
        let network = (spec.networking == Networking::Internet).then_some(tap).flatten();
        Ok(vmm::Config {
            id: spec.id.as_str().to_owned(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            kernel_fd: kept.keep(read_only(&kernel)?),
            initrd_fd: Some(kept.keep(read_only(&self.initrd)?)),
            command_line: COMMAND_LINE.to_owned(),
            kvm_fd: kept.keep(read_write(&self.kvm)?),
            disks: self.disks(spec, slot, directory, kept)?,
            networks: network
                .map(|tap| vmm::Network {
                    fd: kept.keep(tap),
                    mac: slot.mac(),
                })
                .into_iter()
                .collect(),
            vsock: Some(vmm::Vsock {
                cid: FIRST_CID + u32::from(slot.number()),
                listener_fd: kept.keep(listener(&run.join("vsock"))?),
            }),
            serial: vmm::Serial {
                fd: kept.keep(log_file(&directory.join("serial.log"))?),
                limit: SERIAL_BYTES,
            },
            control_fd: kept.keep(listener(&run.join("control"))?),
            jail: Some(vmm::Jail {
                uid: uid(slot),
                gid: uid(slot),
                cgroup_procs_fd: self
                    .cgroups
                    .as_deref()
                    .map(|root| cgroup(root, spec))
                    .transpose()?
                    .map(|fd| kept.keep(fd)),
            }),
        })
    }

    fn disks(
        &self,
        spec: &VmSpec,
        slot: Slot,
        directory: &Path,
        kept: &mut Descriptors,
    ) -> Result<Vec<vmm::Disk>, StartError> {
        let config = config_disk::open(&spec.guest_config(slot))?;
        let read_only_disk = |fd, serial: &str| vmm::Disk {
            fd,
            access: vmm::Access::ReadOnly,
            serial: serial.to_owned(),
        };
        let mut disks = vec![
            read_only_disk(kept.keep(read_only(&spec.root)?), ROOT_SERIAL),
            read_only_disk(kept.keep(config), CONFIG_SERIAL),
        ];
        for wanted in &spec.volumes {
            let file = volume::open(directory, wanted, &self.mke2fs)?;
            // The lock belongs to the open file that the monitor inherits, and ends with it: two monitors never share a volume.
            flock(&file, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| StartError::VolumeInUse(wanted.name.clone()))?;
            let fd = kept.keep(file.into());
            disks.push(vmm::Disk {
                fd,
                access: vmm::Access::ReadWrite,
                serial: wanted.name.clone(),
            });
        }
        Ok(disks)
    }
}

/// What the monitor inherits. Dropped in the agent once the monitor has been started.
#[derive(Debug, Default)]
struct Descriptors {
    list: Vec<OwnedFd>,
}

impl Descriptors {
    fn keep(&mut self, descriptor: OwnedFd) -> i32 {
        let number = descriptor.as_raw_fd();
        self.list.push(descriptor);
        number
    }
}

/// Makes the group of a monitor and opens its list of processes. Processes of a monitor that is not known any more are killed
/// first: they would hold its memory and volumes.
fn cgroup(root: &Path, spec: &VmSpec) -> Result<OwnedFd, StartError> {
    let group = root.join(spec.id.as_str());
    let write = |file: &str, value: String| {
        let path = group.join(file);
        fs::write(&path, value).map_err(open_error("set", &path))
    };
    remove_cgroup(root, &spec.id).map_err(open_error("clear", &group))?;
    delegate(root).map_err(open_error("hand controllers to", root))?;
    fs::create_dir_all(&group).map_err(open_error("make", &group))?;
    write(
        "memory.max",
        (u64::from(spec.memory_mib) * (1 << 20) + MEMORY_HEADROOM).to_string(),
    )?;
    write("pids.max", (u32::from(spec.vcpus) + SPARE_THREADS).to_string())?;
    write("cpu.max", format!("{} 100000", u32::from(spec.vcpus) * 100_000))?;
    let procs = group.join("cgroup.procs");
    File::options()
        .write(true)
        .open(&procs)
        .map(Into::into)
        .map_err(open_error("open", &procs))
}

fn delegate(root: &Path) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for directory in root.parent().into_iter().chain([root]) {
        fs::write(directory.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    }
    Ok(())
}

/// Removes the group of a monitor that has ended; whatever still runs in it is killed.
///
/// # Errors
/// The error of the removal.
pub fn remove_cgroup(root: &Path, id: &VmId) -> io::Result<()> {
    let group = root.join(id.as_str());
    if !group.try_exists()? {
        return Ok(());
    }
    fs::write(group.join("cgroup.kill"), "1")?;
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        match fs::remove_dir(&group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(open_error("make", path))
}

fn listener(path: &Path) -> Result<OwnedFd, StartError> {
    UnixListener::bind(path)
        .map(Into::into)
        .map_err(open_error("listen on", path))
}

fn read_only(path: &Path) -> Result<OwnedFd, StartError> {
    File::open(path).map(Into::into).map_err(open_error("open", path))
}

fn read_write(path: &Path) -> Result<OwnedFd, StartError> {
    File::options()
        .read(true)
        .write(true)
        .open(path)
        .map(Into::into)
        .map_err(open_error("open", path))
}

fn log_file(path: &Path) -> Result<OwnedFd, StartError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    file.map(Into::into).map_err(open_error("open", path))
}

fn open_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Open { step, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{process::Ended, tests::spec};
    use std::os::unix::fs::PermissionsExt;

    fn launcher(root: &Path, script: &str) -> Launcher {
        let program = root.join("vmm");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("file"), "content").unwrap();
        Launcher {
            run: root.join("run"),
            cgroups: None,
            vmm: program,
            kernel: config_disk::sealed("kernel", b"kernel").unwrap(),
            initrd: root.join("file"),
            mke2fs: volume::MKE2FS.into(),
            kvm: root.join("file"),
        }
    }

    fn wait(running: &Running) -> Ended {
        for _ in 0..500 {
            if let Some(ended) = running.process.ended().unwrap() {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still running")
    }

    #[test]
    fn monitor_gets_the_descriptors_of_its_configuration_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let launcher = launcher(
            root.path(),
            "cat /proc/self/fd/$2 > config; ls /proc/self/fd > open; cat /proc/self/stat > stat; exit 5",
        );
        // The script writes beside itself.
        let script = fs::read_to_string(&launcher.vmm)
            .unwrap()
            .replace(" > ", &format!(" > {}/", root.path().display()));
        fs::write(&launcher.vmm, script).unwrap();
        let spec = VmSpec {
            root: root.path().join("file"),
            ..spec("a")
        };
        let running = launcher
            .start(&spec, Slot::new(4).unwrap(), None, &root.path().join("vms/a"))
            .unwrap();
        assert_eq!(wait(&running), Ended::Code(5));
        let config: vmm::Config = serde_json::from_slice(&fs::read(root.path().join("config")).unwrap()).unwrap();
        let open: std::collections::BTreeSet<i32> = fs::read_to_string(root.path().join("open"))
            .unwrap()
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        let mut named = vec![
            config.kernel_fd,
            config.initrd_fd.unwrap(),
            config.kvm_fd,
            config.control_fd,
            config.serial.fd,
        ];
        named.extend(config.disks.iter().map(|disk| disk.fd));
        named.push(config.vsock.unwrap().listener_fd);
        assert!(named.iter().all(|fd| open.contains(fd)), "{named:?} of {open:?}");
        // Beside them: the configuration, the script that the shell reads, and the directory that `ls` reads.
        let unnamed = open
            .iter()
            .filter(|fd| **fd > 2 && !named.contains(fd) && !inherited().contains(fd));
        assert!(unnamed.count() <= 3, "{named:?} of {open:?}");
        let serials: Vec<_> = config.disks.iter().map(|disk| disk.serial.as_str()).collect();
        assert_eq!(serials, ["zos-root", "zos-config", "data"]);
        assert_eq!(config.jail.unwrap().uid, FIRST_UID_OF_SLOT_4);
        assert_eq!(config.networks, []);
    }

    const FIRST_UID_OF_SLOT_4: u32 = 1_000_004;

    /// Descriptors that the test itself was started with and passes on; the agent has none.
    fn inherited() -> Vec<i32> {
        let flags = |fd: &i32| fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let kept = |fd: &i32| {
            let text = flags(fd);
            let octal = text.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
            octal
                .and_then(|octal| i32::from_str_radix(octal, 8).ok())
                .is_some_and(|flags| flags & libc::O_CLOEXEC == 0)
        };
        (3..1024).filter(kept).collect()
    }

    #[test]
    fn volume_of_a_running_monitor_is_not_given_to_a_second_one() {
        let root = tempfile::tempdir().unwrap();
        let launcher = launcher(root.path(), "exec sleep 60");
        let spec = VmSpec {
            root: root.path().join("file"),
            ..spec("a")
        };
        let directory = root.path().join("vms/a");
        let first = launcher.start(&spec, Slot::new(0).unwrap(), None, &directory).unwrap();
        let second = launcher.start(&spec, Slot::new(1).unwrap(), None, &directory);
        assert!(matches!(second, Err(StartError::VolumeInUse(name)) if name == "data"));
        first.process.kill().unwrap();
        assert_eq!(wait(&first), Ended::Signal(9));
        let third = launcher.start(&spec, Slot::new(1).unwrap(), None, &directory).unwrap();
        let found = registry::find(&launcher.run).unwrap();
        assert_eq!(found.running[&spec.id].digest, spec.digest());
        third.process.kill().unwrap();
        wait(&third);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = tempfile::tempdir().unwrap();
        let launcher = launcher(root.path(), "exit 0");
        let error = launcher
            .start(&spec("a"), Slot::new(0).unwrap(), None, &root.path().join("vms/a"))
            .unwrap_err();
        assert_eq!(error.to_string(), "open /data/images/x");
        let gone = Launcher {
            vmm: "/nonexistent".into(),
            ..launcher
        };
        let spec = VmSpec {
            root: root.path().join("file"),
            ..spec("a")
        };
        let error = gone
            .start(&spec, Slot::new(0).unwrap(), None, &root.path().join("vms/a"))
            .unwrap_err();
        assert_eq!(error.to_string(), "execute /nonexistent");
    }
}
