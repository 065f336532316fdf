//! The state machine: the only place where records change.
//!
//! [`Session`] applies one block: first what is due by the block's time, then each transaction, which either changes all that
//! it means to change or is refused and changes nothing. The proposer of a block and everyone who checks it run the same code.

mod amendment;
mod block;
mod charter;
mod contracts;
mod farms;
mod keys;
mod names;
mod nodes;
mod people;
mod refusal;
mod releases;
mod session;
mod settlement;
mod signatures;

pub use block::{BlockError, Head, PROTOCOL, Proposal, apply_block, genesis_outcome, propose_block};
pub use refusal::Refusal;
pub use session::{Fault, Outcome, Session};
pub use signatures::check_signatures;

#[cfg(test)]
mod tests;
