//! What a customer and a node say to each other about a contract: what is to run, sealed, and how it goes.
//!
//! | module | idea |
//! |---|---|
//! | [`workload`](Workload) | what a contract is to run, with checked bounds |
//! | [`sealed`](seal) | its ciphertext, readable by its recipients alone |
//! | [`node`] | the protocol between a customer's bot and the node |
//!
//! Architecture invariant: no socket, file or clock is reached from here. The only thing taken from outside is randomness for
//! sealing.
#![forbid(unsafe_code)]

pub mod node;
mod sealed;
mod spec;

pub use sealed::{EncryptionKey, MAX_RECIPIENTS, MAX_SEALED, OpenError, SealError, open, seal};
pub use spec::{Bound, MAX_PORTS, MAX_VOLUMES, MIN_VOLUME, Volume, Workload};
