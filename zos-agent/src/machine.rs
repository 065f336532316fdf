//! The micro-VMs of this node: what runs, and how a plan is carried out on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ledger::Id;
use node_api::{image::GUEST_KERNEL, vmm::ControlRequest};
use tracing::{info, warn};

use crate::{
    grid::{
        docket::{Entry, vm_id},
        images::Images,
        member::Shared,
    },
    guest_net::{NetError, Slot, open_tap},
    layout::DiskId,
    net::links::Links,
    place::{Known, Place, place},
    pool::Pool,
    reconcile::{Failure, ImageHash, Machine, Observed, Workload},
    text::chain,
    vm::{
        CGROUPS, ON_POOL, RUN, VmId, control,
        guest::Guest,
        kernel, registry,
        registry::Running,
        spawn::{self, Launcher, StartError},
    },
};

/// How long a guest may take to shut down before its plug is pulled.
const SHUTDOWN: Duration = Duration::from_secs(20);
/// A VM that ran for this long and ended has failed for the first time again.
const HEALTHY: Duration = Duration::from_secs(60);

/// Most characters of a monitor's last line that are repeated.
const MAX_WORDS: usize = 300;

/// Why a step on the machine failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No guest kernel.
    #[error("guest kernel")]
    Kernel(#[from] kernel::KernelError),
    /// The monitor was not started.
    #[error("start")]
    Start(#[from] StartError),
    /// The guest's interface.
    #[error("guest network")]
    Network(#[from] NetError),
    /// All places among the guests are taken.
    #[error("all places for guests are taken")]
    NoSlot,
    /// No data disk.
    #[error("no data disk is mounted")]
    NoDisk,
    /// The disk with the data of the workload is missing.
    #[error("the disk that holds its data is missing")]
    DiskMissing,
    /// No contract of the docket has this name.
    #[error("no contract is known for it")]
    Unknown,
    /// A file or process.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

/// The micro-VMs of this node.
#[derive(Debug)]
pub struct Vms {
    shared: Arc<Shared>,
    images: Images,
    links: Links,
    launcher: Option<Launcher>,
    /// Mounted data disks, the one with the most room first.
    disks: Vec<(DiskId, PathBuf)>,
    running: BTreeMap<VmId, (Running, Instant)>,
    stopping: BTreeMap<VmId, Instant>,
    failures: BTreeMap<VmId, Failure>,
}

impl Vms {
    /// Finds the monitors that an earlier agent started and goes on with them.
    ///
    /// # Errors
    /// The error of reading the run directory.
    pub fn adopt(shared: Arc<Shared>, images: Images, links: Links) -> io::Result<Self> {
        let found = registry::find(Path::new(RUN))?;
        let since = Instant::now();
        let running: BTreeMap<_, _> = found.running.into_iter().map(|(id, vm)| (id, (vm, since))).collect();
        Ok(Self {
            shared,
            images,
            links,
            launcher: None,
            disks: Vec::new(),
            running,
            stopping: BTreeMap::new(),
            failures: BTreeMap::new(),
        })
    }

    /// Names of the VMs that run, with their places.
    #[must_use]
    pub fn slots(&self) -> BTreeMap<VmId, Slot> {
        self.running.iter().map(|(id, (vm, _))| (id.clone(), vm.slot)).collect()
    }

    /// Looks at what there is. `mru` is the memory for workloads, `uptime` the time since the machine's start.
    ///
    /// # Errors
    /// The error of reading a directory or asking the kernel for a process.
    pub fn observe(&mut self, pool: &Pool, mru: u64, uptime: Duration) -> io::Result<Observed> {
        self.disks = pool.by_room();
        self.collect(uptime)?;
        let found = registry::find(Path::new(RUN))?;
        let used: u64 = {
            let docket = self.shared.docket();
            let memory = |id: &VmId| {
                let entry = docket
                    .entries()
                    .values()
                    .find(|entry| vm_id(entry.record.id).as_ref() == Some(id));
                entry.map_or(0, |entry| entry.contract.signed.agreement.resources.mru)
            };
            self.running.keys().map(memory).sum()
        };
        Ok(Observed {
            running: self
                .running
                .iter()
                .map(|(id, (vm, _))| (id.clone(), vm.digest.clone()))
                .collect(),
            ended: found.ended,
            data: self.data(),
            missing: self.missing(),
            images: self.images.present(),
            fetching: self.images.fetching(),
            free_memory: mru.saturating_sub(used),
            failures: self.failures.clone(),
        })
    }

    /// Takes note of monitors that have ended.
    fn collect(&mut self, uptime: Duration) -> io::Result<()> {
        let mut ended = Vec::new();
        for (id, (vm, since)) in &self.running {
            if let Some(how) = vm.process.ended()? {
                ended.push((id.clone(), how, since.elapsed(), last_words(&vm.directory)));
            }
        }
        for (id, how, ran, words) in ended {
            self.running.remove(&id);
            let asked = self.stopping.remove(&id).is_some();
            info!(vm = %id, ?how, "monitor ended{words}");
            if !asked {
                let before = if ran >= HEALTHY {
                    0
                } else {
                    self.failures.get(&id).map_or(0, |failure| failure.count)
                };
                self.failures.insert(
                    id,
                    Failure {
                        count: before.saturating_add(1),
                        last: uptime,
                    },
                );
            }
        }
        Ok(())
    }

    fn data(&self) -> BTreeSet<VmId> {
        let mut data = BTreeSet::new();
        for (_, disk) in &self.disks {
            let entries = match fs::read_dir(disk.join(ON_POOL)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // One broken disk costs what is on it and not the node.
                Err(error) => {
                    warn!(disk = %disk.display(), "volumes not listed: {error}");
                    continue;
                }
            };
            data.extend(
                entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().to_str().and_then(VmId::new)),
            );
        }
        data
    }

    /// Where a workload's data is, or is to be.
    fn place(&self, entry: &Entry, id: &VmId) -> Place {
        let on = |(_, disk): &&(DiskId, PathBuf)| disk.join(ON_POOL).join(id.as_str()).exists();
        let known = Known {
            recorded: entry.place,
            found: self.disks.iter().find(on).map(|(disk, _)| *disk),
            history: entry.history(),
        };
        let mounted: Vec<DiskId> = self.disks.iter().map(|(disk, _)| *disk).collect();
        place(known, &mounted)
    }

    /// Workloads whose data is on a disk that is not mounted.
    fn missing(&self) -> BTreeMap<VmId, Option<DiskId>> {
        let docket = self.shared.docket();
        let missing = |(id, entry): (&Id, &Entry)| {
            let vm = vm_id(*id)?;
            match self.place(entry, &vm) {
                Place::Missing(disk) => Some((vm, disk)),
                Place::On(_) | Place::New(_) | Place::NoDisk => None,
            }
        };
        docket.entries().iter().filter_map(missing).collect()
    }

    /// The directory of a VM on the disk that holds its data; which disk that is stands in the docket before anything is on it.
    fn directory(&self, id: &VmId) -> Result<PathBuf, MachineError> {
        let contract = id.as_str().parse().map_err(|_| MachineError::Unknown)?;
        let mut docket = self.shared.docket();
        let entry = docket.entries().get(&contract).ok_or(MachineError::Unknown)?;
        let disk = match self.place(entry, id) {
            Place::On(disk) | Place::New(disk) => disk,
            Place::Missing(_) => return Err(MachineError::DiskMissing),
            Place::NoDisk => return Err(MachineError::NoDisk),
        };
        docket
            .place(contract, disk)
            .map_err(|error| MachineError::Io("record where its data is", error))?;
        let mounted = self.disks.iter().find(|(id, _)| *id == disk);
        mounted
            .map(|(_, directory)| directory.join(ON_POOL).join(id.as_str()))
            .ok_or(MachineError::DiskMissing)
    }

    fn launcher(&mut self) -> Result<&Launcher, MachineError> {
        if self.launcher.is_none() {
            let kernel = tokio::task::block_in_place(|| kernel::unpack(Path::new(GUEST_KERNEL)))?;
            self.launcher = Some(Launcher::new(kernel));
        }
        Ok(self.launcher.as_ref().expect("it was just made"))
    }

    async fn try_start(&mut self, workload: &Workload) -> Result<Running, MachineError> {
        let id = &workload.spec.id;
        let used: BTreeSet<Slot> = self.running.values().map(|(vm, _)| vm.slot).collect();
        let slot = registry::free_slot(&used).ok_or(MachineError::NoSlot)?;
        let directory = tokio::task::block_in_place(|| self.directory(id))?;
        let tap = open_tap(&self.links, slot).await?;
        let launcher = self.launcher()?;
        Ok(tokio::task::block_in_place(|| {
            launcher.start(&workload.spec, slot, Some(tap), &directory)
        })?)
    }
}

impl Machine for Vms {
    type Error = MachineError;

    async fn stop_vm(&mut self, id: &VmId) -> Result<(), MachineError> {
        let Some((vm, _)) = self.running.get(id) else {
            return Ok(());
        };
        let asked = *self.stopping.entry(id.clone()).or_insert_with(|| {
            // A hostile guest may take its time to answer; the loop does not wait for it, and `SHUTDOWN` bounds it.
            let id = id.clone();
            tokio::task::spawn_blocking(move || ask_to_stop(&id));
            Instant::now()
        });
        if asked.elapsed() >= SHUTDOWN {
            warn!(vm = %id, "guest did not shut down in time; its plug is pulled");
            vm.process
                .kill()
                .map_err(|error| MachineError::Io("kill the monitor", error))?;
        }
        Ok(())
    }

    async fn clear_vm(&mut self, id: &VmId) -> Result<(), MachineError> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match spawn::remove_cgroup(Path::new(CGROUPS), id) {
            Err(error) if !gone(&error) => return Err(MachineError::Io("remove the monitor's cgroup", error)),
            _ => {}
        }
        registry::forget(Path::new(RUN), id).map_err(|error| MachineError::Io("forget the monitor", error))
    }

    async fn delete_data(&mut self, id: &VmId) -> Result<(), MachineError> {
        for (_, disk) in &self.disks {
            match fs::remove_dir_all(disk.join(ON_POOL).join(id.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(MachineError::Io("delete the workload's data", error));
                }
                _ => {}
            }
        }
        let contract = id.as_str().parse().ok();
        if let Some(contract) = contract {
            let forgotten = self.shared.docket().forget(contract);
            forgotten.map_err(|error| MachineError::Io("forget the contract", error))?;
        }
        self.failures.remove(id);
        Ok(())
    }

    async fn fetch_image(&mut self, image: &ImageHash) -> Result<(), MachineError> {
        // Before the chain has said who has it there is nobody to ask; the next cycle tries again.
        if let Some((blob, providers)) = self.shared.source(image) {
            self.images.begin(blob, providers);
        }
        Ok(())
    }

    async fn start_vm(&mut self, workload: &Workload) -> Result<(), MachineError> {
        let id = &workload.spec.id;
        match self.try_start(workload).await {
            Ok(running) => {
                self.running.insert(id.clone(), (running, Instant::now()));
                Ok(())
            }
            Err(error) => {
                let last = uptime();
                let count = self
                    .failures
                    .get(id)
                    .map_or(0, |failure| failure.count)
                    .saturating_add(1);
                self.failures.insert(id.clone(), Failure { count, last });
                Err(error)
            }
        }
    }
}

/// The last line that a monitor wrote to its standard error, with a separator before it; nothing if it wrote none.
fn last_words(directory: &Path) -> String {
    let text = fs::read(directory.join(spawn::MONITOR_LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(String::new, |line| {
        format!(": {}", line.chars().take(MAX_WORDS).collect::<String>())
    })
}

/// Asks the guest's init, or else presses the power button.
fn ask_to_stop(id: &VmId) {
    let directory = registry::directory(Path::new(RUN), id);
    let asked = Guest::connect(&directory.join("vsock")).and_then(|mut guest| guest.shutdown());
    if let Err(error) = asked {
        info!(vm = %id, "guest not asked to shut down: {}; pressing its power button", chain(&error));
        if let Err(error) = control::command(&directory.join("control"), ControlRequest::PowerButton) {
            warn!(vm = %id, "power button: {}", chain(&error));
        }
    }
}

/// Time since the machine's start.
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}
