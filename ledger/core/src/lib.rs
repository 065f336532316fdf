//! The contract chain's core: records, the state machine, proofs and the light client.
//!
//! | module | idea |
//! |---|---|
//! | [`encoding`] | one canonical binary form, bounded decoding |
//! | [`hash`], [`mod@hex`], [`key`], [`mod@unit`], [`text`], [`quantity`] | what numbers, bytes and names mean, and how people write them |
//! | [`record`] and [`body`] | what stands on the chain: versions linked to the one before |
//! | [`transaction`], [`agreement`], [`decree`] | what may change it, and who must have signed |
//! | [`machine`] | the only place where records change: pure and deterministic |
//! | [`tree`], [`sets`] | the authenticated state, proofs of presence, of absence, and that a set is complete |
//! | [`consensus`], [`block`], [`genesis`] | what validators sign |
//! | [`index`], [`query`], [`geography`] | what records are found by, and when a rule finds them |
//! | [`light`], [`excerpt`] | verifying all of it from the genesis hash alone, asked for or kept in a file |
//!
//! Architecture invariant: no clock, file, socket or randomness is reached from here, and no other crate of the project
//! is known here. The same blocks give the same records and the same state root on every machine.
#![forbid(unsafe_code)]

pub mod agreement;
pub mod block;
pub mod body;
pub mod consensus;
pub mod decree;
pub mod encoding;
pub mod excerpt;
pub mod genesis;
pub mod geography;
pub mod hash;
pub mod hex;
pub mod index;
pub mod key;
pub mod light;
pub mod machine;
pub mod quantity;
pub mod query;
pub mod record;
pub mod release;
pub mod sets;
pub mod signatures;
pub mod store;
pub mod text;
pub mod transaction;
pub mod tree;
pub mod unit;

pub use agreement::{Agreement, Amendment, SignedAgreement, SignedAmendment};
pub use block::{Block, CertifiedHeader, Header};
pub use consensus::{Certificate, Validator, ValidatorSet};
pub use decree::{Decree, SignedDecree};
pub use excerpt::Excerpt;
pub use genesis::Genesis;
pub use hash::Hash;
pub use key::{PublicKey, Signature, SigningKey};
pub use light::{LightClient, LightError};
pub use machine::{Refusal, apply_block};
pub use record::{Body, Id, Kind, Record, RecordKey};
pub use signatures::Signatures;
pub use transaction::{NewKeys, Operation, RecoveryChange, SignedTransaction, Transaction};
pub use unit::{Height, Resources, Timestamp, Tokens};
