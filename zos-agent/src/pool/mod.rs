//! The data disks: formatted, found again, mounted.
//!
//! The first is mounted on `/data`, every other on `/data/N`. Devices, set-user-id bits and programs on them mean nothing:
//! they hold volumes, images and keys.

mod format;
mod owner;

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use node_api::init::PROGRAMS_VERIFIED;
use rustix::mount::{MountFlags, UnmountFlags};

pub use format::{FormatError, format};
pub use owner::{Owner, stranger};

use crate::{
    disks::{DiskFacts, Medium},
    layout::{DataPartition, DiskId},
};

/// Where the first data disk is mounted.
pub const DATA: &str = "/data";
/// Where the kernel lists what is mounted.
const MOUNTS: &str = "/proc/self/mounts";
/// How long the kernel may take to show a partition after its table was written.
const NODE_WAIT: Duration = Duration::from_secs(5);

/// Where the kernel shows disks, and where they are mounted; other places in tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// `/sys/block`.
    pub sys_block: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// [`DATA`].
    pub data: PathBuf,
    /// Program that makes the file system.
    pub mkfs: PathBuf,
    /// [`PROGRAMS_VERIFIED`]: until this is there the program is not started.
    pub verified: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            sys_block: "/sys/block".into(),
            dev: "/dev".into(),
            data: DATA.into(),
            mkfs: "/sbin/mkfs.xfs".into(),
            verified: PROGRAMS_VERIFIED.into(),
        }
    }
}

/// A mounted data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDisk {
    /// Kernel name of the disk.
    pub name: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Whether it has moving parts.
    pub medium: Medium,
    /// The partition in use.
    pub partition: DataPartition,
    /// Where it is mounted.
    pub directory: PathBuf,
}

impl DataDisk {
    /// Tells it from every other.
    #[must_use]
    pub const fn id(&self) -> DiskId {
        self.partition.id()
    }
}

/// The mounted data disks, in the order in which they were mounted.
#[derive(Debug, Default)]
pub struct Pool {
    disks: Vec<DataDisk>,
}

/// Why a data disk could not be mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel does not show the partition.
    #[error("{disk}: the kernel shows no partition at byte {first_byte}")]
    NoPartition {
        /// Kernel name of the disk.
        disk: String,
        /// Where the partition should begin.
        first_byte: u64,
    },
    /// The directory could not be made or the mount failed.
    #[error("mount the data partition of {disk} on {}", directory.display())]
    Mount {
        /// Kernel name of the disk.
        disk: String,
        /// Where it should be mounted.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The disk could not be unmounted.
    #[error("unmount {disk} from {}", directory.display())]
    Unmount {
        /// Kernel name of the disk.
        disk: String,
        /// Where it is mounted.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another mounted disk has the same partition: one is a copy of the other.
    #[error("{disk} is a copy of {other}, which is in use; not mounted")]
    Copy {
        /// Kernel name of the disk.
        disk: String,
        /// Kernel name of the one in use.
        other: String,
    },
}

impl Pool {
    /// The mounted disks.
    #[must_use]
    pub fn disks(&self) -> &[DataDisk] {
        &self.disks
    }

    /// The index for the next disk that is formatted: one more than the highest in use.
    #[must_use]
    pub fn next_index(&self) -> u8 {
        self.disks
            .iter()
            .map(|disk| disk.partition.index)
            .max()
            .map_or(0, |highest| highest.saturating_add(1))
    }

    /// A mounted disk.
    #[must_use]
    pub fn disk(&self, id: DiskId) -> Option<&DataDisk> {
        self.disks.iter().find(|disk| disk.id() == id)
    }

    /// Where the disks are mounted.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|disk| disk.directory.clone()).collect()
    }

    /// The disks with where they are mounted, the one with the most free bytes first.
    #[must_use]
    pub fn by_room(&self) -> Vec<(DiskId, PathBuf)> {
        let mut disks: Vec<_> = self.disks.iter().collect();
        disks.sort_by_cached_key(|disk| std::cmp::Reverse(free_bytes(&disk.directory)));
        disks
            .into_iter()
            .map(|disk| (disk.id(), disk.directory.clone()))
            .collect()
    }

    /// The directory that the next disk gets. What is still mounted of a disk that was pulled out keeps its directory.
    fn next_directory(&self, data: &Path, mounts: &str) -> PathBuf {
        let taken = |directory: &Path| {
            self.disks.iter().any(|disk| disk.directory == directory)
                || entries(mounts).any(|(_, target)| Path::new(target) == directory)
        };
        if !taken(data) {
            return data.to_owned();
        }
        (1_u32..)
            .map(|n| data.join(n.to_string()))
            .find(|directory| !taken(directory))
            .expect("a number is free")
    }

    /// Mounts a whole data disk. Mounting it twice is no error.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn adopt(
        &mut self,
        places: &Places,
        facts: &DiskFacts,
        partition: DataPartition,
    ) -> Result<&DataDisk, MountError> {
        if let Some(at) = self.disks.iter().position(|disk| disk.partition.guid == partition.guid) {
            if self.disks[at].name == facts.name {
                return Ok(&self.disks[at]);
            }
            return Err(MountError::Copy {
                disk: facts.name.clone(),
                other: self.disks[at].name.clone(),
            });
        }
        let node =
            partition_node(places, &facts.name, partition.first_byte).ok_or_else(|| MountError::NoPartition {
                disk: facts.name.clone(),
                first_byte: partition.first_byte,
            })?;
        let failed = |directory: &Path| {
            let (disk, directory) = (facts.name.clone(), directory.to_owned());
            move |source| MountError::Mount {
                disk,
                directory,
                source,
            }
        };
        let mounts = fs::read_to_string(MOUNTS).map_err(failed(&places.data))?;
        // One that is mounted already, by the agent before this one, is left where it is.
        let directory = match mounted_at(&mounts, &node, &places.data) {
            Some(directory) => directory,
            None => {
                let directory = self.next_directory(&places.data, &mounts);
                mount(&node, &directory).map_err(failed(&directory))?;
                directory
            }
        };
        self.disks.push(DataDisk {
            name: facts.name.clone(),
            serial: facts.serial.clone(),
            medium: facts.medium,
            partition,
            directory,
        });
        Ok(self.disks.last().expect("just pushed"))
    }

    /// Unmounts a disk and forgets it. It is forgotten even if it cannot be unmounted.
    ///
    /// # Errors
    /// [`MountError::Unmount`].
    pub fn release(&mut self, name: &str) -> Result<Option<DataDisk>, MountError> {
        let Some(disk) = self.forget(name) else {
            return Ok(None);
        };
        match rustix::mount::unmount(&disk.directory, UnmountFlags::empty()) {
            Ok(()) => Ok(Some(disk)),
            Err(error) => Err(MountError::Unmount {
                disk: disk.name,
                directory: disk.directory,
                source: error.into(),
            }),
        }
    }

    /// Forgets a disk that is gone. Its mount stays until the kernel lets go of it; new data goes elsewhere.
    pub fn forget(&mut self, name: &str) -> Option<DataDisk> {
        let at = self.disks.iter().position(|disk| disk.name == name)?;
        Some(self.disks.remove(at))
    }
}

