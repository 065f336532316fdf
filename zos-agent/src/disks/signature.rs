//! What a foreign disk looks like: a table of signatures, most telling first.
//!
//! The rule needs only "ours, zeros, or foreign"; the names are for the person who reads the refusal. What the table does not
//! know but is not zero is foreign all the same.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::Content;
use crate::layout::{self, HEAD_BYTES};

/// Bytes at the end of a disk that are looked at: RAID metadata and backup tables live there.
pub const TAIL_BYTES: usize = 256 << 10;

#[derive(Clone, Copy)]
enum At {
    /// Bytes from the beginning.
    Head(usize),
    /// Bytes before the end.
    Tail(usize),
}

#[derive(Clone, Copy)]
enum Label {
    None,
    /// Zero- or space-terminated text at an offset from the beginning, with a maximal length.
    Text(usize, usize),
    /// The same in UTF-16, little endian.
    Utf16(usize, usize),
}

struct Signature {
    what: &'static str,
    at: At,
    magic: &'static [u8],
    label: Label,
}

const fn head(what: &'static str, at: usize, magic: &'static [u8]) -> Signature {
    Signature {
        what,
        at: At::Head(at),
        magic,
        label: Label::None,
    }
}

const fn labelled(what: &'static str, at: usize, magic: &'static [u8], label: Label) -> Signature {
    Signature {
        what,
        at: At::Head(at),
        magic,
        label,
    }
}

const fn tail(what: &'static str, at: usize, magic: &'static [u8]) -> Signature {
    Signature {
        what,
        at: At::Tail(at),
        magic,
        label: Label::None,
    }
}

