//! How a data disk is laid out: our mark, a GPT, one partition. The byte tables are in `docs/format/disk.md`.
//!
//! The mark is one sector, so it is written whole or not at all. It says `Making` before anything else is written and
//! `Made` after the file system is complete, so that an interrupted format is told from damage to a disk with data:
//!
//! ```text
//! zeros ──mark Making──▶ HalfMade ──GPT, mkfs, sync──▶ HalfMade ──mark Made──▶ Whole ──any damage──▶ Damaged
//! ```
//!
//! The mark says `Making` for as long as nobody else writes to the disk. One that holds anything but what the format wrote is
//! not half made but somebody's.

mod unfinished;

use std::{fmt, str::FromStr};

use crate::text::size;

/// Partition type of a data partition, `8F2B7C1E-5A4F-4D53-9C0D-2A6B7E91D3F4`, as stored (mixed endian).
pub const DATA_TYPE: [u8; 16] = [
    0x1e, 0x7c, 0x2b, 0x8f, 0x4f, 0x5a, 0x53, 0x4d, 0x9c, 0x0d, 0x2a, 0x6b, 0x7e, 0x91, 0xd3, 0xf4,
];
/// Label of the file system on a data partition.
pub const DATA_LABEL: &str = "zos-data";
/// First byte of the data partition: 1 MiB, aligned for every medium in use.
pub const DATA_START: u64 = 1 << 20;
/// Where the mark is: behind the 16 KiB of partition entries for 512-byte and 4,096-byte blocks alike.
pub const MARK_OFFSET: u64 = 64 << 10;
/// Length of the mark: one sector, which every disk writes whole.
pub const MARK_BYTES: u64 = 512;
/// Bytes at the beginning of a disk that [`inspect`] looks at.
pub const HEAD_BYTES: usize = 2 << 20;
/// Disks of this size or more leave [`RESERVED_BYTES`] free at their end.
pub const RESERVE_FROM: u64 = 8 << 30;
/// Room left for system partitions of later releases: two slots of a system image and what they need to boot.
pub const RESERVED_BYTES: u64 = 2 << 30;

const MARK_MAGIC: [u8; 8] = *b"ZOSDISK1";
const MARK_BODY: usize = 48;
const ENTRY_BYTES: usize = 128;
const ENTRIES: u32 = 128;
const ENTRIES_BYTES: usize = 128 * ENTRY_BYTES;
const HEADER_BYTES: u32 = 92;

/// State of a disk that carries our mark or our partition type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OurTable {
    /// Formatting was interrupted; nothing was ever kept on it.
    HalfMade,
    /// Complete.
    Whole(DataPartition),
    /// The mark says made, but the partition or the file system is not what was made.
    Damaged,
}

/// Where the data partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPartition {
    /// Offset of its first byte on the disk.
    pub first_byte: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its unique GUID as stored.
    pub guid: [u8; 16],
    /// Which data disk of the node it is, from 0 in the order in which they were formatted.
    pub index: u8,
}

impl DataPartition {
    /// The name of the disk as data disk of this node.
    #[must_use]
    pub const fn id(&self) -> DiskId {
        DiskId(self.guid)
    }
}

/// Tells a data disk from every other: the unique GUID of its data partition. In text the bytes as stored, in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskId([u8; 16]);

impl DiskId {
    /// From the GUID as stored.
    #[must_use]
    pub const fn new(guid: [u8; 16]) -> Self {
        Self(guid)
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl FromStr for DiskId {
    type Err = NotADisk;

    fn from_str(text: &str) -> Result<Self, NotADisk> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| NotADisk)?;
        bytes.try_into().map(Self).map_err(|_| NotADisk)
    }
}

/// A text that is no [`DiskId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no name of a data disk: 32 lower-case hexadecimal digits wanted")]
pub struct NotADisk;

/// Whether a disk is being made or was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkState {
    /// The format has begun.
    Making,
    /// The file system is complete.
    Made,
}

