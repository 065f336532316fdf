use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::Keys,
    record::{Id, Kind},
    text::Text,
    unit::Resources,
};

/// Most refused disks that a node's record names.
pub const MAX_DISK_REFUSALS: usize = 32;

/// A machine. Its id is founded by its first keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Node {
    /// The farm that it belongs to.
    pub farm: Id,
    /// Its keys.
    pub keys: Keys,
    /// What it offers for rent, with its own reserve taken off.
    pub capacity: Resources,
    /// Where its link may be reached; at most [`crate::body::MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// Maker and model of the machine, as it says of itself.
    pub hardware: Text<128>,
    /// Disks that it does not touch, and why; at most [`MAX_DISK_REFUSALS`].
    pub refused_disks: Vec<DiskRefusal>,
    /// Whether it may be rented.
    pub state: NodeState,
}

impl Node {
    /// The id that a node with these first keys has.
    #[must_use]
    pub fn founding_id(keys: &Keys) -> Id {
        Id::found(Kind::Node, keys)
    }
}

/// A disk that a node does not touch.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct DiskRefusal {
    /// The disk's serial number, or its name where it has none.
    pub disk: Text<64>,
    /// Why it is not touched.
    pub reason: Text<160>,
}

/// Whether a node may be rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// A member of its farm.
    Joined,
    /// Its farm has expelled it; nothing new may be agreed on it.
    Expelled,
}