/// Sources: the kernel's on-disk headers (fs/*/, drivers/md), the UEFI specification for GPT, ECMA-119 for ISO 9660, the
/// SNIA DDF specification, and the formats' own documents.
const SIGNATURES: &[Signature] = &[
    // Containers of other file systems first, for what is inside may still show.
    head("a LUKS encrypted volume", 0, b"LUKS\xba\xbe"),
    head("a BitLocker volume", 3, b"-FVE-FS-"),
    head("an LVM physical volume", 512, b"LABELONE"),
    head("an LVM physical volume", 0, b"LABELONE"),
    head("an LVM physical volume", 1024, b"LABELONE"),
    head("an LVM physical volume", 1536, b"LABELONE"),
    labelled(
        "a member of a Linux software RAID",
        0,
        b"\xfc\x4e\x2b\xa9",
        Label::Text(32, 32),
    ),
    labelled(
        "a member of a Linux software RAID",
        4096,
        b"\xfc\x4e\x2b\xa9",
        Label::Text(4096 + 32, 32),
    ),
    head(
        "a bcache device",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    head(
        "a bcachefs file system",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
    ),
    head("a Ceph BlueStore device", 0, b"bluestore block device"),
    head("a VDO volume", 0, b"dmvdo001"),
    head("a Stratis pool", 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    head("a device-mapper snapshot store", 0, b"SnAp"),
    head("a dm-verity tree", 0, b"verity\0\0"),
    head("a dm-integrity volume", 0, b"integrt\0"),
    tail("a member of an Intel software RAID", 1024, b"Intel Raid ISM Cfg Sig. "),
    tail("a member of a DDF hardware RAID", 512, b"\xde\x11\xde\x11"),
    tail("a member of a Promise RAID", 0x7e00, b"Promise Technology, Inc."),
    // File systems.
    labelled("an XFS file system", 0, b"XFSB", Label::Text(108, 12)),
    labelled("a btrfs file system", 0x10040, b"_BHRfS_M", Label::Text(0x1012b, 256)),
    labelled("an ISO 9660 image", 0x8001, b"CD001", Label::Text(0x8028, 32)),
    head("a UDF image", 0x8001, b"BEA01"),
    labelled(
        "an F2FS file system",
        1024,
        b"\x10\x20\xf5\xf2",
        Label::Utf16(1024 + 124, 512),
    ),
    labelled("an EROFS image", 1024, b"\xe2\xe1\xf5\xe0", Label::Text(1024 + 64, 16)),
    labelled("a ReiserFS file system", 0x10034, b"ReIsEr", Label::Text(0x10064, 16)),
    labelled("a ReiserFS file system", 0x2034, b"ReIsEr", Label::Text(0x2064, 16)),
    labelled("a JFS file system", 0x8000, b"JFS1", Label::Text(0x8098, 16)),
    labelled("a NILFS2 file system", 1030, b"\x34\x34", Label::Text(1024 + 0x98, 80)),
    labelled("a GFS2 file system", 0x10000, b"\x01\x16\x19\x70", Label::None),
    head("an OCFS2 file system", 2048, b"OCFSV2"),
    head("an OCFS2 file system", 4096, b"OCFSV2"),
    head("an APFS container", 32, b"NXSB"),
    head("an HFS+ file system", 1024, b"H+\0\x04"),
    head("an HFS+ file system", 1024, b"HX\0\x05"),
    head("an HFS file system", 1024, b"BD"),
    head("a VMFS volume", 0x10_0000, b"\x0d\xd0\x01\xc0"),
    head("a UFS file system", 8192 + 1372, b"\x54\x19\x01\x00"),
    head("a UFS2 file system", 65536 + 1372, b"\x19\x01\x54\x19"),
    head("a squashfs image", 0, b"hsqs"),
    head("a cramfs image", 0, b"\x45\x3d\xcd\x28"),
    head("a ReFS file system", 3, b"ReFS\0\0\0\0"),
    head("an NTFS file system", 3, b"NTFS    "),
    head("an exFAT file system", 3, b"EXFAT   "),
    labelled("a FAT file system", 82, b"FAT32   ", Label::Text(71, 11)),
    labelled("a FAT file system", 54, b"FAT16   ", Label::Text(43, 11)),
    labelled("a FAT file system", 54, b"FAT12   ", Label::Text(43, 11)),
    labelled("a Linux swap area", 4086, b"SWAPSPACE2", Label::Text(1052, 16)),
    head("an old Linux swap area", 4086, b"SWAP-SPACE"),
    head("a Linux hibernation image", 4086, b"S1SUSPEND"),
    head("a minix file system", 1040, b"\x8f\x13"),
    // Partition tables last: a file system on the bare disk may show one too.
    head("a GPT partition table", 512, b"EFI PART"),
    head("a GPT partition table", 4096, b"EFI PART"),
    tail("a backup GPT partition table", 512, b"EFI PART"),
    tail("a backup GPT partition table", 4096, b"EFI PART"),
    head("an Apple partition map", 512, b"PM\0\0"),
    head("a BSD disk label", 512, b"\x57\x45\x56\x82"),
    head("an MBR partition table or a boot sector", 510, b"\x55\xaa"),
];

/// Volume identifier that images of this system begin with, in ISO 9660.
const BOOT_VOLUME: &str = "ZOS";

/// Reads the two ends of a disk and says what is there.
///
/// # Errors
/// The device's error when an end cannot be read.
pub fn probe(disk: &File, bytes: u64, block: u32) -> io::Result<Content> {
    let head = read_at(disk, 0, HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(usize::MAX)))?;
    let tail_bytes = TAIL_BYTES.min(head.len());
    let tail = read_at(disk, bytes - u64::try_from(tail_bytes).unwrap_or(0), tail_bytes)?;
    Ok(classify(&head, &tail, bytes, block))
}

fn read_at(disk: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    // The kernel keeps what was read through the whole disk apart from what is written through its partitions, and would show
    // the past. Only advice: a file that is no device has one cache.
    if let Some(length) = u64::try_from(length).ok().and_then(std::num::NonZeroU64::new) {
        _ = rustix::fs::fadvise(disk, offset, Some(length), rustix::fs::Advice::DontNeed);
    }
    let mut bytes = vec![0; length];
    disk.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Names what the ends of a disk hold.
#[must_use]
pub fn classify(head: &[u8], tail: &[u8], bytes: u64, block: u32) -> Content {
    if let Some(ours) = layout::inspect(head, tail, bytes, block) {
        return Content::Ours(ours);
    }
    if matches(head, 0x8001, b"CD001") && text(head, 0x8028, 32).is_some_and(|label| label.starts_with(BOOT_VOLUME)) {
        return Content::BootMedium;
    }
    if let Some(what) = special(head, tail, bytes).or_else(|| by_table(head, tail)) {
        return Content::Foreign(what);
    }
    match first_non_zero(head, tail, bytes) {
        None => Content::BlankEnds,
        Some(offset) => Content::Foreign(unknown(offset)),
    }
}

/// Text for bytes that no signature explains.
#[must_use]
pub fn unknown(offset: u64) -> String {
    format!("data of an unknown kind (first byte that is not zero at {offset})")
}

fn by_table(head: &[u8], tail: &[u8]) -> Option<String> {
    let found = SIGNATURES.iter().find(|signature| match signature.at {
        At::Head(at) => matches(head, at, signature.magic),
        At::Tail(at) => tail
            .len()
            .checked_sub(at)
            .is_some_and(|at| matches(tail, at, signature.magic)),
    })?;
    let label = match found.label {
        Label::None => None,
        Label::Text(at, length) => text(head, at, length),
        Label::Utf16(at, length) => utf16(head, at, length),
    };
    Some(with_label(found.what, label))
}

fn with_label(what: &str, label: Option<String>) -> String {
    match label {
        Some(label) => format!("{what} labelled \"{label}\""),
        None => what.to_owned(),
    }
}

/// Signatures that are more than bytes at a place.
fn special(head: &[u8], tail: &[u8], bytes: u64) -> Option<String> {
    raid_at_end(tail, bytes)
        .or_else(|| zfs(head, tail).then(|| "a ZFS pool".to_owned()))
        .or_else(|| ext(head))
}

/// ext2, 3 and 4 share a magic; the feature words tell them apart (`fs/ext4/ext4.h`).
fn ext(head: &[u8]) -> Option<String> {
    const JOURNAL: u32 = 0x4;
    // Extents, 64-bit, flexible block groups.
    const EXT4_INCOMPATIBLE: u32 = 0x40 | 0x80 | 0x200;
    if !matches(head, 1080, b"\x53\xef") {
        return None;
    }
    let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let what = match (
        word(1024 + 92)? & JOURNAL != 0,
        word(1024 + 96)? & EXT4_INCOMPATIBLE != 0,
    ) {
        (_, true) => "an ext4 file system",
        (true, false) => "an ext3 file system",
        (false, false) => "an ext2 file system",
    };
    Some(with_label(what, text(head, 1024 + 120, 16)))
}

/// Versions 0.90 and 1.0 of Linux RAID metadata, at places that depend on the disk's size (`drivers/md/md.c`).
fn raid_at_end(tail: &[u8], bytes: u64) -> Option<String> {
    let start = bytes.checked_sub(u64::try_from(tail.len()).ok()?)?;
    let version_0 = (bytes & !0xffff).checked_sub(0x1_0000)?;
    let version_1 = (bytes & !0xfff).checked_sub(0x2000)?;
    [version_0, version_1]
        .into_iter()
        .filter_map(|offset| usize::try_from(offset.checked_sub(start)?).ok())
        .any(|at| matches(tail, at, b"\xfc\x4e\x2b\xa9"))
        .then(|| "a member of a Linux software RAID".to_owned())
}

/// An uberblock in one of the two labels at the beginning: in each, uberblocks fill the second 128 KiB, at most 8 KiB apart.
fn zfs(head: &[u8], _tail: &[u8]) -> bool {
    const MAGIC: u64 = 0x00ba_b10c;
    [0x2_0000_usize, 0x6_0000].into_iter().any(|base| {
        (0..128).any(|slot| {
            let at = base + slot * 1024;
            matches(head, at, &MAGIC.to_le_bytes()) || matches(head, at, &MAGIC.to_be_bytes())
        })
    })
}

fn first_non_zero(head: &[u8], tail: &[u8], bytes: u64) -> Option<u64> {
    let in_head = head
        .iter()
        .position(|byte| *byte != 0)
        .and_then(|at| u64::try_from(at).ok());
    let tail_start = bytes.saturating_sub(u64::try_from(tail.len()).unwrap_or(0));
    let in_tail = || {
        tail.iter()
            .position(|byte| *byte != 0)
            .and_then(|at| u64::try_from(at).ok())
    };
    in_head.or_else(|| in_tail().map(|at| tail_start + at))
}

fn matches(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..at + magic.len()).is_some_and(|found| found == magic)
}

/// A label comes from a stranger's disk: only printable characters reach the console.
fn text(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    let raw = bytes.get(at..at + length)?.split(|byte| *byte == 0).next()?;
    printable(&String::from_utf8_lossy(raw))
}

fn utf16(bytes: &[u8], at: usize, length: usize) -> Option<String> {
    let units: Vec<u16> = bytes
        .get(at..at + length)?
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    printable(&String::from_utf16_lossy(&units))
}

fn printable(text: &str) -> Option<String> {
    let clean: String = text
        .trim()
        .chars()
        .take(64)
        .map(|c| if c.is_control() || c == '"' { '?' } else { c })
        .collect();
    (!clean.is_empty() && clean != "NO NAME").then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const BYTES: u64 = 1 << 30;

    fn with(at: At, magic: &[u8]) -> Content {
        let mut head = vec![0; HEAD_BYTES];
        let mut tail = vec![0; TAIL_BYTES];
        let (region, at) = match at {
            At::Head(at) => (&mut head, at),
            At::Tail(at) => (&mut tail, TAIL_BYTES - at),
        };
        region[at..at + magic.len()].copy_from_slice(magic);
        classify(&head, &tail, BYTES, 512)
    }

    #[test]
    fn every_signature_of_the_table_is_foreign_and_named() {
        for signature in SIGNATURES {
            let Content::Foreign(what) = with(signature.at, signature.magic) else {
                panic!("{} passes for something else", signature.what)
            };
            assert!(
                what.starts_with(signature.what),
                "{} is taken for {what}",
                signature.what
            );
        }
    }

    #[test]
    fn special_signatures_are_named() {
        let foreign = |what: &str| Content::Foreign(what.to_owned());
        assert_eq!(with(At::Head(1080), b"\x53\xef"), foreign("an ext2 file system"));
        assert_eq!(
            with(At::Head(0x2_0000 + 5 * 1024), &0x00ba_b10c_u64.to_le_bytes()),
            foreign("a ZFS pool")
        );
        assert_eq!(
            with(At::Tail(0x1_0000), b"\xfc\x4e\x2b\xa9"),
            foreign("a member of a Linux software RAID")
        );
        assert_eq!(
            with(At::Tail(0x2000), b"\xfc\x4e\x2b\xa9"),
            foreign("a member of a Linux software RAID")
        );
    }

    #[test]
    fn a_single_byte_that_is_not_zero_is_foreign() {
        assert_eq!(with(At::Head(0), b""), Content::BlankEnds);
        assert_eq!(with(At::Head(70_000), b"\x01"), Content::Foreign(unknown(70_000)));
        assert_eq!(with(At::Tail(1), b"\x01"), Content::Foreign(unknown(BYTES - 1)));
    }

    #[test]
    fn boot_medium_is_known_by_its_volume_identifier() {
        let mut volume = b"CD001".to_vec();
        volume.resize(0x27 + 32, b' ');
        volume[0x27..0x2a].copy_from_slice(b"ZOS");
        assert_eq!(with(At::Head(0x8001), &volume), Content::BootMedium);
    }

    #[test]
    fn label_of_a_stranger_cannot_write_control_characters() {
        let mut label = vec![0; 512];
        label[..4].copy_from_slice(b"XFSB");
        label[108..114].copy_from_slice(b"\x1b[2J\"x");
        let Content::Foreign(what) = with(At::Head(0), &label) else {
            panic!("not foreign")
        };
        assert_eq!(what, "an XFS file system labelled \"?[2J?x\"");
    }

    #[test]
    fn real_file_systems_are_recognised() {
        let directory = tempfile::tempdir().unwrap();
        let cases: [(&[&str], &str); 3] = [
            (
                &["mkfs.ext4", "-q", "-F", "-L", "photos"],
                "an ext4 file system labelled \"photos\"",
            ),
            (&["mkfs.ext2", "-q", "-F"], "an ext2 file system"),
            (
                &["mkfs.xfs", "-q", "-L", "films"],
                "an XFS file system labelled \"films\"",
            ),
        ];
        for (command, expected) in cases {
            let path = directory.path().join(command[0]);
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .unwrap();
            file.set_len(BYTES).unwrap();
            assert_eq!(probe(&file, BYTES, 512).unwrap(), Content::BlankEnds);
            let status = Command::new(command[0])
                .args(&command[1..])
                .arg(&path)
                .env("PATH", "/sbin:/usr/sbin:/bin")
                .status();
            assert!(status.unwrap().success(), "{command:?}");
            assert_eq!(probe(&file, BYTES, 512).unwrap(), Content::Foreign(expected.to_owned()));
        }
    }
}
