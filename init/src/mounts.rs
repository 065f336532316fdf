//! Mount tables: printable values, and what carries them out.

use std::{ffi::CString, fmt, fs, path::Path};

use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
};

/// What to do when the kernel does not know a file system or the machine does not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The boot cannot go on without it.
    Required,
    /// It is mounted where it exists.
    IfPresent,
}

/// One line of a mount table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// Type of the file system, which is also its source's name.
    pub kind: &'static str,
    /// Where it goes.
    pub target: &'static str,
    /// Flags.
    pub flags: MountFlags,
    /// Options of the file system.
    pub options: &'static str,
    /// Whether it must exist.
    pub need: Need,
}

/// A mount that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("mount {mount}")]
pub struct MountError {
    mount: Mount,
    #[source]
    cause: std::io::Error,
}

const NOTHING_RUNS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
const DEVICES: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);

const fn required(kind: &'static str, target: &'static str, flags: MountFlags, options: &'static str) -> Mount {
    Mount {
        kind,
        target,
        flags,
        options,
        need: Need::Required,
    }
}

const fn if_present(kind: &'static str, target: &'static str) -> Mount {
    Mount {
        kind,
        target,
        flags: NOTHING_RUNS,
        options: "",
        need: Need::IfPresent,
    }
}

/// What a node mounts, in this order. `/run` and `/tmp` are bounded so that a program that fills them cannot take the
/// guests' memory.
pub const NODE: &[Mount] = &[
    required("proc", "/proc", NOTHING_RUNS, ""),
    required("sysfs", "/sys", NOTHING_RUNS, ""),
    required("devtmpfs", "/dev", DEVICES, "mode=0755"),
    required("tmpfs", "/run", NOTHING_RUNS, "mode=0755,size=64m"),
    required("tmpfs", "/tmp", NOTHING_RUNS, "mode=1777,size=64m"),
    required("cgroup2", "/sys/fs/cgroup", NOTHING_RUNS, "nsdelegate"),
    if_present("securityfs", "/sys/kernel/security"),
    if_present("efivarfs", "/sys/firmware/efi/efivars"),
    if_present("bpf", "/sys/fs/bpf"),
    if_present("pstore", "/sys/fs/pstore"),
];

/// What a micro-VM mounts before it looks for its disks.
pub const GUEST_EARLY: &[Mount] = &[
    required("proc", "/proc", NOTHING_RUNS, ""),
    required("sysfs", "/sys", NOTHING_RUNS, ""),
    required("devtmpfs", "/dev", DEVICES, "mode=0755"),
];

/// What a workload finds in its root. Targets are below the new root.
pub const GUEST_ROOT: &[Mount] = &[
    required("proc", "/proc", NOTHING_RUNS, ""),
    required("sysfs", "/sys", NOTHING_RUNS, ""),
    required("devtmpfs", "/dev", DEVICES, "mode=0755"),
    required("devpts", "/dev/pts", DEVICES, "gid=5,mode=0620,ptmxmode=0666"),
    required("tmpfs", "/dev/shm", NOTHING_RUNS, "mode=1777"),
    required(
        "tmpfs",
        "/run",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        "mode=0755",
    ),
    required(
        "tmpfs",
        "/tmp",
        MountFlags::NOSUID.union(MountFlags::NODEV),
        "mode=1777",
    ),
    Mount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: NOTHING_RUNS,
        options: "",
        need: Need::IfPresent,
    },
];

impl fmt::Display for Mount {
    /// `kind on target (flags; options)`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (MountFlags::RDONLY, "ro"),
            (MountFlags::NOSUID, "nosuid"),
            (MountFlags::NODEV, "nodev"),
            (MountFlags::NOEXEC, "noexec"),
        ];
        let flags: Vec<&str> = names
            .iter()
            .filter(|(flag, _)| self.flags.contains(*flag))
            .map(|(_, name)| *name)
            .collect();
        write!(formatter, "{} on {} ({}", self.kind, self.target, flags.join(","))?;
        if !self.options.is_empty() {
            write!(formatter, "; {}", self.options)?;
        }
        formatter.write_str(if self.need == Need::Required {
            ")"
        } else {
            "), if present"
        })
    }
}

/// Carries out `table` below `root`, which is `/` or the place of a root to be.
///
/// # Errors
/// The first required mount that did not succeed. One that is already there is as good.
pub fn apply(table: &[Mount], root: &Path) -> Result<(), MountError> {
    for entry in table {
        let target = root.join(entry.target.trim_start_matches('/'));
        if entry.need == Need::Required {
            // The mount itself reports a target that is missing.
            let _ = fs::create_dir_all(&target);
        }
        let options = CString::new(entry.options).unwrap_or_default();
        match mount(entry.kind, &target, entry.kind, entry.flags, options.as_c_str()) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(_) if entry.need == Need::IfPresent => {}
            Err(cause) => {
                return Err(MountError {
                    mount: *entry,
                    cause: cause.into(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_table_reads_as_expected() {
        let text: Vec<String> = NODE.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "proc on /proc (nosuid,nodev,noexec)",
                "sysfs on /sys (nosuid,nodev,noexec)",
                "devtmpfs on /dev (nosuid,noexec; mode=0755)",
                "tmpfs on /run (nosuid,nodev,noexec; mode=0755,size=64m)",
                "tmpfs on /tmp (nosuid,nodev,noexec; mode=1777,size=64m)",
                "cgroup2 on /sys/fs/cgroup (nosuid,nodev,noexec; nsdelegate)",
                "securityfs on /sys/kernel/security (nosuid,nodev,noexec), if present",
                "efivarfs on /sys/firmware/efi/efivars (nosuid,nodev,noexec), if present",
                "bpf on /sys/fs/bpf (nosuid,nodev,noexec), if present",
                "pstore on /sys/fs/pstore (nosuid,nodev,noexec), if present",
            ]
        );
    }

    #[test]
    fn parents_come_before_children_and_nothing_honours_set_user_id() {
        for table in [NODE, GUEST_EARLY, GUEST_ROOT] {
            for (index, entry) in table.iter().enumerate() {
                assert!(entry.flags.contains(MountFlags::NOSUID), "{entry}");
                let later = table.get(index..).unwrap_or_default();
                let parent = |other: &&Mount| Path::new(entry.target).starts_with(other.target) && *other != entry;
                assert!(
                    !later.iter().any(|other| parent(&other)),
                    "{entry} hides under a later mount"
                );
            }
        }
    }
}
