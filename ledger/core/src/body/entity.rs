use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    key::PublicKey,
    record::{Id, Kind},
    text::Text,
};

/// Most addresses at which an entity or a node says it can be reached.
pub const MAX_ADDRESSES: usize = 8;

/// The separate keys of an entity or a node. Each may be replaced by a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Keys {
    /// Ed25519 key that signs transactions and agreements.
    pub signing: PublicKey,
    /// Ed25519 key of its peer link.
    pub link: PublicKey,
    /// X25519 key to which secrets are sealed.
    pub encryption: PublicKey,
}

/// A person or an organisation, represented by a 3bot. Its id is founded by its first keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Entity {
    /// Its keys.
    pub keys: Keys,
    /// A name for people; not unique.
    pub name: Text<64>,
    /// Where its 3bot's link may be reached; at most [`MAX_ADDRESSES`].
    pub addresses: Vec<SocketAddr>,
    /// Ed25519 key that replaces the keys when they are lost or another has them, and nothing else.
    #[serde(default)]
    pub recovery: Option<PublicKey>,
}

impl Entity {
    /// The id that this entity has when this is its first version.
    #[must_use]
    pub fn founding_id(&self) -> Id {
        Id::found(Kind::Entity, &self.keys)
    }

    /// The id by which a recovery key is the author of transactions. It has a nonce of its own, which whoever has the other
    /// keys cannot use up.
    #[must_use]
    pub fn recovery_author(key: &PublicKey) -> Id {
        Id::found(Kind::Account, key)
    }
}
