//! Questions to a running monitor.

use std::{
    io::{self, BufReader},
    path::Path,
    time::Duration,
};

use node_api::{
    line,
    vmm::{ControlAnswer, ControlRequest, Status},
};

use super::timed::Timed;

/// How long a monitor or guest may take for a whole exchange.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a monitor did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket could not be reached.
    #[error("reach the monitor")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error("ask the monitor")]
    Exchange(#[source] line::LineError),
    /// The monitor ended instead of answering.
    #[error("the monitor ended instead of answering")]
    Closed,
    /// The monitor refused.
    #[error("the monitor refused: {0}")]
    Refused(String),
    /// The answer is none to this question.
    #[error("the monitor answered another question")]
    Mismatch,
}

/// How the guest is. Blocks for at most [`PATIENCE`].
///
/// # Errors
/// [`ControlError`].
pub fn status(socket: &Path) -> Result<Status, ControlError> {
    match ask(socket, ControlRequest::Status)? {
        ControlAnswer::Status(status) => Ok(status),
        _ => Err(ControlError::Mismatch),
    }
}

/// Presses the power button, or pulls the plug. Blocks as [`status`] does.
///
/// # Errors
/// [`ControlError`].
pub fn command(socket: &Path, request: ControlRequest) -> Result<(), ControlError> {
    match ask(socket, request)? {
        ControlAnswer::Done => Ok(()),
        _ => Err(ControlError::Mismatch),
    }
}

fn ask(socket: &Path, request: ControlRequest) -> Result<ControlAnswer, ControlError> {
    let mut stream = Timed::connect(socket, PATIENCE).map_err(ControlError::Connect)?;
    line::write(&mut stream, &request).map_err(ControlError::Exchange)?;
    match line::read(&mut BufReader::new(stream)).map_err(ControlError::Exchange)? {
        None => Err(ControlError::Closed),
        Some(ControlAnswer::Refused { reason }) => Err(ControlError::Refused(reason)),
        Some(answer) => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    fn monitor(answer: Option<ControlAnswer>) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            _ = line::read::<ControlRequest>(&mut BufReader::new(stream.try_clone().unwrap()));
            answer
                .iter()
                .for_each(|answer| line::write(&mut stream, answer).unwrap());
        });
        (directory, socket)
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let status_of = Status {
            id: "a".to_owned(),
            uptime_ms: 7,
            metrics: Default::default(),
        };
        let (_a, socket) = monitor(Some(ControlAnswer::Status(status_of.clone())));
        assert_eq!(status(&socket).unwrap(), status_of);
        let (_b, socket) = monitor(Some(ControlAnswer::Done));
        command(&socket, ControlRequest::PowerButton).unwrap();
        let (_c, socket) = monitor(Some(ControlAnswer::Refused {
            reason: "no".to_owned(),
        }));
        assert!(matches!(command(&socket, ControlRequest::Kill), Err(ControlError::Refused(reason)) if reason == "no"));
        let (_d, socket) = monitor(None);
        assert!(matches!(status(&socket), Err(ControlError::Closed)));
        let (_e, socket) = monitor(Some(ControlAnswer::Done));
        assert!(matches!(status(&socket), Err(ControlError::Mismatch)));
        assert!(matches!(
            status(Path::new("/nonexistent")),
            Err(ControlError::Connect(_))
        ));
    }
}
