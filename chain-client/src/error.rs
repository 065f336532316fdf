//! Why nothing could be learned.

use std::{fmt, io, path::PathBuf, time::Duration};

use error_line::with_causes;
use ledger::{Hash, LightError};
use peer_link::{DialError, LinkError, PeerId};

/// Why one peer was no help.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It could not be reached.
    #[error("not reached: {0}")]
    Dial(#[source] DialError),
    /// The link failed.
    #[error("lost: {}", with_causes(.0))]
    Link(#[source] LinkError),
    /// What it sent is not the protocol.
    #[error("refused: broken protocol: {}", with_causes(.0))]
    Garbage(#[source] LinkError),
    /// It took the question and sent no answer.
    #[error("silent: no answer within {0:?}")]
    Silent(Duration),
    /// What it said is not true.
    #[error("refused: {}", with_causes(.0))]
    Lied(#[source] LightError),
    /// It sent other content than what the hash names.
    #[error("refused: altered content: not what {0} names")]
    AlteredContent(Hash),
    /// It answered something that was not asked.
    #[error("refused: answered something else")]
    OffTopic,
    /// It said that it cannot answer.
    #[error("{0}")]
    Unable(String),
    /// What it proved could not be kept on the own disk, which is no fault of its.
    #[error("verified head in {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Reason {
    /// The name of the check that failed.
    #[must_use]
    pub const fn check(&self) -> &'static str {
        match self {
            Self::Dial(_) => "not reached",
            Self::Link(_) => "lost",
            Self::Garbage(_) => "broken protocol",
            Self::Silent(_) => "silent",
            Self::Lied(error) => error.check(),
            Self::AlteredContent(_) => "altered content",
            Self::OffTopic => "answered something else",
            Self::Unable(_) => "unable",
            Self::Disk { .. } => "own disk",
        }
    }

    pub(crate) fn of_link(error: LinkError) -> Self {
        match error {
            LinkError::Deadline(deadline) => Self::Silent(deadline),
            error if error.is_violation() => Self::Garbage(error),
            error => Self::Link(error),
        }
    }
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
    #[error("verified head in {path}: {source}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
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
