//! A validator of the contract chain: consensus, the database, and answers to those who ask.
//!
//! ```text
//!  peers ── serve ──► Ledger ◄── Member ── engine (Malachite) ── votes ── other validators
//!             │        │  ▲         └───── follow ── blocks ── any member, while it is no validator itself
//!             │ Mempool ┘ └─ Database (redb): blocks, certificates, versions, state tree, indexes in one transaction
//!             └─ Relay ── transactions ──► the other validators, by the addresses in the Book
//! ```
//!
//! Architecture invariant: what a record may become is decided in the crate `ledger` alone; nothing here changes a record.
#![forbid(unsafe_code)]

mod audit;
mod book;
mod checked;
mod clock;
mod database;
pub mod engine;
mod follow;
mod full;
mod home;
mod http;
mod ledgerd;
mod member;
mod mempool;
mod metrics;
mod node;
mod operator;
mod relay;
mod serve;

pub use audit::{Audit, AuditError, audit};
pub use clock::Clock;
pub use database::{Database, DatabaseError, Page, Snapshot};
pub use full::is_disk_full;
pub use home::{Home, HomeError, InitOptions, Introduction, MAX_PEERS, read_genesis};
pub use http::{HttpError, HttpLimits, HttpOptions, Rate, openapi};
pub use ledgerd::{RunError, RunOptions, Running, run};
pub use node::{Ledger, LedgerError, Submission};
pub use operator::{Operator, OperatorError, approve, fetch_genesis, merge, open_chain};
