//! The authenticated state: a compact sparse Merkle tree over blake3.
//!
//! Every record has a path of 256 bits, the hash of its key, and a leaf that holds the hash of its latest version. A subtree
//! with one leaf is that leaf, so the depth is about the logarithm of the number of records. Nodes are named by their hash and
//! never change: a new version of the tree shares what did not change with the one before, and every earlier root stays
//! provable for as long as its nodes are kept.
//!
//! ```text
//! leaf   = H("state leaf",   path ‖ value)
//! branch = H("state branch", left ‖ right)        bit 0 of the path at this depth goes left
//! empty  = 32 zero bytes
//! ```

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Domain, Hash},
    store::{Store, StoreError},
};

/// Deepest branch plus one: a proof has at most this many siblings.
pub const MAX_DEPTH: usize = 256;

/// A node of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub enum Node {
    /// A record.
    Leaf {
        /// The record's path.
        path: Hash,
        /// Hash of its latest version.
        value: Hash,
    },
    /// Two subtrees, one of which may be empty.
    Branch {
        /// Paths whose next bit is 0.
        left: Hash,
        /// Paths whose next bit is 1.
        right: Hash,
    },
}

impl Node {
    /// The node's name.
    #[must_use]
    pub fn hash(&self) -> Hash {
        match self {
            Self::Leaf { path, value } => Hash::of(Domain::StateLeaf, &(path, value)),
            Self::Branch { left, right } => Hash::of(Domain::StateBranch, &(left, right)),
        }
    }
}

/// A tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store failed.
    #[error("state tree")]
    Store(#[source] StoreError),
    /// A node that another one names is not there.
    #[error("state tree: node {0} is missing")]
    Missing(Hash),
}

fn load(store: &(impl Store + ?Sized), hash: &Hash) -> Result<Node, TreeError> {
    store
        .node(hash)
        .map_err(TreeError::Store)?
        .ok_or(TreeError::Missing(*hash))
}

/// A path and the value that it is to have.
pub type Change = (Hash, Hash);

/// Sets the values of `changes`, which are in ascending order of distinct paths. Returns the new root and the nodes that
/// the store does not have yet.
///
/// # Errors
/// [`TreeError`] when a node of the tree at `root` cannot be read.
pub fn update(
    store: &(impl Store + ?Sized),
    root: Hash,
    changes: &[Change],
) -> Result<(Hash, Vec<(Hash, Node)>), TreeError> {
    let mut made = Vec::new();
    let root = update_below(store, root, 0, changes, &mut made)?;
    Ok((root, made))
}

fn make(node: Node, made: &mut Vec<(Hash, Node)>) -> Hash {
    let hash = node.hash();
    made.push((hash, node));
    hash
}

fn update_below(
    store: &(impl Store + ?Sized),
    at: Hash,
    depth: u8,
    changes: &[Change],
    made: &mut Vec<(Hash, Node)>,
) -> Result<Hash, TreeError> {
    if changes.is_empty() {
        return Ok(at);
    }
    if at == Hash::ZERO {
        return Ok(build(depth, changes, made));
    }
    match load(store, &at)? {
        Node::Leaf { path, value } => {
            let mut all = changes.to_vec();
            if let Err(position) = all.binary_search_by_key(&path, |change| change.0) {
                all.insert(position, (path, value));
            }
            Ok(build(depth, &all, made))
        }
        Node::Branch { left, right } => {
            let (zeros, ones) = split(depth, changes);
            let left = update_below(store, left, depth.saturating_add(1), zeros, made)?;
            let right = update_below(store, right, depth.saturating_add(1), ones, made)?;
            Ok(make(Node::Branch { left, right }, made))
        }
    }
}

/// Changes in ascending order, parted by the bit at `depth`: they share all bits before it.
fn split(depth: u8, changes: &[Change]) -> (&[Change], &[Change]) {
    changes.split_at(changes.partition_point(|(path, _)| !path.bit(depth)))
}

/// Builds the subtree of leaves alone.
fn build(depth: u8, leaves: &[Change], made: &mut Vec<(Hash, Node)>) -> Hash {
    match leaves {
        [] => Hash::ZERO,
        [(path, value)] => make(
            Node::Leaf {
                path: *path,
                value: *value,
            },
            made,
        ),
        _ => {
            let (zeros, ones) = split(depth, leaves);
            let left = build(depth.saturating_add(1), zeros, made);
            let right = build(depth.saturating_add(1), ones, made);
            make(Node::Branch { left, right }, made)
        }
    }
}

/// Proof of what stands at a path under a root, or that nothing does.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proof {
    /// Hashes beside the way from the root to the end, the root's child first.
    pub siblings: Vec<Hash>,
    /// What the way ends in: a leaf's path and value, or nothing.
    pub end: Option<(Hash, Hash)>,
}

/// A proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More siblings than a path has bits.
    #[error("proof is deeper than a path")]
    TooDeep,
    /// It ends in a leaf that does not lie on the way to the path.
    #[error("proof ends in a leaf of another subtree")]
    WrongSubtree,
    /// It leads to another root.
    #[error("proof leads to root {actual}, expected {expected}")]
    WrongRoot {
        /// The root that the proof leads to.
        actual: Hash,
        /// The trusted root.
        expected: Hash,
    },
}

