use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::Hash,
    record::{Id, Kind},
    text::Text,
};

/// What runs in a micro-VM. Its id is founded by its owner and name, so a new push is a new version.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Image {
    /// The entity that published it.
    pub owner: Id,
    /// Name and tag, for people.
    pub name: Text<128>,
    /// The root file system, a squashfs.
    pub root: Blob,
    /// The OCI image configuration, JSON.
    pub config: Blob,
}

impl Image {
    /// The id of the image that `owner` publishes under `name`.
    #[must_use]
    pub fn founding_id(owner: Id, name: &Text<128>) -> Id {
        Id::found(Kind::Image, &(owner, name))
    }
}

/// Content that is fetched from any peer that has it, verified by its hash.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Blob {
    /// Plain blake3 hash of the content.
    pub hash: Hash,
    /// Length in bytes.
    pub size: u64,
}

impl Blob {
    /// Names content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self {
            hash: Hash::from_bytes(*blake3::hash(content).as_bytes()),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
        }
    }
}
