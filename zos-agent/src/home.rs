//! Which data disk is the node's home, and when a node without an identity may make one.
//!
//! The home holds what the node must find again: contracts, the verified head, images. Every data disk names it in a record
//! beside its copy of the identity, so a node whose home comes late waits for it instead of beginning anew on another disk.
//! The rules, in this order:
//!
//! 1. An identity that is found is kept. A new one is made only when the disks have settled ([`SETTLE`]), no disk that carries
//!    our signature is out of use, and disks that cannot be read have had [`PATIENCE`].
//! 2. The home is the disk that the record of the highest generation names. While it is missing the node waits, at most
//!    [`PATIENCE`] after the last news of any disk; then the disk with the lowest index becomes the home and the generation
//!    rises, so that the old home, should it come back, is a data disk like any other.
//! 3. Without any record the home is the disk with the lowest index, once the disks have settled.
//!
//! The format of the record is in `docs/format/node.md`.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{durable, identity, layout::DiskId, pool::Pool};

/// Where the record is on each data disk.
pub const FILE: &str = "identity/home";
/// Time without news of any disk after which the disks that the kernel announces are taken to be complete. Controllers that
/// start disks one after the other announce them a few seconds apart.
pub const SETTLE: Duration = Duration::from_secs(10);
/// Time without news of any disk after which a missing home is given up, and so are disks that cannot be read.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// First word of the record.
const MAGIC: &str = "zos-home-1";

/// Names the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Rises when the home moves; the highest holds.
    pub generation: u64,
    /// The disk.
    pub home: DiskId,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        if words.next()? != MAGIC {
            return None;
        }
        let (generation, home) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { generation, home })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC} {} {}", self.generation, self.home)
    }
}

/// A mounted data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The disk.
    pub id: DiskId,
    /// Its index among the node's disks.
    pub index: u8,
    /// Whether it holds a file where the identity is, whole or not.
    pub identity: Identity,
    /// The record on it.
    pub record: Option<Record>,
}

/// Whether a disk has an identity file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// There is a file; what it is worth is for [`identity::load_or_make`].
    There,
    /// There is none.
    Absent,
}

/// What is known of the disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Mounted data disks.
    pub disks: Vec<Candidate>,
    /// Disks that carry our signature and are not mounted: their names and why.
    pub suspects: Vec<String>,
    /// Disks that cannot be read.
    pub unreadable: Vec<String>,
    /// Time since the last news of any disk.
    pub quiet: Duration,
    /// Whether the drivers of the machine's devices are loaded.
    pub drivers_loaded: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Go on with this home; every data disk gets this record.
    Open(Record),
    /// Look again.
    Wait(Wait),
}

/// What the node waits for; the text is the line for the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// There is no data disk yet.
    NoDisk,
    /// Disks may still come.
    Settling,
    /// Disks of ours that are out of use may hold the identity.
    Suspects(Vec<String>),
    /// Disks that cannot be read may hold it.
    Unreadable(Vec<String>),
    /// The home is missing.
    Home(DiskId),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = PATIENCE.as_secs() / 60;
        match self {
            Self::NoDisk => f.write_str(&crate::storage::no_disk_line()),
            Self::Settling => f.write_str("waiting until no more disks come before an identity is made"),
            Self::Suspects(disks) => write!(
                f,
                "no new identity while {} may hold one: repair the disk, or take it out for good",
                disks.join("; ")
            ),
            Self::Unreadable(disks) => write!(
                f,
                "no new identity for {minutes} minutes, for it may be on what cannot be read: {}",
                disks.join(", ")
            ),
            Self::Home(home) => write!(
                f,
                "the disk that holds this node's contracts is missing (partition {home}); waiting; in {minutes} minutes \
                 another disk takes its place"
            ),
        }
    }
}

/// Decides by the module's rules.
#[must_use]
pub fn decide(seen: &Seen) -> Step {
    let Some(first) = seen.disks.iter().min_by_key(|disk| (disk.index, disk.id)) else {
        return Step::Wait(Wait::NoDisk);
    };
    let settled = seen.quiet >= SETTLE && seen.drivers_loaded || seen.quiet >= PATIENCE;
    if seen.disks.iter().all(|disk| disk.identity == Identity::Absent) {
        if !seen.suspects.is_empty() {
            return Step::Wait(Wait::Suspects(seen.suspects.clone()));
        }
        if !seen.unreadable.is_empty() && seen.quiet < PATIENCE {
            return Step::Wait(Wait::Unreadable(seen.unreadable.clone()));
        }
        if !settled {
            return Step::Wait(Wait::Settling);
        }
    }
    let record = seen
        .disks
        .iter()
        .filter_map(|disk| disk.record)
        .max_by_key(|record| (record.generation, record.home));
    match record {
        Some(record) if seen.disks.iter().any(|disk| disk.id == record.home) => Step::Open(record),
        Some(record) if seen.quiet < PATIENCE => Step::Wait(Wait::Home(record.home)),
        Some(record) => Step::Open(Record {
            generation: record.generation.saturating_add(1),
            home: first.id,
        }),
        None if settled => Step::Open(Record {
            generation: 1,
            home: first.id,
        }),
        None => Step::Wait(Wait::Settling),
    }
}

