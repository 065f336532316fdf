//! A validator of the contract chain: consensus, the database, and answers to those who ask.
//!
//! ```text
//!  peers ── serve ──► Ledger ◄── engine (Malachite) ── votes ── other validators
//!                      │  ▲
//!             Mempool ─┘  └─ Database (redb): blocks, certificates, versions, state tree, indexes in one transaction
//! ```
//!
//! Architecture invariant: what a record may become is decided in the crate `ledger` alone; nothing here changes a record.
#![forbid(unsafe_code)]

mod clock;
mod database;
pub mod engine;
mod full;
mod home;
mod ledgerd;
mod mempool;
mod node;
mod serve;

pub use clock::Clock;
pub use database::{Database, DatabaseError};
pub use full::is_disk_full;
pub use home::{Home, HomeError, InitOptions};
pub use ledgerd::{RunError, RunOptions, Running, run};
pub use node::{Ledger, LedgerError, Submission};
