//! Sets: which live records of a kind belong to somebody or something, in the state tree, so that a proof of a set is complete.
//!
//! ```text
//! path  = first half of H("set", kind ‖ of) ‖ first half of the record's id
//! value = the record's id
//! ```

use crate::{
    hash::{Domain, Hash},
    index::{self, IndexKey},
    record::{Body, Id, Kind, Record},
    tree::{Change, Leaf, Region},
};

/// How many bytes of a path name the set; the others name the record.
const HALF: usize = 16;

/// The records of a kind that belong to somebody or something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    /// Kind of the records.
    pub kind: Kind,
    /// To whom or what they belong, as [`IndexKey::Of`] says.
    pub of: Id,
}

impl Set {
    /// Where its members are in the state tree.
    #[must_use]
    pub fn region(&self) -> Region {
        let mut path = *Hash::of(Domain::Set, &(self.kind, self.of)).as_bytes();
        path[HALF..].fill(0);
        Region {
            path: Hash::from_bytes(path),
            bits: 128,
        }
    }

    fn leaf(&self, id: Id) -> Leaf {
        let mut path = *self.region().path.as_bytes();
        path[HALF..].copy_from_slice(&id.hash().as_bytes()[..HALF]);
        (Hash::from_bytes(path), id.hash())
    }

    /// The members among leaves of its region. What is none is the leaf of something else that lies there by chance.
    #[must_use]
    pub fn members(&self, leaves: &[Leaf]) -> Vec<Id> {
        let ids = leaves.iter().map(|leaf| (Id::from_hash(leaf.1), leaf));
        ids.filter(|(id, leaf)| self.leaf(*id) == **leaf)
            .map(|(id, _)| id)
            .collect()
    }
}

/// The sets that a record is in: all to which it belongs while it is live. A contract that has ended is in none, and so is a
/// release that is given to no node.
#[must_use]
pub fn of(record: &Record) -> Vec<Set> {
    let live = match &record.body {
        Body::Contract(contract) => contract.ended().is_none(),
        Body::Release(release) => release.permille > 0,
        _ => true,
    };
    if !live {
        return Vec::new();
    }
    let sets = index::keys(record).into_iter().filter_map(|key| match key {
        IndexKey::Of { kind, of } => Some(Set { kind, of }),
        _ => None,
    });
    let mut sets: Vec<Set> = sets.collect();
    sets.sort();
    sets.dedup();
    sets
}

/// What a new version of a record changes in the state tree: its own leaf, and the sets that it enters and leaves.
#[must_use]
pub fn changes(before: Option<&Record>, after: &Record) -> Vec<Change> {
    let (old, new) = (before.map(of).unwrap_or_default(), of(after));
    let mut all = vec![(after.key().path(), Some(after.hash()))];
    let enters = new.iter().filter(|set| !old.contains(set));
    all.extend(
        enters
            .map(|set| set.leaf(after.id))
            .map(|(path, value)| (path, Some(value))),
    );
    let leaves = old.iter().filter(|set| !new.contains(set));
    all.extend(leaves.map(|set| (set.leaf(after.id).0, None)));
    all
}
