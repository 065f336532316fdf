//! Which data disk is the node's home, which of several nodes' disks are its own, and when a node without an identity may make
//! one.
//!
//! The home holds what the node must find again: contracts, the verified head, images. Every data disk names it in a record
//! beside its copy of the identity, so a node whose home comes late waits for it instead of beginning anew on another disk.
//! The rules, in this order:
//!
//! 1. An identity that is found is kept. A new one is made only when the disks have settled ([`SETTLE`]), no disk that carries
//!    our signature is out of use, and disks that cannot be read have had [`PATIENCE`].
//! 2. Of disks of several nodes, those are used whose newest record names this machine, then those whose home is there, then
//!    the most; while that decides nothing, the node waits. The others are refused and nothing is written to them, and neither
//!    to a disk with a damaged identity that the node's record does not name.
//! 3. The home is the disk that the record of the highest generation names, and no record is replaced by one of a lower. The
//!    record also names the machine and all the node's disks. If all of this is as it says, the node opens at once. Otherwise a
//!    disk with a newer record, or those of the machine's own node, may still come, so it waits until the disks have settled.
//! 4. While the home is missing the node waits, at most [`PATIENCE`] after the last news of any disk; then the disk with the
//!    lowest index becomes the home and the generation rises, so that the old home, should it come back, is a data disk like
//!    any other.
//! 5. Without any record the home is the disk with the lowest index, once the disks have settled.

mod record;

use std::{collections::BTreeMap, fmt, time::Duration};

use ledger::Id;

pub use record::{FILE, Machine, Record, WriteError, check, write};

use crate::{identity, layout::DiskId, pool::Pool};

/// Time without news of any disk after which the disks that the kernel announces are taken to be complete. Controllers that
/// start disks one after the other announce them a few seconds apart.
pub const SETTLE: Duration = Duration::from_secs(10);
/// Time without news of any disk after which a missing home is given up, and so are disks that cannot be read.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A mounted data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The disk.
    pub id: DiskId,
    /// Its index among the node's disks.
    pub index: u8,
    /// What it holds where the identity is.
    pub identity: Identity,
    /// The record on it.
    pub record: Option<Record>,
}

/// What a disk holds where the identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The identity of this node.
    Of(Id),
    /// A file that does not hold; what is to be done about it is for [`identity::load_or_make`].
    Damaged,
    /// Nothing.
    Absent,
}

/// What is known of the disks.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The machine.
    pub machine: Machine,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Go on with this home. Every disk that the record names gets the record; the others are let go.
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
    /// Disks that belong to this node may still come.
    Disks,
    /// Disks of ours that are out of use may hold the identity.
    Suspects(Vec<String>),
    /// Disks that cannot be read may hold it.
    Unreadable(Vec<String>),
    /// The home is missing.
    Home(DiskId),
    /// The disks are of several nodes, and nothing says which of them this one is.
    Nodes(Vec<Id>),
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = PATIENCE.as_secs() / 60;
        match self {
            Self::NoDisk => f.write_str(&crate::storage::no_disk_line()),
            Self::Settling => f.write_str("waiting until no more disks come before an identity is made"),
            Self::Disks => {
                f.write_str("waiting until no more disks come: they are not those that this node had last time")
            }
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
            Self::Nodes(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(|node| node.short()).collect();
                write!(
                    f,
                    "the data disks are of several nodes ({}), and nothing says which of them this machine is: take out those \
                     of the others; waiting",
                    nodes.join(", ")
                )
            }
        }
    }
}

/// Decides by the module's rules.
#[must_use]
pub fn decide(seen: &Seen) -> Step {
    if seen.disks.is_empty() {
        return Step::Wait(Wait::NoDisk);
    }
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
    let node = match own_node(seen) {
        Ok(node) => node,
        Err(_) if !settled => return Step::Wait(Wait::Disks),
        Err(nodes) => return Step::Wait(Wait::Nodes(nodes)),
    };
    let newest = newest_record(seen.disks.iter().filter(|disk| node.is_none() || is_of(disk, node)));
    let belongs = |disk: &&Candidate| match disk.identity {
        Identity::Absent => true,
        Identity::Of(_) => is_of(disk, node),
        Identity::Damaged => node.is_none() || newest.is_some_and(|record| record.knows(disk.id)),
    };
    let own: Vec<&Candidate> = seen.disks.iter().filter(belongs).collect();
    let ids = own.iter().map(|disk| disk.id).collect();
    let first = own.iter().min_by_key(|disk| (disk.index, disk.id)).map(|disk| disk.id);
    match (newest, first) {
        (Some(record), _) if own.iter().any(|disk| disk.id == record.home) => {
            // Of a node that has all its disks nobody can know more than this record.
            let complete = !record.disks.is_empty() && record.disks.is_subset(&ids) && record.machine == seen.machine;
            if complete || settled {
                Step::Open(record.updated(record.home, seen.machine, ids))
            } else {
                Step::Wait(Wait::Disks)
            }
        }
        (Some(record), Some(first)) if seen.quiet >= PATIENCE => Step::Open(record.updated(first, seen.machine, ids)),
        (Some(record), _) => Step::Wait(Wait::Home(record.home)),
        (None, Some(first)) if settled => Step::Open(Record {
            generation: 1,
            home: first,
            machine: seen.machine,
            disks: ids,
        }),
        (None, _) => Step::Wait(Wait::Settling),
    }
}

fn is_of(disk: &Candidate, node: Option<Id>) -> bool {
    matches!(disk.identity, Identity::Of(id) if Some(id) == node)
}

fn newest_record<'a>(disks: impl Iterator<Item = &'a Candidate>) -> Option<&'a Record> {
    disks.filter_map(|disk| disk.record.as_ref()).max()
}

/// The node that this machine is; none if no disk holds an identity.
///
/// # Errors
/// The nodes of which it may be either.
fn own_node(seen: &Seen) -> Result<Option<Id>, Vec<Id>> {
    let mut nodes: BTreeMap<Id, Vec<&Candidate>> = BTreeMap::new();
    for disk in &seen.disks {
        if let Identity::Of(node) = disk.identity {
            nodes.entry(node).or_default().push(disk);
        }
    }
    let claim = |disks: &[&Candidate]| {
        let record = newest_record(disks.iter().copied());
        let here = record.is_some_and(|record| record.machine == seen.machine);
        let home = record.is_some_and(|record| disks.iter().any(|disk| disk.id == record.home));
        (here, home, disks.len())
    };
    let best = nodes.values().map(|disks| claim(disks)).max();
    let mut strongest = nodes
        .iter()
        .filter(|(_, disks)| Some(claim(disks)) == best)
        .map(|(node, _)| *node);
    match (strongest.next(), strongest.next()) {
        (node, None) => Ok(node),
        (first, second) => Err(first.into_iter().chain(second).chain(strongest).collect()),
    }
}

/// What the mounted data disks say.
#[must_use]
pub fn observe(pool: &Pool) -> Vec<Candidate> {
    let candidate = |disk: &crate::pool::DataDisk| Candidate {
        id: disk.id(),
        index: disk.partition.index,
        identity: match identity::read(&disk.directory) {
            identity::Copy::Valid(identity) => Identity::Of(identity.node()),
            identity::Copy::Damaged(_) => Identity::Damaged,
            identity::Copy::Absent => Identity::Absent,
        },
        record: record::read(&disk.directory),
    };
    pool.disks().iter().map(candidate).collect()
}

#[cfg(test)]
mod tests;