/// What the mounted data disks say.
#[must_use]
pub fn observe(pool: &Pool) -> Vec<Candidate> {
    let candidate = |disk: &crate::pool::DataDisk| Candidate {
        id: disk.id(),
        index: disk.partition.index,
        identity: if fs::symlink_metadata(disk.directory.join(identity::FILE)).is_ok() {
            Identity::There
        } else {
            Identity::Absent
        },
        record: read(&disk.directory),
    };
    pool.disks().iter().map(candidate).collect()
}

fn read(disk: &Path) -> Option<Record> {
    Record::parse(&fs::read_to_string(disk.join(FILE)).ok()?)
}

/// Writes the record to each of the data disks that has another.
///
/// # Errors
/// The disk that could not be written, and the error; the ones behind it were not tried.
pub fn write(record: Record, disks: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    for disk in disks.iter().filter(|disk| read(disk) != Some(record)) {
        let path = disk.join(FILE);
        durable::write(&path, record.to_string().as_bytes(), 0o600).map_err(|error| (path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> DiskId {
        DiskId::new([n; 16])
    }

    fn record(generation: u64, home: u8) -> Record {
        Record {
            generation,
            home: id(home),
        }
    }

    fn disk(n: u8, identity: Identity, record: Option<Record>) -> Candidate {
        Candidate {
            id: id(n),
            index: n,
            identity,
            record,
        }
    }

    fn seen(disks: &[Candidate], quiet: Duration) -> Seen {
        Seen {
            disks: disks.to_vec(),
            quiet,
            drivers_loaded: true,
            ..Seen::default()
        }
    }

    const SOON: Duration = Duration::ZERO;

    #[test]
    fn blank_disk_that_is_ready_before_the_old_one_gets_no_second_identity() {
        let blank = disk(1, Identity::Absent, None);
        assert_eq!(decide(&seen(&[], PATIENCE)), Step::Wait(Wait::NoDisk));
        assert_eq!(decide(&seen(&[blank], SOON)), Step::Wait(Wait::Settling));
        let late = seen(&[blank, disk(0, Identity::There, Some(record(1, 0)))], SOON);
        assert_eq!(decide(&late), Step::Open(record(1, 0)), "found in time");
        assert_eq!(
            decide(&seen(&[blank], SETTLE)),
            Step::Open(record(1, 1)),
            "nothing came"
        );
        let loading = Seen {
            drivers_loaded: false,
            ..seen(&[blank], SETTLE)
        };
        assert_eq!(decide(&loading), Step::Wait(Wait::Settling));
    }

    #[test]
    fn no_identity_is_made_while_a_disk_of_ours_is_out_of_use() {
        let blank = disk(1, Identity::Absent, None);
        let suspect = Seen {
            suspects: vec!["vda (mount: no)".to_owned()],
            ..seen(&[blank], PATIENCE)
        };
        assert_eq!(
            decide(&suspect),
            Step::Wait(Wait::Suspects(vec!["vda (mount: no)".to_owned()]))
        );
        let unreadable = |quiet| Seen {
            unreadable: vec!["vdc".to_owned()],
            ..seen(&[blank], quiet)
        };
        assert_eq!(
            decide(&unreadable(SETTLE)),
            Step::Wait(Wait::Unreadable(vec!["vdc".to_owned()]))
        );
        assert_eq!(
            decide(&unreadable(PATIENCE)),
            Step::Open(record(1, 1)),
            "a wreck does not hold for ever"
        );
    }

    #[test]
    fn late_home_is_waited_for_and_a_lost_one_is_replaced() {
        let second = disk(1, Identity::There, Some(record(3, 0)));
        assert_eq!(decide(&seen(&[second], SETTLE)), Step::Wait(Wait::Home(id(0))));
        assert_eq!(decide(&seen(&[second], PATIENCE)), Step::Open(record(4, 1)));
        let back = disk(0, Identity::There, Some(record(3, 0)));
        let moved = disk(1, Identity::There, Some(record(4, 1)));
        assert_eq!(
            decide(&seen(&[back, moved], SOON)),
            Step::Open(record(4, 1)),
            "the newest record holds"
        );
    }

    #[test]
    fn record_is_kept_on_every_disk_and_a_torn_one_is_none() {
        let root = tempfile::tempdir().unwrap();
        let disks: Vec<PathBuf> = (0..2).map(|n| root.path().join(n.to_string())).collect();
        for disk in &disks {
            fs::create_dir_all(disk.join("identity")).unwrap();
        }
        write(record(7, 9), &disks).unwrap();
        assert_eq!(read(&disks[1]), Some(record(7, 9)));
        let text = record(7, 9).to_string();
        assert_eq!(text, format!("zos-home-1 7 {}\n", "09".repeat(16)));
        for cut in 0..text.len() {
            assert_eq!(Record::parse(&text[..cut]), None, "{cut}");
        }
    }
}