/// One write to a disk, to be made in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Offset in bytes.
    pub offset: u64,
    /// What to write.
    pub bytes: Vec<u8>,
}

/// A disk that cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The block size is neither 512 nor 4,096 bytes.
    #[error("blocks of {0} bytes are not supported; 512 or 4096 wanted")]
    Block(u32),
    /// Too small to hold a partition of [`crate::disks::MIN_BYTES`] minus what the tables need.
    #[error("{} is too small", size(*.0))]
    TooSmall(u64),
}

/// Chooses the data partition for a disk.
///
/// # Errors
/// [`LayoutError`] when the disk is too small or its block size is not supported.
pub fn choose(disk_bytes: u64, block: u32, guid: [u8; 16], index: u8) -> Result<DataPartition, LayoutError> {
    if block != 512 && block != 4096 {
        return Err(LayoutError::Block(block));
    }
    let reserved = if disk_bytes >= RESERVE_FROM { RESERVED_BYTES } else { 0 };
    // The backup table needs its entries and one block; a whole MiB keeps the end aligned.
    let end = (disk_bytes.saturating_sub(reserved) & !(DATA_START - 1)).saturating_sub(DATA_START);
    let bytes = end.saturating_sub(DATA_START);
    if disk_bytes < crate::disks::MIN_BYTES {
        return Err(LayoutError::TooSmall(disk_bytes));
    }
    Ok(DataPartition {
        first_byte: DATA_START,
        bytes,
        guid,
        index,
    })
}

/// The mark's sector.
#[must_use]
pub fn mark(partition: &DataPartition, state: MarkState) -> Write {
    let mut bytes = vec![0; 512];
    bytes[..8].copy_from_slice(&MARK_MAGIC);
    bytes[8] = match state {
        MarkState::Making => 1,
        MarkState::Made => 2,
    };
    bytes[9] = partition.index;
    bytes[16..32].copy_from_slice(&partition.guid);
    bytes[32..40].copy_from_slice(&partition.first_byte.to_le_bytes());
    bytes[40..48].copy_from_slice(&partition.bytes.to_le_bytes());
    let checksum = blake3::hash(&bytes[..MARK_BODY]);
    bytes[MARK_BODY..MARK_BODY + 32].copy_from_slice(checksum.as_bytes());
    Write {
        offset: MARK_OFFSET,
        bytes,
    }
}

fn read_mark(sector: &[u8]) -> Option<(DataPartition, MarkState)> {
    let checksum = blake3::hash(sector.get(..MARK_BODY)?);
    if sector[..8] != MARK_MAGIC || sector.get(MARK_BODY..MARK_BODY + 32)? != checksum.as_bytes() {
        return None;
    }
    let state = match sector[8] {
        1 => MarkState::Making,
        2 => MarkState::Made,
        _ => return None,
    };
    let partition = DataPartition {
        first_byte: u64::from_le_bytes(array(sector, 32)?),
        bytes: u64::from_le_bytes(array(sector, 40)?),
        guid: array(sector, 16)?,
        index: sector[9],
    };
    Some((partition, state))
}

/// The writes that put the partition table on a disk: both tables and the protective MBR.
#[must_use]
pub fn table(partition: &DataPartition, disk_bytes: u64, block: u32, disk_guid: [u8; 16]) -> Vec<Write> {
    let block_bytes = u64::from(block);
    let last = disk_bytes / block_bytes - 1;
    let entry_blocks = u64::try_from(ENTRIES_BYTES).unwrap_or(u64::MAX).div_ceil(block_bytes);
    let entries = entries(partition, block_bytes);
    let header = |own: u64, other: u64, first_entry: u64| {
        let mut header = vec![0; usize::try_from(block).unwrap_or(512)];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&HEADER_BYTES.to_le_bytes());
        header[24..32].copy_from_slice(&own.to_le_bytes());
        header[32..40].copy_from_slice(&other.to_le_bytes());
        header[40..48].copy_from_slice(&(2 + entry_blocks).to_le_bytes());
        header[48..56].copy_from_slice(&(last - entry_blocks - 1).to_le_bytes());
        header[56..72].copy_from_slice(&disk_guid);
        header[72..80].copy_from_slice(&first_entry.to_le_bytes());
        header[80..84].copy_from_slice(&ENTRIES.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let checksum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        header
    };
    let backup_entries = last - entry_blocks;
    vec![
        Write {
            offset: 2 * block_bytes,
            bytes: entries.clone(),
        },
        Write {
            offset: block_bytes,
            bytes: header(1, last, 2),
        },
        Write {
            offset: backup_entries * block_bytes,
            bytes: entries.clone(),
        },
        Write {
            offset: last * block_bytes,
            bytes: header(last, 1, backup_entries),
        },
        Write {
            offset: 0,
            bytes: protective_mbr(last),
        },
    ]
}

