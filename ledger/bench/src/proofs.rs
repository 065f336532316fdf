//! Proofs of contracts among many records.

use ledger::{Hash, Record, light::RecordProof, store::MemoryStore, tree};

/// Numbers of records among which proofs are looked at, with their names.
pub const SIZES: [(usize, &str); 3] = [(1_000, "1e3"), (100_000, "1e5"), (1_000_000, "1e6")];

/// Some records among many others.
#[derive(Debug)]
pub struct State {
    store: MemoryStore,
    /// The root that proofs lead to.
    pub root: Hash,
}

impl State {
    /// `records` among as many others that there are `size` in all. Of the others there is only what a tree needs.
    ///
    /// # Panics
    /// Never: an empty tree has nothing to read.
    #[must_use]
    pub fn new(records: &[Record], size: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let mut hash = || {
            let mut bytes = [0; 32];
            random.fill(&mut bytes);
            Hash::from_bytes(bytes)
        };
        let mut leaves: Vec<tree::Change> = (records.len()..size).map(|_| (hash(), Some(hash()))).collect();
        leaves.extend(records.iter().map(|record| (record.key().path(), Some(record.hash()))));
        leaves.sort_unstable();
        let mut store = MemoryStore::default();
        let (root, nodes) = tree::update(&store, Hash::ZERO, &leaves).expect("an empty tree has nothing to read");
        store.nodes.extend(nodes);
        Self { store, root }
    }

    /// A record with its proof, as peers send it.
    ///
    /// # Panics
    /// Never: the tree is whole.
    #[must_use]
    pub fn prove(&self, record: &Record) -> RecordProof {
        RecordProof {
            record: Some(record.clone()),
            proof: tree::prove(&self.store, self.root, record.key().path()).expect("the tree is whole"),
        }
    }
}
