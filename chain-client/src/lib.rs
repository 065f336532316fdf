//! Talking to the contract chain: asking peers that are not trusted and believing only what is proven.
//!
//! ```text
//! ChainClient ── Request ──► peer            any of several; one that lies is refused by the name of the failed check
//!      ▲                       │              and the next is asked
//!      └─ LightClient ◄─ Answer ┘             certified head, then the proof of each record against it
//! ```
//!
//! The verified head is kept in a file before anything is done by it, so that a restart never acts on an older one.
//!
//! Architecture invariant: no answer of a peer leaves this crate before the light client has verified it.
#![forbid(unsafe_code)]

mod author;
mod batch;
mod client;
mod clock;
mod complaints;
mod error;
pub mod protocol;
mod standing;
mod trust;

pub use author::{Author, SendError};
pub use batch::Outcome;
pub use client::{ChainClient, Following, Found, Offered, Proven, Reach, Surroundings};
pub use clock::ChainClock;
pub use complaints::Complaints;
pub use error::{ClientError, PeerFailure, Reason};