fn entries(partition: &DataPartition, block_bytes: u64) -> Vec<u8> {
    let mut entries = vec![0; ENTRIES_BYTES];
    entries[..16].copy_from_slice(&DATA_TYPE);
    entries[16..32].copy_from_slice(&partition.guid);
    let first = partition.first_byte / block_bytes;
    entries[32..40].copy_from_slice(&first.to_le_bytes());
    entries[40..48].copy_from_slice(&(first + partition.bytes / block_bytes - 1).to_le_bytes());
    for (slot, unit) in entries[56..128].chunks_exact_mut(2).zip(DATA_LABEL.encode_utf16()) {
        slot.copy_from_slice(&unit.to_le_bytes());
    }
    entries
}

fn protective_mbr(last: u64) -> Vec<u8> {
    let mut mbr = vec![0; 512];
    let sectors = u32::try_from(last).unwrap_or(u32::MAX);
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0]);
    mbr[458..462].copy_from_slice(&sectors.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    mbr
}

/// Looks for our mark, our partition and our file system in the first [`HEAD_BYTES`] of a disk, and for whatever is not ours
/// in these and at its end if the mark says that it is being made. `None`: not ours.
#[must_use]
pub fn inspect(head: &[u8], tail: &[u8], disk_bytes: u64, block: u32) -> Option<OurTable> {
    let mark_at = usize::try_from(MARK_OFFSET).ok()?;
    let mark = head.get(mark_at..mark_at + 512).and_then(read_mark);
    let entry = data_entry(head, block);
    let Some((partition, state)) = mark else {
        return entry.map(|_| OurTable::Damaged);
    };
    if state == MarkState::Making {
        return unfinished::is_ours(&partition, head, tail, disk_bytes, block).then_some(OurTable::HalfMade);
    }
    let agrees = entry == Some((partition.guid, partition.first_byte));
    let start = usize::try_from(partition.first_byte).ok()?;
    let whole = agrees && head.get(start..start + 512).is_some_and(our_file_system);
    Some(if whole {
        OurTable::Whole(partition)
    } else {
        OurTable::Damaged
    })
}

/// GUID and first byte of the first partition of our type, from a table whose checksums hold.
fn data_entry(head: &[u8], block: u32) -> Option<([u8; 16], u64)> {
    let block_bytes = usize::try_from(block).ok()?;
    let header = head.get(block_bytes..block_bytes + 92)?;
    let mut unsigned = header.to_vec();
    unsigned[16..20].fill(0);
    let entries = head.get(2 * block_bytes..2 * block_bytes + ENTRIES_BYTES)?;
    let valid = header[..8] == *b"EFI PART"
        && crc32fast::hash(&unsigned).to_le_bytes() == header[16..20]
        && crc32fast::hash(entries).to_le_bytes() == header[88..92];
    if !valid {
        return None;
    }
    let entry = entries
        .chunks_exact(ENTRY_BYTES)
        .find(|entry| entry[..16] == DATA_TYPE)?;
    let first = u64::from_le_bytes(array(entry, 32)?);
    Some((array(entry, 16)?, first.checked_mul(u64::from(block))?))
}

