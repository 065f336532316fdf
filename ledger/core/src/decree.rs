//! Decrees: how validators change who they are, and by which rules the chain goes on. Nobody else can.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::Upgrade,
    consensus::{CommitSignature, Validator},
    hash::Hash,
    key::{PublicKey, Purpose, SigningKey, signing_bytes},
    unit::Tokens,
};

/// Most changes in one decree: with the approvals of a hundred validators it still is a transaction.
pub const MAX_CHANGES: usize = 64;

/// One change of the charter.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A validator comes, or one that is there has another link key or power from now on.
    PutValidator(Validator),
    /// The validator with this key goes. With its next key put beside, it has changed its key.
    RemoveValidator(PublicKey),
    /// Another version of the rules is to hold from some height on, instead of one that was to come before.
    ScheduleUpgrade(Upgrade),
    /// No upgrade is to come.
    CancelUpgrade,
    /// Nodes attest at least once in so many milliseconds.
    AttestEvery(u64),
    /// So much is deposited for a name that is claimed from now on.
    NameDeposit(Tokens),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutValidator(Validator { key, link, power }) => {
                write!(f, "validator {key} has power {power} and link key {link}")
            }
            Self::RemoveValidator(key) => write!(f, "{key} is no validator any more"),
            Self::ScheduleUpgrade(Upgrade { protocol, from }) => {
                write!(f, "protocol {protocol} holds from block {from} on")
            }
            Self::CancelUpgrade => write!(f, "no upgrade is to come"),
            Self::AttestEvery(millis) => write!(f, "nodes attest at least every {millis} ms"),
            Self::NameDeposit(deposit) => write!(f, "a name is claimed with a deposit of {deposit} tokens"),
        }
    }
}

/// What validators sign to change the charter.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Decree {
    /// Hash of the version of the charter that it changes, so that it can be carried out once and on that version alone.
    pub previous: Hash,
    /// The changes, in their order.
    pub changes: Vec<Change>,
}

impl Decree {
    /// The bytes that approving validators sign.
    #[must_use]
    pub fn bytes(&self, chain: Hash) -> Vec<u8> {
        signing_bytes(Purpose::Decree, chain, self)
    }

    /// One validator's approval.
    #[must_use]
    pub fn approve(&self, chain: Hash, key: &SigningKey) -> CommitSignature {
        CommitSignature {
            validator: key.public(),
            signature: key.sign_bytes(&self.bytes(chain)),
        }
    }
}

/// A decree with the approvals of validators; it holds with those of more than two thirds of their power.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedDecree {
    /// What was signed.
    pub decree: Decree,
    /// Who approves, each at most once.
    pub approvals: Vec<CommitSignature>,
}
