//! Whether a disk that is marked as being made holds nothing but what its format has written so far.
//!
//! The mark alone proves little: whoever takes a disk with a cut format away and uses it elsewhere writes another table or file
//! system, which need not touch the mark. A sector that is neither zero nor ours is theirs.

use super::{DATA_START, DataPartition, MARK_OFFSET, MarkState, Write, array, mark, our_label, table};

/// Smallest unit that a disk writes whole.
const SECTOR: usize = 512;
/// What metadata of XFS that mkfs.xfs writes begins with, by sector (`fs/xfs/libxfs/xfs_format.h`): headers of an allocation
/// group, roots of its trees, inodes, and the unused part of a free list.
const XFS_METADATA: [&[u8]; 10] = [
    b"XAGF", b"XAGI", b"XAFL", b"AB3B", b"AB3C", b"IAB3", b"FIB3", b"RMB3", b"R3FC", b"IN",
];
const UNUSED: [u8; 4] = [0xff; 4];

/// Whether the two ends of a disk hold zeros or what the format of `partition` writes, in every sector.
pub(super) fn is_ours(partition: &DataPartition, head: &[u8], tail: &[u8], disk_bytes: u64, block: u32) -> bool {
    ends(partition, head, tail, disk_bytes, block)
        .is_some_and(|(before, after)| before && after && file_system_being_made(head))
}

/// Whether what is before and behind the partition is ours.
fn ends(partition: &DataPartition, head: &[u8], tail: &[u8], disk_bytes: u64, block: u32) -> Option<(bool, bool)> {
    let block_bytes = usize::try_from(block).ok()?;
    let tail_start = disk_bytes.checked_sub(u64::try_from(tail.len()).ok()?)?;
    let before = head.get(..usize::try_from(DATA_START).ok()?)?;
    // The disk's own GUID is in no place but the headers, so each is measured by its own.
    let primary = array(before, block_bytes + 56)?;
    let backup = array(tail, tail.len().checked_sub(block_bytes)? + 56)?;
    let mark = mark(partition, MarkState::Making);
    let of = |guid| table(partition, disk_bytes, block, guid);
    let first = of(primary).into_iter().filter(|write| write.offset < MARK_OFFSET);
    let last = of(backup).into_iter().filter(|write| write.offset >= tail_start);
    Some((
        zeros_or(before, 0, first.chain([mark])),
        zeros_or(tail, tail_start, last),
    ))
}

/// Whether every sector of `found`, which begins at `start` of the disk, is zero or what `writes` put there.
fn zeros_or(found: &[u8], start: u64, writes: impl Iterator<Item = Write>) -> bool {
    let mut expected = vec![0; found.len()];
    for write in writes {
        let Some(place) = write
            .offset
            .checked_sub(start)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| expected.get_mut(at..at.checked_add(write.bytes.len())?))
        else {
            return false;
        };
        place.copy_from_slice(&write.bytes);
    }
    let sectors = found.chunks(SECTOR).zip(expected.chunks(SECTOR));
    sectors
        .into_iter()
        .all(|(found, expected)| is_zero(found) || found == expected)
}

/// Whether the beginning of the partition is what mkfs.xfs leaves there, however it was cut: a disk may have written any of
/// its sectors and none of the others.
fn file_system_being_made(head: &[u8]) -> bool {
    let Some(partition) = usize::try_from(DATA_START).ok().and_then(|start| head.get(start..)) else {
        return false;
    };
    let ours = |sector: &[u8]| {
        is_zero(sector)
            || sector.starts_with(b"XFSB") && our_label(sector)
            || sector.starts_with(&UNUSED)
            || XFS_METADATA.iter().any(|magic| sector.starts_with(magic))
    };
    partition.chunks(SECTOR).all(ours)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{HEAD_BYTES, OurTable, choose, inspect};

    const DISK: u64 = 2 << 30;
    const TAIL: usize = 256 << 10;
    const START: usize = 1 << 20;

    /// The two ends of a disk whose format was cut before the file system was complete.
    fn cut(block: u32) -> (Vec<u8>, Vec<u8>) {
        let partition = choose(DISK, block, [9; 16], 3).unwrap();
        let (mut head, mut tail) = (vec![0; HEAD_BYTES], vec![0; TAIL]);
        let mut writes = table(&partition, DISK, block, [5; 16]);
        writes.push(mark(&partition, MarkState::Making));
        for write in writes {
            let (end, at) = match write.offset.checked_sub(DISK - u64::try_from(TAIL).unwrap()) {
                Some(at) => (&mut tail, at),
                None => (&mut head, write.offset),
            };
            let at = usize::try_from(at).unwrap();
            end[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        head[START..START + 4].copy_from_slice(b"XFSB");
        head[START + 108..START + 116].copy_from_slice(b"zos-data");
        head[START + SECTOR..START + SECTOR + 4].copy_from_slice(b"XAGF");
        (head, tail)
    }

    #[test]
    fn disk_that_lost_any_sectors_of_a_cut_format_is_half_made() {
        for block in [512, 4096] {
            let (head, tail) = cut(block);
            assert_eq!(inspect(&head, &tail, DISK, block), Some(OurTable::HalfMade));
            let mark = usize::try_from(MARK_OFFSET).unwrap();
            let tables = (0..20 << 10).chain(START..START + (4 << 10)).step_by(SECTOR);
            for at in tables
                .chain((0..HEAD_BYTES).step_by(127 * SECTOR))
                .filter(|at| *at != mark)
            {
                let mut torn = head.clone();
                torn[at..at + SECTOR].fill(0);
                assert_eq!(
                    inspect(&torn, &tail, DISK, block),
                    Some(OurTable::HalfMade),
                    "sector at {at}"
                );
            }
            assert_eq!(inspect(&head, &[0; TAIL], DISK, block), Some(OurTable::HalfMade));
        }
    }

    #[test]
    fn other_table_on_a_disk_with_a_cut_format_makes_it_somebody_elses() {
        for block in [512, 4096] {
            let theirs = choose(DISK, block, [7; 16], 0).unwrap();
            let (head, tail) = cut(block);
            for write in table(&theirs, DISK, block, [6; 16]).iter().take(2) {
                let mut reused = head.clone();
                reused[START..].fill(0);
                let at = usize::try_from(write.offset).unwrap();
                reused[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
                assert_eq!(inspect(&reused, &tail, DISK, block), None, "write at {at}");
            }
        }
    }

    #[test]
    fn one_byte_of_somebody_else_makes_a_half_made_disk_foreign() {
        let (head, tail) = cut(512);
        // Boot code, header, entries, the space behind them and behind the mark, superblock, superblocks of ext4 and btrfs.
        for at in [
            0,
            520,
            1100,
            40_000,
            70_000,
            START,
            START + 1080,
            START + (64 << 10) + 64,
        ] {
            let mut touched = head.clone();
            touched[at] ^= 0x41;
            assert_eq!(inspect(&touched, &tail, DISK, 512), None, "byte {at}");
        }
        for at in [0, TAIL - 512, TAIL - 33 * 512, TAIL - 1] {
            let mut touched = tail.clone();
            touched[at] ^= 0x41;
            assert_eq!(inspect(&head, &touched, DISK, 512), None, "byte {at} of the tail");
        }
        let mut labelled = head;
        labelled[START + 108..START + 116].copy_from_slice(b"holidays");
        assert_eq!(inspect(&labelled, &tail, DISK, 512), None);
    }
}