/// An XFS superblock that mkfs has finished, with our label. Offsets: `xfs_dsb` in the kernel's xfs_format.h.
fn our_file_system(sector: &[u8]) -> bool {
    sector[..4] == *b"XFSB" && our_label(sector) && sector[126] == 0
}

fn our_label(superblock: &[u8]) -> bool {
    let label = superblock[108..120].split(|byte| *byte == 0).next().unwrap_or_default();
    label == DATA_LABEL.as_bytes()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 2 << 30;
    const TAIL: usize = 256 << 10;

    fn inspect(head: &[u8], block: u32) -> Option<OurTable> {
        super::inspect(head, &vec![0; TAIL], DISK, block)
    }

    fn head(block: u32, state: MarkState, file_system: bool) -> Vec<u8> {
        let partition = choose(DISK, block, [9; 16], 3).unwrap();
        let mut head = vec![0; HEAD_BYTES];
        let mut writes = table(&partition, DISK, block, [5; 16]);
        writes.push(mark(&partition, state));
        for write in writes.into_iter().filter(|write| write.offset < 1 << 20) {
            let at = usize::try_from(write.offset).unwrap();
            head[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        if file_system {
            head[1 << 20..(1 << 20) + 4].copy_from_slice(b"XFSB");
            head[(1 << 20) + 108..(1 << 20) + 116].copy_from_slice(b"zos-data");
        }
        head
    }

    #[test]
    fn finished_disk_is_found_whole_for_both_block_sizes() {
        for block in [512, 4096] {
            let expected = choose(DISK, block, [9; 16], 3).unwrap();
            assert_eq!(
                inspect(&head(block, MarkState::Made, true), block),
                Some(OurTable::Whole(expected))
            );
        }
    }

    #[test]
    fn interrupted_format_is_half_made_wherever_it_stopped() {
        assert_eq!(
            inspect(&head(512, MarkState::Making, true), 512),
            Some(OurTable::HalfMade)
        );
        let partition = choose(DISK, 512, [9; 16], 0).unwrap();
        let mut only_mark = vec![0; HEAD_BYTES];
        let write = mark(&partition, MarkState::Making);
        only_mark[65536..65536 + 512].copy_from_slice(&write.bytes);
        assert_eq!(inspect(&only_mark, 512), Some(OurTable::HalfMade));
    }

    #[test]
    fn damage_to_a_finished_disk_never_looks_half_made() {
        let whole = head(512, MarkState::Made, true);
        // One byte of: protective MBR, header, entry, mark, superblock.
        for at in [
            510,
            520,
            1024 + 20,
            65536,
            65536 + 8,
            65536 + 60,
            1 << 20,
            (1 << 20) + 110,
            (1 << 20) + 126,
        ] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let expected = match at {
                510 => inspect(&whole, 512),
                _ => Some(OurTable::Damaged),
            };
            assert_eq!(inspect(&damaged, 512), expected, "byte {at}");
        }
    }

    #[test]
    fn zeros_and_other_tables_are_not_ours() {
        assert_eq!(inspect(&vec![0; HEAD_BYTES], 512), None);
        let mut other = head(512, MarkState::Made, true);
        other[65536..66048].fill(0);
        other[1024..1040].fill(7);
        assert_eq!(inspect(&other, 512), None);
    }

    #[test]
    fn large_disk_leaves_room_at_its_end_and_small_one_does_not() {
        let small = choose(1 << 30, 512, [0; 16], 0).unwrap();
        assert_eq!(small.bytes, (1 << 30) - (2 << 20));
        let large = choose(8 << 30, 512, [0; 16], 0).unwrap();
        assert_eq!(large.bytes, (6 << 30) - (2 << 20));
        assert_eq!(choose(1 << 29, 512, [0; 16], 0), Err(LayoutError::TooSmall(1 << 29)));
        assert_eq!(choose(1 << 31, 520, [0; 16], 0), Err(LayoutError::Block(520)));
    }
}
