//! The node as a member of the grid: what it says of itself, which contracts it keeps, what it reports.
//!
//! ```text
//! chain ──► [docket] ──► desired ──► plan ──► machine
//!   ▲          ▲                                │
//!   │          └── [uptime] ◄──── observed ◄────┘
//!   └── [duties], [statement] ◄──┘
//! ```
//!
//! [`member`] is the task that speaks with the chain. It never holds up the reconcile loop: an outage leaves guests alone. What
//! it learns, the other tasks find in [`shared`].

pub mod docket;
pub mod duties;
#[cfg(test)]
pub(crate) mod fixture;
pub mod images;
pub mod keeper;
pub mod member;
pub mod process;
pub mod server;
pub mod shared;
pub mod shelf;
pub mod sources;
pub mod statement;
pub mod tunnel;
pub mod unused;
pub mod uptime;
pub mod view;
