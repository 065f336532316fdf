//! Why the bot did not do something.

use chain_client::{ClientError, SendError};
use error_line::{is_disk_full, with_causes};
use peer_link::{BlobError, DialError, LinkError};

use crate::{
    control::{Failure, FailureKind},
    deployment::StoreError,
    home::HomeError,
};

/// Why the bot did not do something.
#[derive(Debug, thiserror::Error)]
pub enum BotError {
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// A transaction does not stand on the chain.
    #[error(transparent)]
    Send(#[from] SendError),
    /// An image could not be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A deployment could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The home directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A peer could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A link broke.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A peer has no address that could be dialled.
    #[error("{0}")]
    Unreachable(String),
    /// The other side said no.
    #[error("{0}")]
    Refused(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// The system gives no randomness, or a sealed file of the bot's own does not open.
    #[error("{0}")]
    Local(String),
}

impl BotError {
    /// What kind of reason it is.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Chain(ClientError::Missing(_)) | Self::NotFound(_) => FailureKind::NotFound,
            Self::Chain(ClientError::Trust { .. }) | Self::Send(SendError::Chain(ClientError::Trust { .. })) => {
                FailureKind::Local
            }
            Self::Send(SendError::Refused(_)) | Self::Refused(_) => FailureKind::Refused,
            Self::Chain(_) | Self::Send(_) | Self::Dial(_) | Self::Link(_) | Self::Unreachable(_) => {
                FailureKind::Network
            }
            Self::Usage(_) => FailureKind::Usage,
            Self::Blob(_) | Self::Store(_) | Self::Home(_) | Self::Local(_) => FailureKind::Local,
        }
    }

    /// The error with its causes in one line.
    #[must_use]
    pub fn line(&self) -> String {
        joined(self)
    }
}

/// An error with its causes in one line, and what to do about a full disk.
#[must_use]
pub fn joined(error: &dyn std::error::Error) -> String {
    let mut text = with_causes(error);
    let mut causes = std::iter::successors(error.source(), |cause| cause.source());
    if causes.any(|cause| cause.downcast_ref().is_some_and(is_disk_full)) {
        text.push_str("; free space there and try again: what was kept before is untouched");
    }
    text
}

impl From<BotError> for Failure {
    fn from(error: BotError) -> Self {
        Self {
            kind: error.kind(),
            text: error.line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_with_what_to_do_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.json");
        crate::replacement::replace(&path, b"before").unwrap();
        // The next version is written to a device that is always full.
        std::os::unix::fs::symlink("/dev/full", path.with_extension("partial")).unwrap();
        let error = crate::replacement::replace(&path, b"after").unwrap_err();
        let line = BotError::Store(StoreError::Write(error)).line();
        assert!(line.contains("No space left on device"), "{line}");
        assert!(
            line.ends_with("free space there and try again: what was kept before is untouched"),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
    }
}
