//! The control socket, on which the agent's process alone is answered.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::Pid,
};
use node_api::init::{Answer, Request};

/// Most connections at a time; the oldest makes room.
const MOST_CONNECTIONS: usize = 4;
/// Longest request in bytes; all known ones are below 32.
const MAX_REQUEST: usize = 1024;
/// Most requests of one connection that are answered in one turn.
const MOST_AT_ONCE: usize = 32;

/// The listening socket and its connections.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    peer: Pid,
    pending: Vec<u8>,
}

/// Whether a connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    Open,
    Closed,
}

impl Control {
    /// Begins to listen at `path`, for this user alone.
    ///
    /// # Errors
    /// What socket(2), bind(2) and chmod(2) say.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            connections: Vec::new(),
        })
    }

    /// What to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd())
            .chain(self.connections.iter().map(|connection| connection.stream.as_fd()))
    }

    /// Takes new connections and answers what arrived, each request by `answer`. Only a peer whose process is `agent`
    /// is heard; any other gets a refusal and is closed.
    pub fn serve(&mut self, agent: Option<Pid>, mut answer: impl FnMut(Request) -> Answer) {
        self.accept();
        self.connections.retain_mut(|connection| {
            if agent != Some(connection.peer) {
                let reason = "only the agent is answered here".to_owned();
                // It is closed whether it hears this or not.
                let _ = connection.say(&Answer::Refused { reason });
                return false;
            }
            connection.serve(&mut answer).is_ok_and(|flow| flow == Flow::Open)
        });
    }

    fn accept(&mut self) {
        for _ in 0..MOST_CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else {
                return;
            };
            let Ok(credentials) = getsockopt(&stream, PeerCredentials) else {
                continue;
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() >= MOST_CONNECTIONS {
                self.connections.remove(0);
            }
            let peer = Pid::from_raw(credentials.pid());
            self.connections.push(Connection {
                stream,
                peer,
                pending: Vec::new(),
            });
        }
    }
}

impl Connection {
    fn serve(&mut self, answer: &mut impl FnMut(Request) -> Answer) -> io::Result<Flow> {
        let mut flow = Flow::Open;
        let mut chunk = [0; MAX_REQUEST];
        match self.stream.read(&mut chunk) {
            Ok(0) => flow = Flow::Closed,
            Ok(length) => self.pending.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        for _ in 0..MOST_AT_ONCE {
            let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let reply = match serde_json::from_slice(&line) {
                Ok(request) => answer(request),
                Err(_) => Answer::Refused {
                    reason: "not a request".to_owned(),
                },
            };
            self.say(&reply)?;
        }
        if self.pending.len() > MAX_REQUEST {
            Ok(Flow::Closed)
        } else {
            Ok(flow)
        }
    }

    fn say(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_vec(answer)?;
        line.push(b'\n');
        // An agent that does not read its answers loses the connection, not PID 1's time.
        self.stream.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    fn exchange(agent: Pid, line: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.sock");
        let mut control = Control::listen(&path).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        control.serve(Some(agent), |request| match request {
            Request::Alive => Answer::Done,
            other => Answer::Refused {
                reason: format!("{other:?}"),
            },
        });
        drop(control);
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    }

    #[test]
    fn the_agent_is_answered() {
        assert_eq!(
            exchange(nix::unistd::getpid(), "{\"op\":\"alive\"}\n"),
            "{\"answer\":\"done\"}\n"
        );
    }

    #[test]
    fn strangers_garbage_and_endless_lines_are_not() {
        assert!(exchange(Pid::from_raw(1), "{\"op\":\"alive\"}\n").contains("only the agent"));
        assert!(exchange(nix::unistd::getpid(), "{\"op\":\"eval\"}\n").contains("not a request"));
        assert_eq!(exchange(nix::unistd::getpid(), &"x".repeat(5000)), "");
    }
}
