//! Blocks and their headers.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    consensus::{Certificate, ValidatorSet},
    hash::{Domain, Hash},
    key::PublicKey,
    transaction::SignedTransaction,
    unit::{Height, Timestamp},
};

/// Most transactions in a block.
pub const MAX_TRANSACTIONS: usize = 2_000;

/// What validators certify about a block.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Header {
    /// Hash of the genesis.
    pub chain: Hash,
    /// Height, 1 for the first block.
    pub height: Height,
    /// Block time; later than the block before.
    pub time: Timestamp,
    /// Id of the block before; [`Hash::ZERO`] for the first.
    pub previous: Hash,
    /// Hash of the transactions.
    pub transactions: Hash,
    /// Root of the state tree after this block.
    pub state: Hash,
    /// Hash of the validator set that certifies this block.
    pub validators: Hash,
    /// Hash of the validator set that certifies the next one.
    pub next_validators: Hash,
    /// Key of the validator that proposed it.
    pub proposer: PublicKey,
}

impl Header {
    /// The block's id.
    #[must_use]
    pub fn id(&self) -> Hash {
        Hash::of(Domain::Header, self)
    }
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Block {
    /// The certified part.
    pub header: Header,
    /// In the order in which they are applied.
    pub transactions: Vec<SignedTransaction>,
}

impl Block {
    /// The hash of a list of transactions that a header carries.
    #[must_use]
    pub fn transactions_hash(transactions: &[SignedTransaction]) -> Hash {
        let hashes: Vec<Hash> = transactions.iter().map(SignedTransaction::hash).collect();
        Hash::of(Domain::Transactions, &hashes)
    }
}

/// A header with the certificate that proves it, as light clients receive it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CertifiedHeader {
    /// The header.
    pub header: Header,
    /// Proof by the set in force.
    pub certificate: Certificate,
    /// The set that certifies the next block, where this header hands over to another one.
    pub handover: Option<ValidatorSet>,
}
