//! What two bots agree on, signed by both.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{Blob, SettlementRule},
    hash::{Domain, Hash},
    key::{Purpose, Signature, SigningKey},
    record::Id,
    unit::{Resources, Timestamp, Tokens},
};

/// What two bots agree on. Its hash is the contract's id.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Agreement {
    /// Who pays.
    pub customer: Id,
    /// Who is paid: the owner of the farm.
    pub farmer: Id,
    /// The terms that the offer was made under, and the version of them that both saw.
    pub terms: (Id, Hash),
    /// The node that is to do it.
    pub node: Id,
    /// What it reserves.
    pub resources: Resources,
    /// Negotiated price of one period.
    pub price: Tokens,
    /// Number of periods.
    pub periods: u32,
    /// How many of them the customer pays into escrow with the agreement. The others are to be paid in before they begin.
    pub deposit: u32,
    /// How each period is settled; the rule of the terms.
    pub rule: SettlementRule,
    /// The image and the version of it that runs.
    pub image: (Id, Hash),
    /// What the workload needs to run, sealed to node and customer. The hash is of the ciphertext.
    pub sealed: Blob,
    /// Time after which it may no longer be put on the chain.
    pub valid_until: Timestamp,
    /// Chosen at random by the customer, so that equal agreements are distinct.
    pub salt: [u8; 16],
}

impl Agreement {
    /// The id of the contract that this makes.
    #[must_use]
    pub fn contract_id(&self) -> Id {
        Id::from_hash(self.hash())
    }

    /// Names the agreement.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Agreement, self)
    }

    /// The price of so many periods, or `None` where it is not representable.
    #[must_use]
    pub fn price_of(&self, periods: u32) -> Option<Tokens> {
        self.price.checked_mul(periods)
    }

    /// One party's signature.
    #[must_use]
    pub fn sign(&self, chain: Hash, key: &SigningKey) -> Signature {
        key.sign(Purpose::Agreement, chain, self)
    }
}

/// An agreement with both signatures.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedAgreement {
    /// What was agreed.
    pub agreement: Agreement,
    /// The customer's signature.
    pub customer: Signature,
    /// The farmer's signature.
    pub farmer: Signature,
}

/// What both parties put in the place of what they agreed before: more periods, other resources, image, workload or price.
/// Parties, node, terms and rule stay. A higher price counts for the running period already, a lower one from the next on.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Amendment {
    /// The contract.
    pub contract: Id,
    /// Which amendment of the contract this is, from 1, so that it can be used once.
    pub number: u32,
    /// Hash of the agreement that this replaces.
    pub replaces: Hash,
    /// What is agreed from now on. Its deposit counts all periods that are paid in then, with those that are settled.
    pub agreement: Agreement,
}

impl Amendment {
    /// One party's signature.
    #[must_use]
    pub fn sign(&self, chain: Hash, key: &SigningKey) -> Signature {
        key.sign(Purpose::Amendment, chain, self)
    }
}

/// An amendment with both signatures.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedAmendment {
    /// What was agreed.
    pub amendment: Amendment,
    /// The customer's signature.
    pub customer: Signature,
    /// The farmer's signature.
    pub farmer: Signature,
}
