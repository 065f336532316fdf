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

mod below;
#[cfg(test)]
mod tests;

pub use below::{Region, RegionProof, prove_below};

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

/// A path and the value that it is to have; `None` takes the leaf away.
pub type Change = (Hash, Option<Hash>);
/// A path and its value.
pub type Leaf = (Hash, Hash);

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
    Ok((root.hash, made))
}

/// A subtree as a change leaves it.
#[derive(Debug, Clone, Copy)]
struct Subtree {
    hash: Hash,
    /// Whether it is a leaf; not known of one that did not change.
    is_leaf: Option<bool>,
}

impl Subtree {
    fn is_leaf(&self, store: &(impl Store + ?Sized)) -> Result<bool, TreeError> {
        match self.is_leaf {
            Some(is_leaf) => Ok(is_leaf),
            None => Ok(matches!(load(store, &self.hash)?, Node::Leaf { .. })),
        }
    }
}

fn make(node: Node, made: &mut Vec<(Hash, Node)>) -> Subtree {
    let hash = node.hash();
    made.push((hash, node));
    Subtree {
        hash,
        is_leaf: Some(matches!(node, Node::Leaf { .. })),
    }
}

fn update_below(
    store: &(impl Store + ?Sized),
    at: Hash,
    depth: u8,
    changes: &[Change],
    made: &mut Vec<(Hash, Node)>,
) -> Result<Subtree, TreeError> {
    if changes.is_empty() {
        return Ok(Subtree {
            hash: at,
            is_leaf: None,
        });
    }
    let set = |(path, value): &Change| value.map(|value| (*path, value));
    if at == Hash::ZERO {
        let leaves: Vec<Leaf> = changes.iter().filter_map(set).collect();
        return Ok(build(depth, &leaves, made));
    }
    match load(store, &at)? {
        Node::Leaf { path, value } => {
            let mut all = changes.to_vec();
            if let Err(position) = all.binary_search_by_key(&path, |change| change.0) {
                all.insert(position, (path, Some(value)));
            }
            let leaves: Vec<Leaf> = all.iter().filter_map(set).collect();
            Ok(build(depth, &leaves, made))
        }
        Node::Branch { left, right } => {
            let (zeros, ones) = split(depth, changes);
            let left = update_below(store, left, depth.saturating_add(1), zeros, made)?;
            let right = update_below(store, right, depth.saturating_add(1), ones, made)?;
            // A leaf that is alone stands as high as it can.
            match (left.hash == Hash::ZERO, right.hash == Hash::ZERO) {
                (true, true) => return Ok(left),
                (true, false) if right.is_leaf(store)? => return Ok(right),
                (false, true) if left.is_leaf(store)? => return Ok(left),
                _ => {}
            }
            let (left, right) = (left.hash, right.hash);
            Ok(make(Node::Branch { left, right }, made))
        }
    }
}

/// In ascending order of the paths.
type Ordered<'a, V> = &'a [(Hash, V)];

/// Parts by the bit at `depth` what shares the bits before it.
fn split<V>(depth: u8, all: Ordered<'_, V>) -> (Ordered<'_, V>, Ordered<'_, V>) {
    all.split_at(all.partition_point(|(path, _)| !path.bit(depth)))
}

/// Builds the subtree of leaves alone.
fn build(depth: u8, leaves: &[Leaf], made: &mut Vec<(Hash, Node)>) -> Subtree {
    match leaves {
        [] => Subtree {
            hash: Hash::ZERO,
            is_leaf: Some(false),
        },
        [(path, value)] => make(
            Node::Leaf {
                path: *path,
                value: *value,
            },
            made,
        ),
        _ => {
            let (zeros, ones) = split(depth, leaves);
            let left = build(depth.saturating_add(1), zeros, made).hash;
            let right = build(depth.saturating_add(1), ones, made).hash;
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
    /// It proves less of the tree than was asked for.
    #[error("proof is of a part of what was asked for")]
    Part,
    /// Its leaves are not in ascending order.
    #[error("proof has leaves out of order")]
    Unordered,
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
        let (hash, value) = match self.end {
            None => (Hash::ZERO, None),
            Some((leaf, value)) => {
                if bits().any(|depth| leaf.bit(depth) != path.bit(depth)) {
                    return Err(ProofError::WrongSubtree);
                }
                (Node::Leaf { path: leaf, value }.hash(), (leaf == path).then_some(value))
            }
        };
        check_way(root, path, hash, &self.siblings)?;
        Ok(value)
    }
}

/// Checks that a subtree lies where `path` leads through these siblings from `root`.
fn check_way(root: Hash, path: Hash, subtree: Hash, siblings: &[Hash]) -> Result<(), ProofError> {
    let mut actual = subtree;
    for (depth, sibling) in (0..=u8::MAX).take(siblings.len()).zip(siblings).rev() {
        let (left, right) = if path.bit(depth) {
            (*sibling, actual)
        } else {
            (actual, *sibling)
        };
        actual = Node::Branch { left, right }.hash();
    }
    if actual == root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot { actual, expected: root })
    }
}
