//! What the ledger's benches measure with: a chain of many contracts, a validator without an application, and a load.
//!
//! `cargo xtask bench ledger` runs all of it and prints the figures.
#![forbid(unsafe_code)]

pub mod bare;
pub mod load;
pub mod machine;
pub mod network;
pub mod proofs;
pub mod start;
pub mod world;
