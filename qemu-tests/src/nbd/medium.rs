//! A disk with a volatile write cache.
//!
//! What is read is what was written last. What survives a cut of the power is what was on the medium at the last flush, and of
//! the sectors written since then any: they reach the medium in any order, each of them whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Sectors in the cache, 256 MiB; a full cache is written back, as a disk's is.
const MAX_UNFLUSHED: usize = 512 * 1024;

type Sector = [u8; SECTOR];

/// What a flush does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushes {
    /// What was written before is on the medium.
    Honoured,
    /// Nothing, though it is acknowledged.
    Ignored,
}

/// Which of the sectors that are not flushed a cut takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// About half of them, the same ones for the same seed.
    Half {
        /// The seed.
        seed: u64,
    },
    /// All of them.
    All,
}

/// What a cut of the power has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Sectors that were written and not flushed.
    pub unflushed: usize,
    /// Those of them whose last contents are gone.
    pub lost: usize,
}

#[derive(Debug)]
pub(super) struct Medium {
    /// What is read.
    file: File,
    /// What is on the medium instead, of each sector that was written since the last flush.
    unflushed: BTreeMap<u64, Sector>,
    flushes: Flushes,
    bytes: u64,
}

impl Medium {
    /// An empty disk whose contents are in the file at `path`.
    pub(super) fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        file.set_len(bytes)?;
        Ok(Self {
            file,
            unflushed: BTreeMap::new(),
            flushes: Flushes::Honoured,
            bytes,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sectors that were written since the last flush.
    pub(super) fn unflushed(&self) -> usize {
        self.unflushed.len()
    }

    pub(super) fn set_flushes(&mut self, flushes: Flushes) {
        self.flushes = flushes;
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.unflushed.len() >= MAX_UNFLUSHED {
            self.unflushed.clear();
        }
        for index in sectors(offset, data.len()) {
            if !self.unflushed.contains_key(&index) {
                let mut before = [0; SECTOR];
                self.file.read_exact_at(&mut before, byte(index))?;
                self.unflushed.insert(index, before);
            }
        }
        self.file.write_all_at(data, offset)
    }

    /// Has everything on the medium.
    pub(super) fn flush(&mut self) {
        if self.flushes == Flushes::Honoured {
            self.unflushed.clear();
        }
    }

    /// Has one range on the medium.
    pub(super) fn flush_range(&mut self, offset: u64, length: usize) {
        if self.flushes == Flushes::Honoured {
            for index in sectors(offset, length) {
                self.unflushed.remove(&index);
            }
        }
    }

    /// Loses power. Flushes are honoured from then on.
    pub(super) fn cut(&mut self, loss: Loss) -> io::Result<Cut> {
        let unflushed = std::mem::take(&mut self.unflushed);
        let mut cut = Cut {
            unflushed: unflushed.len(),
            lost: 0,
        };
        let mut random = match loss {
            Loss::Half { seed } => Some(seed),
            Loss::All => None,
        };
        for (index, before) in &unflushed {
            if random.as_mut().is_none_or(is_lost) {
                self.file.write_all_at(before, byte(*index))?;
                cut.lost += 1;
            }
        }
        self.flushes = Flushes::Honoured;
        Ok(cut)
    }
}

/// One bit of splitmix64 (Steele, Lea, Flood 2014).
fn is_lost(state: &mut u64) -> bool {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) & 1 == 1
}

/// The sectors that a range touches.
fn sectors(offset: u64, length: usize) -> std::ops::Range<u64> {
    let sector = sector_bytes();
    let end = offset + u64::try_from(length).expect("a request is shorter than 32 bits say");
    offset / sector..end.div_ceil(sector)
}

fn byte(index: u64) -> u64 {
    index * sector_bytes()
}

fn sector_bytes() -> u64 {
    u64::try_from(SECTOR).expect("a sector is small")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium() -> Medium {
        let directory = tempfile::tempdir().unwrap();
        Medium::create(&directory.path().join("disk"), 1 << 20).unwrap()
    }

    fn sector(medium: &Medium, index: u64) -> u8 {
        let mut found = [0; SECTOR];
        medium.read(byte(index), &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == found[0]), "whole sectors alone");
        found[0]
    }

    #[test]
    fn flushed_sectors_survive_and_later_ones_need_not() {
        let mut medium = medium();
        medium.write(0, &[1; 1000 * SECTOR]).unwrap();
        medium.flush();
        medium.write(0, &[2; 1000 * SECTOR]).unwrap();
        assert_eq!(sector(&medium, 999), 2, "what was written is read");
        let cut = medium.cut(Loss::Half { seed: 7 }).unwrap();
        let lost = (0..1000).filter(|index| sector(&medium, *index) == 1).count();
        assert_eq!(cut, Cut { unflushed: 1000, lost });
        assert!((400..600).contains(&lost), "{lost}");
        assert_eq!(
            medium.cut(Loss::All).unwrap().unflushed,
            0,
            "power returns with an empty cache"
        );
    }

    #[test]
    fn forced_write_is_on_the_medium_and_others_are_not() {
        let mut medium = medium();
        medium.write(0, &[1; 4 * SECTOR]).unwrap();
        medium.flush_range(byte(1), 2 * SECTOR);
        medium.cut(Loss::All).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| sector(&medium, index)), [0, 1, 1, 0]);
    }

    #[test]
    fn ignored_flush_keeps_nothing() {
        let mut medium = medium();
        medium.set_flushes(Flushes::Ignored);
        medium.write(0, &[1; SECTOR]).unwrap();
        medium.flush();
        assert_eq!(medium.cut(Loss::All).unwrap(), Cut { unflushed: 1, lost: 1 });
        assert_eq!(sector(&medium, 0), 0);
    }

    #[test]
    fn same_seed_loses_the_same_sectors() {
        let lost = |seed| {
            let mut medium = medium();
            medium.write(0, &[1; 64 * SECTOR]).unwrap();
            medium.cut(Loss::Half { seed }).unwrap();
            (0..64).map(|index| sector(&medium, index)).collect::<Vec<_>>()
        };
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1), lost(2));
    }
}