/// Mounts an XFS partition.
fn mount(node: &Path, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let kind = CString::new("xfs")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    rustix::mount::mount(node, directory, &kind, flags, None).map_err(io::Error::from)
}

/// Sources and targets in the format of [`MOUNTS`].
fn entries(mounts: &str) -> impl Iterator<Item = (&str, &str)> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.next()?, fields.next()?))
    })
}

/// Where below `data` a device is mounted.
fn mounted_at(mounts: &str, node: &Path, data: &Path) -> Option<PathBuf> {
    entries(mounts)
        .find(|(source, target)| Path::new(source) == node && Path::new(target).starts_with(data))
        .map(|(_, target)| PathBuf::from(target))
}

/// The device of the partition that begins at `first_byte`; waits a little for the kernel to show it.
fn partition_node(places: &Places, disk: &str, first_byte: u64) -> Option<PathBuf> {
    let deadline = Instant::now() + NODE_WAIT;
    loop {
        let node = find_partition(&places.sys_block.join(disk), disk, first_byte).map(|name| places.dev.join(name));
        if let Some(node) = node.filter(|node| node.exists()) {
            return Some(node);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// In `/sys/block`, starts count in units of 512 bytes whatever the disk's block size.
fn find_partition(sys: &Path, disk: &str, first_byte: u64) -> Option<String> {
    fs::read_dir(sys)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|name| {
            let start = fs::read_to_string(sys.join(name).join("start"))
                .ok()
                .and_then(|text| text.trim().parse().ok());
            name.starts_with(disk) && start == Some(first_byte / 512)
        })
}

/// Free bytes of the file system that holds `directory`; 0 where it cannot be asked.
#[must_use]
pub fn free_bytes(directory: &Path) -> u64 {
    rustix::fs::statvfs(directory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_is_found_by_where_it_begins() {
        let sys = tempfile::tempdir().unwrap();
        for (name, start) in [("vda1", "34\n"), ("vda2", "2048\n"), ("queue", "2048\n")] {
            fs::create_dir(sys.path().join(name)).unwrap();
            fs::write(sys.path().join(name).join("start"), start).unwrap();
        }
        assert_eq!(find_partition(sys.path(), "vda", 1 << 20), Some("vda2".to_owned()));
        assert_eq!(find_partition(sys.path(), "vda", 2 << 20), None);
    }

    #[test]
    fn mount_of_an_earlier_agent_is_found_wherever_it_is() {
        let mounts = "none /data tmpfs rw 0 0\n/dev/vdb1 /data xfs rw 0 0\n/dev/vda1 /data/1 xfs rw 0 0\n/dev/vdc1 /x xfs rw 0 0\n";
        let data = Path::new("/data");
        assert_eq!(mounted_at(mounts, Path::new("/dev/vda1"), data), Some("/data/1".into()));
        assert_eq!(mounted_at(mounts, Path::new("/dev/vdc1"), data), None);
        assert_eq!(Pool::default().next_directory(data, mounts), data.join("2"));
    }

    #[test]
    fn first_disk_is_data_and_others_are_numbered() {
        let disk = |index, directory: &str| DataDisk {
            name: format!("vd{index}"),
            serial: None,
            medium: Medium::Flash,
            partition: DataPartition {
                first_byte: 1 << 20,
                bytes: 1,
                guid: [index; 16],
                index,
            },
            directory: directory.into(),
        };
        let data = Path::new("/data");
        let mut pool = Pool::default();
        assert_eq!((pool.next_directory(data, ""), pool.next_index()), (data.to_owned(), 0));
        pool.disks = vec![disk(0, "/data"), disk(4, "/data/1")];
        assert_eq!((pool.next_directory(data, ""), pool.next_index()), (data.join("2"), 5));
        pool.forget("vd0").unwrap();
        assert_eq!(pool.next_directory(data, ""), data);
    }
}
