//! What answers look like in JSON. Hashes, ids and keys are lower-case hexadecimal digits, times milliseconds since 1970, money
//! micro-tokens; integers have up to 64 bits.

use ledger::{
    Certificate, Hash, Header, Height, Id, PublicKey, Record, SignedTransaction, Timestamp, Tokens, ValidatorSet,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One version of a record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Record)]
pub(crate) struct RecordView {
    /// Kind of the record.
    #[schema(example = "contract")]
    kind: &'static str,
    /// Names the record; the same in every version.
    #[schema(value_type = String)]
    id: Id,
    /// 1 for the first, one more with each change.
    version: u64,
    /// Hash of this version.
    #[schema(value_type = String)]
    hash: Hash,
    /// Hash of the version before; zeros for the first.
    #[schema(value_type = String)]
    previous: Hash,
    /// Whose transaction made this version; zeros where a rule did.
    #[schema(value_type = String)]
    author: Id,
    /// Height of the block that made it; 0 for the genesis.
    height: Height,
    /// What it says: one field, named by the kind.
    #[schema(value_type = Object)]
    body: Value,
}

impl RecordView {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            kind: record.body.kind().name(),
            id: record.id,
            version: record.version,
            hash: record.hash(),
            previous: record.previous,
            author: record.author,
            height: record.height,
            body: serde_json::to_value(&record.body).unwrap_or_default(),
        }
    }
}

/// A block's certified part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Header)]
pub(crate) struct HeaderView {
    /// Names the block.
    #[schema(value_type = String)]
    pub(crate) id: Hash,
    /// Hash of the genesis.
    #[schema(value_type = String)]
    chain: Hash,
    /// 1 for the first block.
    pub(crate) height: Height,
    /// Block time in milliseconds since 1970.
    #[schema(value_type = u64)]
    time: Timestamp,
    /// Id of the block before; zeros for the first.
    #[schema(value_type = String)]
    previous: Hash,
    /// Hash of the transactions.
    #[schema(value_type = String)]
    transactions_hash: Hash,
    /// Root of the state tree after the block.
    #[schema(value_type = String)]
    state: Hash,
    /// Hash of the validator set that certifies the block.
    #[schema(value_type = String)]
    validators: Hash,
    /// Hash of the set that certifies the next one.
    #[schema(value_type = String)]
    next_validators: Hash,
    /// Key of the validator that proposed it.
    #[schema(value_type = String)]
    proposer: PublicKey,
}

impl HeaderView {
    pub(crate) fn of(header: &Header) -> Self {
        Self {
            id: header.id(),
            chain: header.chain,
            height: header.height,
            time: header.time,
            previous: header.previous,
            transactions_hash: header.transactions,
            state: header.state,
            validators: header.validators,
            next_validators: header.next_validators,
            proposer: header.proposer,
        }
    }
}

/// The precommits that certify a block.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Certificate)]
pub(crate) struct CertificateView {
    /// Round in which it was decided, from 0.
    round: u32,
    /// Keys of the validators that signed.
    #[schema(value_type = Vec<String>)]
    signed: Vec<PublicKey>,
}

impl CertificateView {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        Self {
            round: certificate.round,
            signed: certificate
                .signatures
                .iter()
                .map(|signature| signature.validator)
                .collect(),
        }
    }
}

/// A signed transaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub(crate) struct TransactionView {
    /// Names the transaction.
    #[schema(value_type = String)]
    hash: Hash,
    /// Who signed it.
    #[schema(value_type = String)]
    author: Id,
    /// The author's number of it, from 0.
    nonce: u64,
    /// What it does: one field, named by what, or that name alone.
    #[schema(value_type = Object)]
    operation: Value,
}

impl TransactionView {
    pub(crate) fn of(signed: &SignedTransaction) -> Self {
        Self {
            hash: signed.hash(),
            author: signed.transaction.author,
            nonce: signed.transaction.nonce,
            operation: serde_json::to_value(&signed.transaction.operation).unwrap_or_default(),
        }
    }
}

/// One validator.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Validator)]
pub(crate) struct ValidatorView {
    /// Key that signs votes and proposals.
    #[schema(value_type = String)]
    key: PublicKey,
    /// Key of its peer link.
    #[schema(value_type = String)]
    link: PublicKey,
    /// Voting power.
    power: u64,
}

impl ValidatorView {
    pub(crate) fn all(set: &ValidatorSet) -> Vec<Self> {
        let view = |validator: &ledger::Validator| Self {
            key: validator.key,
            link: validator.link,
            power: validator.power,
        };
        set.validators().iter().map(view).collect()
    }
}

/// Balance and nonce of an entity or node; zeros for one that has neither.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(crate) struct AccountView {
    /// Whose it is.
    #[schema(value_type = String)]
    pub(crate) id: Id,
    /// What the owner may spend, in micro-tokens.
    #[schema(value_type = u64)]
    pub(crate) balance: Tokens,
    /// Nonce of the owner's next transaction by what stands on the chain.
    pub(crate) nonce: u64,
    /// Nonce of the owner's next transaction after those that wait at this validator.
    pub(crate) next_nonce: u64,
    /// Hash of the owner's last transaction on the chain; zeros before the first.
    #[schema(value_type = String)]
    pub(crate) last: Hash,
}
