//! What closes around the monitor before the first guest instruction. [`close`] is the list of its steps, in order;
//! afterwards the process holds its memory, the descriptors of the configuration, and nothing else.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::{
    sched::CloneFlags,
    unistd::{Gid, Uid},
};
use node_api::mountinfo;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, UnmountFlags},
    process::{DumpableBehavior, Resource, Rlimit},
};

use crate::sys;

/// Most descriptors: those of the configuration, events, timers, and the bounded connections.
const MAX_DESCRIPTORS: u64 = 1024;
/// Threads beyond the processors' and the disks': the main one, and those that KVM starts on its own.
const SPARE_THREADS: u64 = 8;
/// An existing directory, hidden by the empty root while that is put in place. KVM's device is below it, so it is there.
const ROOT_PLACE: &str = "/dev";

/// The step of the jail that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct JailError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// What the jail has to know of the machine.
#[derive(Debug)]
pub struct Inmate<'a> {
    /// User and group of this monitor alone.
    pub identity: &'a node_api::vmm::Jail,
    /// `cgroup.procs` of its group.
    pub cgroup: Option<File>,
    /// Descriptors that stay open, besides the standard ones.
    pub descriptors: Vec<i32>,
    /// Threads that will be started.
    pub threads: u64,
    /// Length of the longest file that it writes.
    pub longest_file: u64,
}

/// How far the kernel's Landlock closes the jail. It is the last of several walls, and older kernels have less of it or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landlock {
    /// All that is asked of it.
    Full,
    /// As much as this kernel knows.
    Part,
    /// The kernel has none.
    Absent,
}

impl fmt::Display for Landlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "enforced in full",
            Self::Part => "enforced as far as this kernel knows it",
            Self::Absent => "not enforced: the kernel has none",
        })
    }
}

/// Closes the jail around this process, which has one thread and runs as root.
///
/// # Errors
/// [`JailError`] names the first step that failed; the process must end then.
pub fn close(inmate: Inmate<'_>) -> Result<Landlock, JailError> {
    let Inmate {
        identity,
        cgroup,
        descriptors,
        threads,
        longest_file,
    } = inmate;
    let uid = Uid::from_raw(identity.uid);
    let gid = Gid::from_raw(identity.gid);
    step("move into the cgroup", enter_cgroup(cgroup))?;
    step("close other descriptors", close_others(descriptors))?;
    sys::clear_environment();
    step("limit resources", limit(threads, longest_file))?;
    step(
        "make namespaces",
        nix::sched::unshare(namespaces()).map_err(io::Error::from),
    )?;
    step("make the root empty", empty_root())?;
    step(
        "drop the bounding capabilities",
        caps::clear(None, caps::CapSet::Bounding).map_err(io::Error::other),
    )?;
    step(
        "drop the ambient capabilities",
        caps::clear(None, caps::CapSet::Ambient).map_err(io::Error::other),
    )?;
    step("leave all groups", nix::unistd::setgroups(&[]).map_err(io::Error::from))?;
    step(
        "take on the group",
        nix::unistd::setresgid(gid, gid, gid).map_err(io::Error::from),
    )?;
    step(
        "take on the user",
        nix::unistd::setresuid(uid, uid, uid).map_err(io::Error::from),
    )?;
    step("drop capabilities", drop_capabilities())?;
    step("refuse to be traced", refuse_tracing())?;
    step(
        "refuse new privileges",
        rustix::thread::set_no_new_privs(true).map_err(io::Error::from),
    )?;
    step("check the jail", check(uid, gid))?;
    step("close Landlock", landlock())
}

fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, JailError> {
    result.map_err(|source| JailError { step, source })
}

/// Comes first, so that all memory from here on is counted to the group.
fn enter_cgroup(procs: Option<File>) -> io::Result<()> {
    procs.map_or(Ok(()), |mut procs| procs.write_all(b"0"))
}

