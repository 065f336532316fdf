//! Negotiation between a customer's and a farmer's bot, without any IO.
//!
//! ```text
//!  customer                                  farmer
//!     │ ── Request (what, where, how long) ────► │ checks the chain and its policy
//!     │ ◄──────────── Offer (agreement draft) ── │
//!     │ ── Counter (price) ────────────────────► │   at least once, at most MAX_OFFERS offers in all
//!     │ ◄──────────────────────────── Offer ──── │
//!     │ ── Accept (customer's signature) ──────► │ checks the chain again
//!     │ ◄────────── Signed (farmer's signature)─ │
//!  either side at any time: Reject (reason)
//! ```
//!
//! Each side is a core with the same three functions: `handle` takes what happened and the time, `poll_output` says what is
//! to be done, `next_deadline` when to call again. Both compute the agreement from the same [`Request`], so what they sign
//! is equal byte for byte or not signed at all. The customer's budget never leaves its core.

mod customer;
mod farmer;
mod message;
mod price;
#[cfg(test)]
mod tests;

pub use customer::{Brief, Customer};
pub use farmer::{Ask, Farmer};
pub use message::{MAX_MESSAGE, Message, Reason, Request};
pub use price::{Bidding, Reply};

use ledger::{Timestamp, Tokens, agreement::SignedAgreement};

/// Most offers in one negotiation.
pub const MAX_OFFERS: u32 = 8;
/// Longest wait for the other side's next message, in milliseconds.
pub const STEP_MS: u64 = 20_000;
/// Longest negotiation, in milliseconds.
pub const WHOLE_MS: u64 = 120_000;
/// Longest time ahead that an offer may claim to be valid, in milliseconds.
pub const MAX_VALIDITY_MS: u64 = 3_600_000;

/// What happened to a core.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "inputs are handled one at a time and never kept"
)]
pub enum Input {
    /// The other side sent a message.
    Message(Message),
    /// The other side sent something that is no message.
    Garbage,
    /// The other side is gone.
    Closed,
    /// Farmer only: the answer to [`Output::Check`].
    Checked(Result<Ask, Reason>),
    /// Farmer only: the answer to [`Output::Confirm`].
    Confirmed(Result<(), Reason>),
    /// A deadline may have passed.
    Tick,
}

/// What a core wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message.
    Send(Message),
    /// Farmer only: look at the chain and the policy, and say what is asked, or why nothing is.
    Check(Request),
    /// Farmer only: look at the chain once more before signing.
    Confirm(Request),
    /// Tell whoever waits how far it is.
    Progress(Progress),
    /// It is over.
    Done(Outcome),
}

/// How far a negotiation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An offer came or went, for one period.
    Offer(Tokens),
    /// A counter-offer came or went, for one period.
    Counter(Tokens),
}

/// How a negotiation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one value ends one negotiation")]
pub enum Outcome {
    /// Both signed the same bytes.
    Agreed(SignedAgreement),
    /// This side declined.
    Declined(Reason),
    /// The other side declined.
    Refused(Reason),
    /// The other side broke the protocol.
    Violated(&'static str),
    /// The other side was silent for too long.
    Expired,
    /// The other side is gone.
    Closed,
}

impl Outcome {
    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Agreed(signed) => format!("agreed at {} for a period", signed.agreement.price),
            Self::Declined(reason) => format!("declined: {reason}"),
            Self::Refused(reason) => format!("refused: {reason}"),
            Self::Violated(what) => format!("the other side broke the protocol: {what}"),
            Self::Expired => "the other side did not answer in time".into(),
            Self::Closed => "the other side hung up".into(),
        }
    }
}

/// Time by which the next message must have come.
#[derive(Debug, Clone, Copy)]
struct Clock {
    whole: Timestamp,
    step: Timestamp,
}

impl Clock {
    fn start(now: Timestamp) -> Self {
        Self {
            whole: now.plus(WHOLE_MS),
            step: now.plus(STEP_MS),
        }
    }

    fn restart_step(&mut self, now: Timestamp) {
        self.step = now.plus(STEP_MS);
    }

    fn deadline(&self) -> Timestamp {
        self.whole.min(self.step)
    }
}
