//! Observes the disks in `/sys/block` and what is on them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::Path,
};

use super::{Content, DiskFacts, Medium, signature};

/// Most disks that are looked at.
pub const MAX_DISKS: usize = 256;
/// Kernel names of block devices that are no disks of the machine: virtual ones, optical drives, floppies, boot areas.
const NOT_DISKS: [&str; 11] = [
    "loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock", "drbd", "rbd",
];

/// Names of the disks in `sys_block` with the kernel's sequence number of each, which changes when a disk is replaced by
/// another under the same name. Cheap enough to be asked every second.
///
/// # Errors
/// The error of reading `sys_block` itself.
pub fn present(sys_block: &Path) -> io::Result<BTreeMap<String, u64>> {
    Ok(names(sys_block)?
        .into_iter()
        .map(|name| {
            let sequence = number(&sys_block.join(&name).join("diskseq")).unwrap_or(0);
            (name, sequence)
        })
        .collect())
}

/// Observes one disk. `None` for an empty drive or one that is gone.
#[must_use]
pub fn observe(sys_block: &Path, dev: &Path, name: &str) -> Option<DiskFacts> {
    let facts = facts(&sys_block.join(name), &dev.join(name), name.to_owned())?;
    Some(DiskFacts {
        serial_shared: facts
            .serial
            .as_ref()
            .is_some_and(|serial| is_shared(sys_block, name, serial)),
        ..facts
    })
}

/// Whether another disk states this serial number. Enclosures and hypervisors give one to several.
fn is_shared(sys_block: &Path, name: &str, serial: &str) -> bool {
    let others = names(sys_block).unwrap_or_default();
    let states = |other: &String| other != name && self::serial(&sys_block.join(other)).as_deref() == Some(serial);
    others.iter().any(states)
}

/// Lists the machine's disks by name, each with what is on it. A disk that cannot be read is listed as such.
///
/// # Errors
/// The error of reading `sys_block` itself.
pub fn scan(sys_block: &Path, dev: &Path) -> io::Result<Vec<DiskFacts>> {
    Ok(names(sys_block)?
        .iter()
        .filter_map(|name| observe(sys_block, dev, name))
        .collect())
}

fn names(sys_block: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(sys_block)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_disk(name) && !is_path(&sys_block.join(name)))
        .collect();
    names.sort();
    names.truncate(MAX_DISKS);
    Ok(names)
}

fn is_disk(name: &str) -> bool {
    let area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !area && !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether it is one of the ways to a disk that the kernel shows as another: an NVMe subsystem may have several
/// controllers. A way has no device file.
fn is_path(sys: &Path) -> bool {
    number(&sys.join("hidden")) == Some(1)
}

/// `None` for an empty drive, whose size is 0.
fn facts(sys: &Path, node: &Path, name: String) -> Option<DiskFacts> {
    let bytes = number(&sys.join("size"))?.checked_mul(512).filter(|bytes| *bytes > 0)?;
    let block = number(&sys.join("queue/logical_block_size"))
        .and_then(|block| u32::try_from(block).ok())
        .unwrap_or(512);
    let content = match File::open(node).and_then(|disk| signature::probe(&disk, bytes, block)) {
        Ok(content) => content,
        Err(error) => Content::Unreadable(error.to_string()),
    };
    Some(DiskFacts {
        serial: serial(sys),
        serial_shared: false,
        model: text(&sys.join("device/model")),
        transport: transport(sys, &name),
        bytes,
        block,
        medium: if number(&sys.join("queue/rotational")) == Some(1) {
            Medium::Rotating
        } else {
            Medium::Flash
        },
        removable: number(&sys.join("removable")) == Some(1),
        read_only: number(&sys.join("ro")) == Some(1),
        held: fs::read_dir(sys.join("holders")).is_ok_and(|mut holders| holders.next().is_some()),
        content,
        name,
    })
}

/// virtio and NVMe state their serial in files of their own; SCSI and ATA in page 0x80 of the vital product data, whose
/// first four bytes are a header (SPC-4, 7.8.10).
fn serial(sys: &Path) -> Option<String> {
    text(&sys.join("serial"))
        .or_else(|| text(&sys.join("device/serial")))
        .or_else(|| {
            clean(&String::from_utf8_lossy(
                fs::read(sys.join("device/vpd_pg80")).ok()?.get(4..)?,
            ))
        })
        .or_else(|| text(&sys.join("device/cid")))
}

fn transport(sys: &Path, name: &str) -> &'static str {
    let place = fs::canonicalize(sys)
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default();
    if name.starts_with("nvme") {
        "nvme"
    } else if name.starts_with("vd") {
        "virtio"
    } else if name.starts_with("mmcblk") {
        "mmc"
    } else if place.contains("/usb") {
        "usb"
    } else if place.contains("/ata") {
        "ata"
    } else if place.contains("/host") {
        "scsi"
    } else {
        "other"
    }
}

