//! What the agent tells init: that it is alive, that it is ready, and what the machine is to do.

use std::{
    io::{self, BufReader},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use node_api::{
    init::{Answer, LIVENESS_MS, Request},
    line,
};

/// How often [`Request::Alive`] is due: three times in the time that init allows.
pub const INTERVAL: Duration = Duration::from_millis(LIVENESS_MS / 3);
/// How long init may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why init was not told.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The socket could not be reached.
    #[error("reach init")]
    Connect(#[source] io::Error),
    /// The exchange broke off.
    #[error("tell init")]
    Exchange(#[source] line::LineError),
    /// Init closed the connection.
    #[error("init closed the connection")]
    Closed,
    /// Init refused.
    #[error("init refused: {0}")]
    Refused(String),
}

/// A connection to init.
#[derive(Debug)]
pub struct Init {
    stream: BufReader<UnixStream>,
}

impl Init {
    /// Connects to init's socket, [`node_api::init::SOCKET`] but in tests.
    ///
    /// # Errors
    /// [`InitError::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, InitError> {
        let stream = UnixStream::connect(socket).map_err(InitError::Connect)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(InitError::Connect)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(InitError::Connect)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Says one thing and waits for the answer, which init gives at once.
    ///
    /// # Errors
    /// [`InitError`]; after any but a refusal the connection is of no more use.
    pub fn tell(&mut self, request: Request) -> Result<(), InitError> {
        line::write(self.stream.get_mut(), &request).map_err(InitError::Exchange)?;
        match line::read(&mut self.stream)
            .map_err(InitError::Exchange)?
            .ok_or(InitError::Closed)?
        {
            Answer::Done => Ok(()),
            Answer::Refused { reason } => Err(InitError::Refused(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, thread};

    #[test]
    fn init_is_told_and_its_refusal_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("init.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            while let Ok(Some(request)) = line::read::<Request>(&mut stream) {
                let answer = match request {
                    Request::Alive | Request::Ready => Answer::Done,
                    Request::Reboot => Answer::Refused {
                        reason: "guests run".to_owned(),
                    },
                    Request::PowerOff => return,
                };
                line::write(stream.get_mut(), &answer).unwrap();
            }
        });
        let mut init = Init::connect(&socket).unwrap();
        init.tell(Request::Alive).unwrap();
        init.tell(Request::Ready).unwrap();
        assert!(matches!(init.tell(Request::Reboot), Err(InitError::Refused(reason)) if reason == "guests run"));
        assert!(matches!(init.tell(Request::PowerOff), Err(InitError::Closed)));
        assert!(matches!(
            Init::connect(Path::new("/nonexistent")),
            Err(InitError::Connect(_))
        ));
    }
}