/// Makes the proof of what stands at `path` under `root`.
///
/// # Errors
/// [`TreeError`] when a node cannot be read.
pub fn prove(store: &(impl Store + ?Sized), root: Hash, path: Hash) -> Result<Proof, TreeError> {
    let mut siblings = Vec::new();
    let mut at = root;
    for depth in 0..=u8::MAX {
        if at == Hash::ZERO {
            return Ok(Proof { siblings, end: None });
        }
        match load(store, &at)? {
            Node::Leaf { path, value } => {
                return Ok(Proof {
                    siblings,
                    end: Some((path, value)),
                });
            }
            Node::Branch { left, right } => {
                let (next, sibling) = if path.bit(depth) { (right, left) } else { (left, right) };
                siblings.push(sibling);
                at = next;
            }
        }
    }
    match load(store, &at)? {
        Node::Leaf { path, value } => Ok(Proof {
            siblings,
            end: Some((path, value)),
        }),
        Node::Branch { .. } => Err(TreeError::Missing(at)),
    }
}

impl Proof {
    /// Checks the proof against a trusted root. Gives the value at `path`, or `None` where it is proven that there is none.
    ///
    /// # Errors
    /// [`ProofError`] names the check that failed.
    pub fn verify(&self, root: Hash, path: Hash) -> Result<Option<Hash>, ProofError> {
        if self.siblings.len() > MAX_DEPTH {
            return Err(ProofError::TooDeep);
        }
        let bits = || (0..=u8::MAX).take(self.siblings.len());
        let (mut hash, value) = match self.end {
            None => (Hash::ZERO, None),
            Some((leaf, value)) => {
                if bits().any(|depth| leaf.bit(depth) != path.bit(depth)) {
                    return Err(ProofError::WrongSubtree);
                }
                (Node::Leaf { path: leaf, value }.hash(), (leaf == path).then_some(value))
            }
        };
        for (depth, sibling) in bits().zip(&self.siblings).rev() {
            let (left, right) = if path.bit(depth) {
                (*sibling, hash)
            } else {
                (hash, *sibling)
            };
            hash = Node::Branch { left, right }.hash();
        }
        if hash == root {
            Ok(value)
        } else {
            Err(ProofError::WrongRoot {
                actual: hash,
                expected: root,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::MemoryStore;

    fn path(n: u16) -> Hash {
        Hash::of(Domain::StatePath, &n)
    }

    fn set(store: &mut MemoryStore, root: Hash, values: &BTreeMap<Hash, Hash>) -> Hash {
        let changes: Vec<Change> = values.iter().map(|(path, value)| (*path, *value)).collect();
        let (root, made) = update(store, root, &changes).unwrap();
        store.nodes.extend(made);
        root
    }

    proptest! {
        #[test]
        fn the_root_depends_on_the_content_alone_and_every_path_is_provable(
            entries in proptest::collection::btree_map(0_u16..400, any::<u8>(), 0..60),
            cut in 0_usize..60,
        ) {
            let all: BTreeMap<Hash, Hash> =
                entries.iter().map(|(k, v)| (path(*k), Hash::from_bytes([*v; 32]))).collect();
            let mut store = MemoryStore::default();
            let at_once = set(&mut store, Hash::ZERO, &all);
            let first = all.iter().take(cut).map(|(k, _)| (*k, Hash::from_bytes([0xee; 32]))).collect();
            let in_steps = set(&mut store, Hash::ZERO, &first);
            let in_steps = set(&mut store, in_steps, &all);
            prop_assert_eq!(at_once, in_steps);
            for n in 0_u16..400 {
                let proof = prove(&store, at_once, path(n)).unwrap();
                prop_assert_eq!(proof.verify(at_once, path(n)), Ok(all.get(&path(n)).copied()));
            }
        }
    }

    #[test]
    fn a_proof_cannot_be_turned_into_another() {
        let mut store = MemoryStore::default();
        let values: BTreeMap<Hash, Hash> = (0..50).map(|n| (path(n), path(n + 1_000))).collect();
        let root = set(&mut store, Hash::ZERO, &values);
        let proof = prove(&store, root, path(7)).unwrap();
        assert!(matches!(
            proof.verify(Hash::ZERO, path(7)),
            Err(ProofError::WrongRoot { .. })
        ));
        let hidden = Proof {
            end: None,
            ..proof.clone()
        };
        assert!(matches!(
            hidden.verify(root, path(7)),
            Err(ProofError::WrongRoot { .. })
        ));
        let altered = Proof {
            end: Some((path(7), path(8))),
            ..proof.clone()
        };
        assert!(matches!(
            altered.verify(root, path(7)),
            Err(ProofError::WrongRoot { .. })
        ));
        let other = prove(&store, root, path(8)).unwrap();
        assert!(other.verify(root, path(7)).is_err());
        let deep = Proof {
            siblings: vec![Hash::ZERO; 257],
            ..proof
        };
        assert_eq!(deep.verify(root, path(7)), Err(ProofError::TooDeep));
    }
}
