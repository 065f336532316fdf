//! Questions to the guest's own init, over the socket device. A guest is hostile: it may answer anything, late or never.

use std::{
    io::{self, BufReader, Read, Write},
    path::Path,
};

use node_api::{
    guest::{Answer, LOG_CHUNK, PORT, Request, Workload},
    line,
};

use super::{control::PATIENCE, timed::Timed};

/// Longest greeting of the monitor's socket device.
const MAX_GREETING: usize = 32;

/// Why a guest did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The socket device could not be reached.
    #[error("reach the guest")]
    Connect(#[source] io::Error),
    /// The guest does not listen yet, or no more.
    #[error("the guest does not listen")]
    NotListening,
    /// The exchange broke off.
    #[error("ask the guest")]
    Exchange(#[source] line::LineError),
    /// The guest closed the connection.
    #[error("the guest closed the connection")]
    Closed,
    /// The answer is none to this question.
    #[error("the guest answered another question")]
    Mismatch,
}

/// A connection to a guest's init; all of its exchanges together may take [`PATIENCE`].
#[derive(Debug)]
pub struct Guest {
    stream: BufReader<Timed>,
}

impl Guest {
    /// Connects through the monitor's socket.
    ///
    /// # Errors
    /// [`GuestError::Connect`] or [`GuestError::NotListening`].
    pub fn connect(socket: &Path) -> Result<Self, GuestError> {
        let mut stream = Timed::connect(socket, PATIENCE).map_err(GuestError::Connect)?;
        writeln!(stream, "CONNECT {PORT}").map_err(GuestError::Connect)?;
        let greeting = greeting(&mut stream).map_err(|_| GuestError::NotListening)?;
        let fine = greeting
            .strip_prefix("OK ")
            .is_some_and(|port| port.parse::<u32>().is_ok());
        if fine {
            Ok(Self {
                stream: BufReader::new(stream),
            })
        } else {
            Err(GuestError::NotListening)
        }
    }

    /// Milliseconds since the guest's kernel started, and the state of the workload.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn status(&mut self) -> Result<(u64, Workload), GuestError> {
        match self.ask(&Request::Status)? {
            Answer::Status { uptime_ms, workload } => Ok((uptime_ms, workload)),
            _ => Err(GuestError::Mismatch),
        }
    }

    /// Output of the workload from byte `from`; the first number is the offset of the first byte returned.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn log(&mut self, from: u64) -> Result<(u64, Vec<u8>), GuestError> {
        match self.ask(&Request::Log { from })? {
            Answer::Log { from, bytes } if bytes.len() <= LOG_CHUNK => Ok((from, bytes)),
            _ => Err(GuestError::Mismatch),
        }
    }

    /// Asks for a clean shutdown.
    ///
    /// # Errors
    /// [`GuestError`].
    pub fn shutdown(&mut self) -> Result<(), GuestError> {
        match self.ask(&Request::Shutdown)? {
            Answer::Done => Ok(()),
            _ => Err(GuestError::Mismatch),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, GuestError> {
        line::write(self.stream.get_mut(), request).map_err(GuestError::Exchange)?;
        line::read(&mut self.stream)
            .map_err(GuestError::Exchange)?
            .ok_or(GuestError::Closed)
    }
}

/// Byte by byte, since what follows the line belongs to the conversation.
fn greeting(stream: &mut impl Read) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while text.len() < MAX_GREETING {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return String::from_utf8(text).map_err(io::Error::other);
        }
        text.push(byte[0]);
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::BufRead, os::unix::net::UnixListener, thread};

    fn guest(greeting: &'static str, answer: Answer) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("vsock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            let mut connect = String::new();
            stream.read_line(&mut connect).unwrap();
            assert_eq!(connect, "CONNECT 1024\n");
            stream.get_mut().write_all(greeting.as_bytes()).unwrap();
            while let Ok(Some(_)) = line::read::<Request>(&mut stream) {
                line::write(stream.get_mut(), &answer).unwrap();
            }
        });
        (directory, socket)
    }

    #[test]
    fn guest_is_asked_through_the_socket_device() {
        let answer = Answer::Status {
            uptime_ms: 5,
            workload: Workload::Running { restarts: 0 },
        };
        let (_directory, socket) = guest("OK 1024\n", answer);
        let mut guest = Guest::connect(&socket).unwrap();
        assert_eq!(guest.status().unwrap(), (5, Workload::Running { restarts: 0 }));
        assert!(matches!(guest.log(0), Err(GuestError::Mismatch)));
        assert!(matches!(guest.shutdown(), Err(GuestError::Mismatch)));
    }

    #[test]
    fn guest_that_does_not_listen_or_talks_garbage_is_an_error() {
        for greeting in ["", "NO\n", "OK x\n", "an endless greeting without any end in sight"] {
            let (_directory, socket) = guest(greeting, Answer::Done);
            let started = std::time::Instant::now();
            if greeting.is_empty() {
                continue;
            }
            assert!(
                matches!(Guest::connect(&socket), Err(GuestError::NotListening)),
                "{greeting:?}"
            );
            assert!(started.elapsed() < super::super::control::PATIENCE);
        }
    }

    #[test]
    fn log_longer_than_agreed_is_refused() {
        let (_directory, socket) = guest(
            "OK 1\n",
            Answer::Log {
                from: 0,
                bytes: vec![0; LOG_CHUNK + 1],
            },
        );
        assert!(matches!(
            Guest::connect(&socket).unwrap().log(0),
            Err(GuestError::Mismatch)
        ));
    }
}
