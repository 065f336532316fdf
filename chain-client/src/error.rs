//! Why nothing could be learned.

use std::{fmt, path::PathBuf};

use ledger::LightError;
use peer_link::{DialError, LinkError, PeerId};

/// Why one peer was no help.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It could not be reached.
    #[error("not reached: {0}")]
    Dial(#[source] DialError),
    /// The link failed, or the peer did not keep to the protocol.
    #[error("link: {0}")]
    Link(#[source] LinkError),
    /// What it said is not true.
    #[error("refused: {}", joined(.0))]
    Lied(#[source] LightError),
    /// It answered something that was not asked.
    #[error("refused: answered something else")]
    OffTopic,
    /// It said that it cannot answer.
    #[error("{0}")]
    Unable(String),
}

fn joined(error: &LightError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A peer and why it was no help.
#[derive(Debug)]
pub struct PeerFailure {
    /// The peer.
    pub peer: PeerId,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for PeerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer: String = self.peer.to_string().chars().take(8).collect();
        write!(f, "peer {peer} {}", self.reason)
    }
}

/// Why nothing could be learned from the chain.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No peer was given.
    #[error("no peer of the chain is known; name one as KEY@IP:PORT")]
    NoPeers,
    /// No peer could help.
    #[error("no peer of the chain could help: {}", list(.0))]
    AllFailed(Vec<PeerFailure>),
    /// The file with the verified head cannot be used.
    #[error("verified head in {path}: {reason}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A record that must be there is not.
    #[error("{0} is not on the chain")]
    Missing(String),
}

fn list(failures: &[PeerFailure]) -> String {
    failures
        .iter()
        .map(PeerFailure::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}
