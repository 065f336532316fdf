//! What bots say to each other.

use borsh::{BorshDeserialize, BorshSerialize};
use ledger::{
    Agreement, Amendment, Hash, Id, Resources, Signature, Timestamp, Tokens,
    body::{Blob, SettlementRule},
    text::Text,
};

/// Longest message in bytes; the longest is an offer of some 500.
pub const MAX_MESSAGE: usize = 2 * 1024;

/// Why a side declines, one line for people.
pub type Reason = Text<200>;

/// One message of the protocol `zos/bot/1`.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Message {
    /// Customer: what it wants.
    Request(Request),
    /// Farmer: what it would sign.
    Offer {
        /// The draft, complete but for the signatures.
        agreement: Agreement,
        /// Whether its price is as low as this farmer goes.
        last: bool,
    },
    /// Customer: another price for one period.
    Counter {
        /// The price.
        price: Tokens,
    },
    /// Customer: agrees to the last offer.
    Accept {
        /// Its signature under the agreement.
        signature: Signature,
    },
    /// Farmer: agrees as well.
    Signed {
        /// Its signature under the agreement.
        signature: Signature,
    },
    /// Either side ends it.
    Reject {
        /// Why.
        reason: Reason,
    },
    /// Customer: what it wants in the place of what runs. Answered by [`Self::Signed`] or [`Self::Reject`].
    Amend(Amendment),
}

/// What a customer wants from a farmer: all of the agreement but price and validity.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Request {
    /// Who asks.
    pub customer: Id,
    /// The terms and the version of them that the customer saw.
    pub terms: (Id, Hash),
    /// The node that is to do it.
    pub node: Id,
    /// What it is to reserve.
    pub resources: Resources,
    /// For how many periods.
    pub periods: u32,
    /// How many of them it pays in with the agreement.
    pub deposit: u32,
    /// The image and its version.
    pub image: (Id, Hash),
    /// The sealed workload.
    pub sealed: Blob,
    /// Drawn by the customer, so that equal agreements are distinct.
    pub salt: [u8; 16],
}

impl Request {
    /// The agreement that this becomes.
    #[must_use]
    pub fn agreement(&self, farmer: Id, rule: SettlementRule, price: Tokens, valid_until: Timestamp) -> Agreement {
        Agreement {
            customer: self.customer,
            farmer,
            terms: self.terms,
            node: self.node,
            resources: self.resources,
            price,
            periods: self.periods,
            deposit: self.deposit,
            rule,
            image: self.image,
            sealed: self.sealed,
            valid_until,
            salt: self.salt,
        }
    }
}
