//! Why a transaction is refused.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::{Id, RecordKey};

/// Why a transaction is refused. A refused transaction has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "code", content = "detail", rename_all = "kebab-case")]
pub enum Refusal {
    /// No entity, node or validator has this id.
    #[error("author {0} is no entity, node or validator")]
    UnknownAuthor(Id),
    /// The signature is not the author's for this chain.
    #[error("signature is not the author's for this chain")]
    BadSignature,
    /// The nonce was used already: the transaction is a replay, or another one came first.
    #[error("nonce {given} was used already, the next one is {expected}")]
    NonceUsed {
        /// Nonce of the transaction.
        given: u64,
        /// Nonce that is next.
        expected: u64,
    },
    /// Transactions before this one are missing.
    #[error("nonce {given} is ahead, the next one is {expected}")]
    NonceAhead {
        /// Nonce of the transaction.
        given: u64,
        /// Nonce that is next.
        expected: u64,
    },
    /// The id of a new record is not the one that its content founds.
    #[error("author {given} is not the id {expected} that the record's keys found")]
    WrongId {
        /// Author of the transaction.
        given: Id,
        /// Id that the keys found.
        expected: Id,
    },
    /// There is such a record already.
    #[error("{0} exists already")]
    Exists(RecordKey),
    /// There is no such record.
    #[error("{0} does not exist")]
    Missing(RecordKey),
    /// The author may not do this.
    #[error("author {0} may not do this: {1}")]
    NotAllowed(Id, String),
    /// A field is out of its bounds.
    #[error("{0}")]
    Invalid(String),
    /// The author's balance is too small.
    #[error("balance {balance} is less than {needed} micro-tokens")]
    Funds {
        /// What there is, in micro-tokens.
        balance: u64,
        /// What is needed, in micro-tokens.
        needed: u64,
    },
    /// New keys are not proven, or whoever must consent to them did not.
    #[error("keys: {0}")]
    Keys(String),
    /// The farm did not consent to the node.
    #[error("enrolment: {0}")]
    Enrolment(String),
    /// The node has not enough free capacity or too many contracts.
    #[error("capacity: {0}")]
    Capacity(String),
    /// A party's signature under the agreement does not verify.
    #[error("the {0}'s signature under the agreement does not verify")]
    AgreementSignature(String),
    /// The agreement does not fit what stands on the chain.
    #[error("agreement: {0}")]
    Agreement(String),
    /// The contract is in a state in which this cannot be done.
    #[error("contract is {state}: {reason}")]
    State {
        /// The contract's state.
        state: String,
        /// Why not.
        reason: String,
    },
    /// The keys of a release channel do not stand behind it, or it does not fit the channel.
    #[error("release: {0}")]
    Release(String),
    /// The decree does not hold, or does not fit the charter.
    #[error("decree: {0}")]
    Decree(String),
    /// What is reported proves no misconduct.
    #[error("misconduct: {0}")]
    Misconduct(String),
}