fn close_others(mut kept: Vec<i32>) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    sys::copy_to(&null, libc::STDIN_FILENO)?;
    sys::copy_to(&null, libc::STDOUT_FILENO)?;
    drop(null);
    kept.sort_unstable();
    let mut first = libc::STDERR_FILENO + 1;
    for fd in kept {
        if fd > first {
            sys::close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    sys::close_range(first, i32::MAX)
}

fn limit(threads: u64, longest_file: u64) -> io::Result<()> {
    let limits = [
        (Resource::Nofile, MAX_DESCRIPTORS),
        (Resource::Core, 0),
        // A monitor that was taken over fills no disk by making its files longer.
        (Resource::Fsize, longest_file),
        (Resource::Nproc, threads + SPARE_THREADS),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
    ];
    for (resource, most) in limits {
        rustix::process::setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    Ok(())
}

/// All kinds but process ids: a process cannot enter a new one itself, and a second process for each machine would be
/// needed. What it would withhold is withheld otherwise: no call that names a process passes the filters.
fn namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
}

/// Makes an empty, read-only file system the root and lets go of every other.
fn empty_root() -> io::Result<()> {
    use rustix::{mount, process};

    mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    detach_mounts()?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount::mount(
        "none",
        ROOT_PLACE,
        "tmpfs",
        flags,
        Some(c"size=4k,nr_inodes=1,mode=0555"),
    )?;
    process::chdir(ROOT_PLACE)?;
    match process::pivot_root(".", ".") {
        Ok(()) => mount::unmount(".", UnmountFlags::DETACH)?,
        // A node that runs from its initial ram file system cannot let go of it. It is covered instead: with neither a
        // path nor a descriptor that leads below the cover, and no call that opens either, it is as far away.
        Err(rustix::io::Errno::INVAL) => {
            mount::mount_move(".", "/")?;
            process::chroot(".")?;
        }
        Err(error) => return Err(error.into()),
    }
    process::chdir("/")?;
    Ok(())
}

/// Detaches everything mounted below the root, so that no file system stays in use on this process's account.
fn detach_mounts() -> io::Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    for place in mount_points(&table) {
        match rustix::mount::unmount(place, UnmountFlags::DETACH) {
            // What was mounted below another mount has gone with it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The mount points in the kernel's table but the root, outermost first.
fn mount_points(table: &str) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = mountinfo::mount_points(table)
        .filter(|place| place != Path::new("/"))
        .collect();
    places.sort();
    places
}

fn refuse_tracing() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn drop_capabilities() -> io::Result<()> {
    for set in [
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
        caps::CapSet::Inheritable,
    ] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Refuses every file, port and signal beyond the jail, even the empty root, as far as the kernel knows Landlock. What is open stays so.
fn landlock() -> io::Result<Landlock> {
    let all = ABI::V6;
    let closed = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(all))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(all)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(all)))
        .and_then(|ruleset| ruleset.create())
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(io::Error::other)?;
    Ok(match closed.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Full,
        RulesetStatus::PartiallyEnforced => Landlock::Part,
        RulesetStatus::NotEnforced => Landlock::Absent,
    })
}

/// Trusts nothing above: reads back what the kernel holds.
fn check(uid: Uid, gid: Gid) -> io::Result<()> {
    let wrong = |what: &str| Err(io::Error::other(format!("{what} are not what was set")));
    let users = nix::unistd::getresuid()?;
    let groups = nix::unistd::getresgid()?;
    if [users.real, users.effective, users.saved] != [uid; 3]
        || [groups.real, groups.effective, groups.saved] != [gid; 3]
    {
        return wrong("user and group");
    }
    for set in [
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
        caps::CapSet::Inheritable,
        caps::CapSet::Bounding,
        caps::CapSet::Ambient,
    ] {
        if !caps::read(None, set).map_err(io::Error::other)?.is_empty() {
            return wrong("capabilities");
        }
    }
    if !rustix::thread::no_new_privs()? || std::fs::read_dir("/")?.next().is_some() {
        return wrong("privileges and root");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_come_outermost_first_and_without_the_root() {
        let table = "1 1 0:1 / / rw - rootfs rootfs rw\n\
                     3 2 0:3 / /dev/pts rw - devpts devpts rw\n\
                     2 1 0:2 / /dev rw - devtmpfs dev rw\n\
                     4 1 0:4 / /data\\040disk rw - btrfs /dev/vda rw\n";
        assert_eq!(
            mount_points(table),
            ["/data disk", "/dev", "/dev/pts"].map(PathBuf::from)
        );
    }
}
