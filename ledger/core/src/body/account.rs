use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{hash::Hash, unit::Tokens};

/// Balance and next nonce of an entity or a node, under the id of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Account {
    /// What the owner may spend.
    pub balance: Tokens,
    /// Nonce that the owner's next transaction must carry.
    pub nonce: u64,
    /// Hash of the owner's last transaction, which used the nonce before; zeros before the first. It proves to the owner which
    /// of its transactions stands on the chain.
    pub last: Hash,
}
