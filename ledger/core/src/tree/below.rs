//! All that stands in a part of the tree, proven to be all.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{Hash, Leaf, Node, ProofError, TreeError, build, check_way, load};
use crate::store::Store;

/// The paths that begin with some bits.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Region {
    /// A path in it.
    pub path: Hash,
    /// How many of its bits all of them share.
    pub bits: u8,
}

impl Region {
    /// Whether a path begins with the same bits.
    #[must_use]
    pub fn contains(&self, path: &Hash) -> bool {
        (0..self.bits).all(|depth| path.bit(depth) == self.path.bit(depth))
    }

    /// Its two halves; none of one that is as small as can be asked for.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        let bits = self.bits.checked_add(1)?;
        let half = |one: bool| {
            let mut path = *self.path.as_bytes();
            let (byte, bit) = (usize::from(self.bits / 8), 0x80 >> (self.bits % 8));
            path[byte] = if one { path[byte] | bit } else { path[byte] & !bit };
            Self {
                path: Hash::from_bytes(path),
                bits,
            }
        };
        Some([half(false), half(true)])
    }
}

/// Proof of all leaves in a region.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RegionProof {
    /// Hashes beside the way from the root to the smallest subtree that is proven, the root's child first.
    pub siblings: Vec<Hash>,
    /// All leaves of that subtree, in ascending order of their paths.
    pub leaves: Vec<Leaf>,
}

/// Makes the proof of all leaves in `region` under `root`; nothing if there are more than `most`.
///
/// # Errors
/// [`TreeError`] when a node cannot be read.
pub fn prove_below(
    store: &(impl Store + ?Sized),
    root: Hash,
    region: Region,
    most: usize,
) -> Result<Option<RegionProof>, TreeError> {
    let mut siblings = Vec::new();
    let mut at = root;
    for depth in 0..region.bits {
        if at == Hash::ZERO {
            break;
        }
        let Node::Branch { left, right } = load(store, &at)? else {
            break;
        };
        let (next, sibling) = if region.path.bit(depth) {
            (right, left)
        } else {
            (left, right)
        };
        siblings.push(sibling);
        at = next;
    }
    let mut leaves = Vec::new();
    if !collect(store, at, most, &mut leaves)? {
        return Ok(None);
    }
    // Branches with nothing beside the way follow from the leaves.
    while !leaves.is_empty() && siblings.last() == Some(&Hash::ZERO) {
        siblings.pop();
    }
    Ok(Some(RegionProof { siblings, leaves }))
}

/// Gathers the leaves below a node in ascending order. Says whether these are all.
fn collect(store: &(impl Store + ?Sized), root: Hash, most: usize, leaves: &mut Vec<Leaf>) -> Result<bool, TreeError> {
    let mut waiting = vec![root];
    while let Some(at) = waiting.pop() {
        if at == Hash::ZERO {
            continue;
        }
        match load(store, &at)? {
            Node::Leaf { .. } if leaves.len() >= most => return Ok(false),
            Node::Leaf { path, value } => leaves.push((path, value)),
            Node::Branch { left, right } => waiting.extend([right, left]),
        }
    }
    Ok(true)
}

impl RegionProof {
    /// Checks the proof against a trusted root. Gives all leaves in `region`, in ascending order of their paths.
    ///
    /// # Errors
    /// [`ProofError`] names the check that failed.
    pub fn verify(self, root: Hash, region: Region) -> Result<Vec<Leaf>, ProofError> {
        let Ok(bits) = u8::try_from(self.siblings.len()) else {
            return Err(ProofError::TooDeep);
        };
        if bits > region.bits {
            return Err(ProofError::Part);
        }
        let proven = Region { bits, ..region };
        if !self.leaves.iter().all(|(path, _)| proven.contains(path)) {
            return Err(ProofError::WrongSubtree);
        }
        if !self.leaves.is_sorted_by(|(before, _), (after, _)| before < after) {
            return Err(ProofError::Unordered);
        }
        let subtree = build(bits, &self.leaves, &mut Vec::new()).hash;
        check_way(root, region.path, subtree, &self.siblings)?;
        let mut leaves = self.leaves;
        leaves.retain(|(path, _)| region.contains(path));
        Ok(leaves)
    }
}
