//! What the state machine reads. Where it comes from is the caller's care.

use std::collections::BTreeMap;

use crate::{
    block::Header,
    hash::Hash,
    index,
    machine::Outcome,
    record::{Record, RecordKey},
    tree::Node,
    unit::{Height, Timestamp},
};

/// The place where records are kept has failed.
#[derive(Debug, thiserror::Error)]
#[error("read the ledger's store")]
pub struct StoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The state after the last committed block.
pub trait Store {
    /// The latest version of a record.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails; never for a record that does not exist.
    fn latest(&self, key: &RecordKey) -> Result<Option<Record>, StoreError>;

    /// A node of the state tree.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    fn node(&self, hash: &Hash) -> Result<Option<Node>, StoreError>;

    /// The header of a committed block.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    fn header(&self, height: Height) -> Result<Option<Header>, StoreError>;

    /// Records whose [`index::due`] is at or before `until`: the earliest first, those of one time in the order of their keys,
    /// at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError>;
}

/// A store in memory, for tests and tools.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore {
    /// Latest version of each record.
    pub latest: BTreeMap<RecordKey, Record>,
    /// Every version by its hash.
    pub versions: BTreeMap<Hash, Record>,
    /// Nodes of the state tree.
    pub nodes: BTreeMap<Hash, Node>,
    /// Headers by height.
    pub headers: BTreeMap<Height, Header>,
    /// Root of the state tree.
    pub root: Hash,
}

impl MemoryStore {
    /// Takes over what a block or the genesis changed.
    pub fn absorb(&mut self, outcome: Outcome) {
        for record in outcome.records {
            self.versions.insert(record.hash(), record.clone());
            self.latest.insert(record.key(), record);
        }
        self.nodes.extend(outcome.nodes);
        self.root = outcome.root;
    }
}

impl Store for MemoryStore {
    fn latest(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        Ok(self.latest.get(key).cloned())
    }

    fn node(&self, hash: &Hash) -> Result<Option<Node>, StoreError> {
        Ok(self.nodes.get(hash).copied())
    }

    fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        Ok(self.headers.get(&height).cloned())
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        let times = self
            .latest
            .values()
            .filter_map(|record| Some((index::due(record)?, record.key())));
        let mut due: Vec<(Timestamp, RecordKey)> = times.filter(|(time, _)| *time <= until).collect();
        due.sort();
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }
}