fn text(path: &Path) -> Option<String> {
    clean(&fs::read_to_string(path).ok()?)
}

fn clean(text: &str) -> Option<String> {
    let text: String = text
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    (!text.is_empty()).then_some(text)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(root: &Path, name: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = root.join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn facts_are_read_as_the_kernel_states_them() {
        let (sys, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        disk(
            sys.path(),
            "vda",
            &[
                ("size", "8388608\n"),
                ("serial", "DATA-1\n"),
                ("queue/rotational", "1\n"),
                ("ro", "0\n"),
            ],
        );
        disk(
            sys.path(),
            "sda",
            &[
                ("size", "8388608"),
                ("device/vpd_pg80", "\0\u{1}\0\u{8}  WD-42  "),
                ("removable", "1"),
            ],
        );
        disk(sys.path(), "sr0", &[("size", "8388608")]);
        disk(sys.path(), "loop0", &[("size", "8388608")]);
        disk(sys.path(), "sdb", &[("size", "0")]);
        File::create(dev.path().join("vda")).unwrap().set_len(4 << 30).unwrap();
        let disks = scan(sys.path(), dev.path()).unwrap();
        assert_eq!(
            disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(),
            ["sda", "vda"]
        );
        assert_eq!(disks[0].serial.as_deref(), Some("WD-42"));
        assert!(!disks[0].serial_shared);
        assert!(disks[0].removable);
        assert!(matches!(disks[0].content, Content::Unreadable(_)));
        assert_eq!(disks[1].serial.as_deref(), Some("DATA-1"));
        assert_eq!(
            (disks[1].bytes, disks[1].medium, disks[1].transport),
            (4 << 30, Medium::Rotating, "virtio")
        );
        assert_eq!(disks[1].content, Content::BlankEnds);
    }

    #[test]
    fn serial_of_two_disks_is_known_to_be_shared() {
        let (sys, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, serial) in [
            ("vda", "ONE"),
            ("vdb", "TWO"),
            ("vdc", " TWO\n"),
            ("vdd", ""),
            ("vde", ""),
        ] {
            disk(sys.path(), name, &[("size", "8388608"), ("serial", serial)]);
        }
        let shared: Vec<bool> = scan(sys.path(), dev.path())
            .unwrap()
            .iter()
            .map(|disk| disk.serial_shared)
            .collect();
        assert_eq!(shared, [false, true, true, false, false]);
    }

    #[test]
    fn ways_to_a_disk_are_no_disks() {
        let (sys, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, hidden) in [("nvme0n1", "0\n"), ("nvme0c0n1", "1\n"), ("nvme0c1n1", "1\n")] {
            let files = [("size", "8388608"), ("device/serial", "ONE"), ("hidden", hidden)];
            disk(sys.path(), name, &files);
        }
        let disks = scan(sys.path(), dev.path()).unwrap();
        assert_eq!(
            disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(),
            ["nvme0n1"]
        );
        assert!(!disks[0].serial_shared);
        assert!(present(sys.path()).unwrap().keys().eq(["nvme0n1"]));
    }

    #[test]
    fn virtual_devices_and_boot_areas_are_no_disks() {
        for name in ["sda", "vdb", "nvme0n1", "mmcblk0", "xvda", "hda"] {
            assert!(is_disk(name), "{name}");
        }
        for name in ["sr0", "loop3", "dm-0", "md127", "zram0", "fd0", "mmcblk0boot1", "nbd4"] {
            assert!(!is_disk(name), "{name}");
        }
    }
}
