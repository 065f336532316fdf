use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::Keys,
    query::State,
    record::{Id, Kind},
    text::Text,
    unit::{Resources, Timestamp},
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
    /// Whether it is heard of, and may be rented.
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

/// Whether a node is heard of, and may be rented.
///
/// ```text
///          attests            silent              silent for long
/// Joined ─────────► Active ─────────► Degraded ───────────────────► Gone
///    │ silent          ▲ └──┐ attests    ▲ │ attests                  │ attests
///    └─────────────────┼────┘            │ │                          │
///                      └─────────────────┼─┴──────────────────────────┘
///                       (Joined ─────────┘)        any, by its farm ──► Expelled
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum NodeState {
    /// A member of its farm that has not attested yet.
    Joined {
        /// Time by which it must.
        until: Timestamp,
    },
    /// It attests.
    Active {
        /// When it did last.
        seen: Timestamp,
        /// Time by which it must again.
        until: Timestamp,
    },
    /// It did not attest in time; nothing new may be agreed on it.
    Degraded {
        /// Since when.
        since: Timestamp,
        /// Time from which it counts as gone.
        until: Timestamp,
    },
    /// It has not attested for long; nothing new may be agreed on it.
    Gone {
        /// Since when.
        since: Timestamp,
    },
    /// Its farm has expelled it; nothing new may be agreed on it.
    Expelled,
}

impl NodeState {
    /// Whether something new may be agreed on it.
    #[must_use]
    pub const fn is_rentable(&self) -> bool {
        matches!(self, Self::Joined { .. } | Self::Active { .. })
    }

    /// The next time at which a rule changes it, if it stays silent.
    #[must_use]
    pub const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Joined { until } | Self::Active { until, .. } | Self::Degraded { until, .. } => Some(*until),
            Self::Gone { .. } | Self::Expelled => None,
        }
    }

    /// When the node is to attest: at once, or when half of the time that it has is over. Never if it was expelled.
    #[must_use]
    pub fn attests_at(&self) -> Option<Timestamp> {
        match self {
            Self::Active { seen, until } => Some(seen.plus(until.since(*seen) / 2)),
            Self::Joined { .. } | Self::Degraded { .. } | Self::Gone { .. } => Some(Timestamp::default()),
            Self::Expelled => None,
        }
    }

    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        State::from(self).name()
    }
}
