//! What the node offers: hardware, and the resource units made of it.
//!
//! | unit | meaning |
//! |---|---|
//! | CRU | processor threads |
//! | MRU | bytes of memory, less a reserve for the node itself |
//! | SRU | bytes on data disks without moving parts, less what the file system takes and a reserve for images |
//! | HRU | bytes on data disks with moving parts, less the same |
//!
//! The reserve is a tenth of the memory, at least 2 GB; on machines with less than 8 GiB at least 512 MiB, for else nothing of
//! a small machine would be left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{disks::Medium, layout::DiskId, pool::DataDisk};

/// Machines with less memory than this, in bytes, keep the smaller reserve.
pub const SMALL_MACHINE: u64 = 8 << 30;
/// Least reserve of a small machine in bytes.
pub const SMALL_RESERVE: u64 = 512 << 20;
/// Least reserve of any other machine in bytes.
pub const RESERVE: u64 = 2_000_000_000;

/// Resource units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Processor threads.
    pub cru: u64,
    /// Bytes of memory for workloads.
    pub mru: u64,
    /// Bytes of solid-state storage.
    pub sru: u64,
    /// Bytes of rotating storage.
    pub hru: u64,
}

/// The machine as found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Processor threads.
    pub threads: u64,
    /// Name of the processor.
    pub processor: Option<String>,
    /// Bytes of memory that the kernel manages.
    pub memory: u64,
    /// Maker of the machine.
    pub vendor: Option<String>,
    /// Product name of the machine.
    pub product: Option<String>,
    /// Physical network interfaces and their addresses, by name.
    pub interfaces: Vec<(String, String)>,
    /// Whether there is a TPM.
    pub tpm: bool,
    /// Whether micro-VMs can run.
    pub kvm: bool,
}

/// Bytes of memory that stay with the node.
#[must_use]
pub fn reserve(memory: u64) -> u64 {
    let least = if memory < SMALL_MACHINE { SMALL_RESERVE } else { RESERVE };
    (memory / 10).max(least)
}

/// Resource units of a machine with these data disks.
#[must_use]
pub fn capacity(hardware: &Hardware, disks: &[(Medium, u64)]) -> Capacity {
    let bytes = |medium| {
        disks
            .iter()
            .filter(|(of, _)| *of == medium)
            .map(|(_, bytes)| bytes)
            .sum()
    };
    Capacity {
        cru: hardware.threads,
        mru: hardware.memory.saturating_sub(reserve(hardware.memory)),
        sru: bytes(Medium::Flash),
        hru: bytes(Medium::Rotating),
    }
}

/// What data disks contribute. Volumes are reserved in full, so what is offered must be there.
#[must_use]
pub fn media(disks: &[DataDisk], home: DiskId) -> Vec<(Medium, u64)> {
    let of = |disk: &DataDisk| {
        let bytes = room(disk.partition.bytes);
        // An image is there twice for a moment when it has been fetched, and for a day after its last contract.
        let images = if disk.id() == home { bytes / 20 } else { 0 };
        (disk.medium, bytes - images)
    };
    disks.iter().map(of).collect()
}

/// Bytes for files in a partition. XFS takes 64 MiB for its log on disks up to 128 GiB and less than a 1,900th on larger ones
/// (mkfs.xfs 6.1); the trees that it reserves for references and inodes are below half of a hundredth.
fn room(partition: u64) -> u64 {
    partition.saturating_sub(partition / 100).saturating_sub(64 << 20)
}

/// Observes the machine under `root`, which is `/` but in tests. What cannot be read is left out.
#[must_use]
pub fn observe(root: &Path) -> Hardware {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let line = |path: &str| read(path).and_then(|text| tidy(&text));
    let processors = read("proc/cpuinfo").unwrap_or_default();
    Hardware {
        threads: threads(&processors),
        processor: field(&processors, "model name").and_then(tidy),
        memory: read("proc/meminfo").as_deref().and_then(memory).unwrap_or(0),
        vendor: line("sys/class/dmi/id/sys_vendor"),
        product: line("sys/class/dmi/id/product_name"),
        interfaces: interfaces(&root.join("sys/class/net")),
        tpm: root.join("sys/class/tpm/tpm0").exists(),
        kvm: root.join("dev/kvm").exists(),
    }
}

fn threads(processors: &str) -> u64 {
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
}

fn memory(text: &str) -> Option<u64> {
    field(text, "MemTotal")?
        .trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Physical interfaces are those that a device stands behind.
fn interfaces(class: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| class.join(name).join("device").exists())
        .map(|name| {
            let address: PathBuf = class.join(&name).join("address");
            (name, fs::read_to_string(address).unwrap_or_default().trim().to_owned())
        })
        .collect();
    found.sort();
    found
}

/// Firmware text goes to the chain and the console: printable, one line, bounded.
fn tidy(text: &str) -> Option<String> {
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::DataPartition;

    #[test]
    fn reserve_is_a_tenth_with_a_floor_that_depends_on_the_machine() {
        assert_eq!(reserve(1 << 30), 512 << 20);
        assert_eq!(reserve((8 << 30) - 1), ((8 << 30) - 1) / 10);
        assert_eq!(reserve(8 << 30), 2_000_000_000);
        assert_eq!(reserve(64 << 30), (64 << 30) / 10);
    }

    #[test]
    fn storage_is_counted_by_medium() {
        let hardware = Hardware {
            threads: 8,
            memory: 16 << 30,
            ..Hardware::default()
        };
        let disks = [(Medium::Flash, 10), (Medium::Rotating, 100), (Medium::Flash, 5)];
        let expected = Capacity {
            cru: 8,
            mru: (16 << 30) - 2_000_000_000,
            sru: 15,
            hru: 100,
        };
        assert_eq!(capacity(&hardware, &disks), expected);
        assert_eq!(
            capacity(
                &Hardware {
                    memory: 1 << 28,
                    ..hardware
                },
                &[]
            )
            .mru,
            0
        );
    }

    #[test]
    fn storage_that_the_file_system_and_images_take_is_not_offered() {
        let disk = |n: u8, bytes| DataDisk {
            name: format!("vd{n}"),
            serial: None,
            medium: Medium::Flash,
            partition: DataPartition {
                first_byte: 1 << 20,
                bytes,
                guid: [n; 16],
                index: n,
            },
            directory: PathBuf::new(),
        };
        let disks = [disk(0, 100 << 30), disk(1, 100 << 30), disk(2, 1 << 20)];
        let offered: Vec<u64> = media(&disks, DiskId::new([0; 16]))
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        let room = (99 << 30) - (64 << 20);
        assert_eq!(offered, [room - room / 20, room, 0]);
    }

    #[test]
    fn machine_is_read_from_proc_and_sys() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\nmodel name\t: Some CPU\n",
            ),
            ("proc/meminfo", "MemTotal:        2048000 kB\nMemFree: 1 kB\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\u{7}\n"),
            ("sys/class/net/eth0/device/vendor", ""),
            ("sys/class/net/eth0/address", "52:54:00:00:00:01\n"),
            ("sys/class/net/lo/address", "00:00:00:00:00:00\n"),
            ("dev/kvm", ""),
        ];
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let expected = Hardware {
            threads: 2,
            processor: Some("Some CPU".to_owned()),
            memory: 2_048_000 * 1024,
            vendor: Some("QEMU".to_owned()),
            product: None,
            interfaces: vec![("eth0".to_owned(), "52:54:00:00:00:01".to_owned())],
            tpm: false,
            kvm: true,
        };
        assert_eq!(observe(root.path()), expected);
    }
}
