//! The host's side: clients of the listening unix socket, and how each says which port of the guest it wants.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use super::connection::Connection;
use crate::{
    event_loop::{Interest, Registrar},
    metrics::Counter,
};

/// Most streams at a time; further clients are hung up on.
pub(super) const MAX_CONNECTIONS: usize = 128;
/// Time for a client to say where to, for a guest to answer, and for one to agree to an end.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Event number of the listening socket.
pub(super) const LISTENER: u32 = 1;
/// First port of the host's side; each stream has its own, which is its event number as well.
const FIRST_PORT: u32 = 1024;
/// Longest `CONNECT <port>` line.
const MAX_GREETING: usize = 32;

#[derive(Debug)]
pub(super) enum Phase {
    /// The client has not yet said which port it wants.
    Greeting(Vec<u8>),
    /// It has.
    Connected { port: u32, connection: Connection },
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    pub(super) phase: Phase,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// When the client or the guest has to have done what is waited for.
    pub(super) deadline: Option<Instant>,
}

/// All clients, each by the port of the host's side that its stream has.
#[derive(Debug)]
pub(super) struct Clients {
    listener: UnixListener,
    registrar: Registrar,
    by_port: BTreeMap<u32, Client>,
    last_port: u32,
    /// The client that is served first, so that each gets its turn.
    next: u32,
    refused: Counter,
}

impl Clients {
    /// None yet. Those that are hung up on are counted in `refused`.
    ///
    /// # Errors
    /// When the listener cannot be waited for.
    pub(super) fn new(listener: UnixListener, registrar: Registrar, refused: Counter) -> io::Result<Self> {
        registrar.add(&listener, LISTENER, Interest::Readable)?;
        Ok(Self {
            listener,
            registrar,
            by_port: BTreeMap::new(),
            last_port: FIRST_PORT,
            next: 0,
            refused,
        })
    }

    /// Takes in a client that waits at the listener.
    pub(super) fn accept(&mut self) {
        // A client that is gone again, or no descriptor left: the next event tries anew.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let port = self.free_port();
        let ready = stream
            .set_nonblocking(true)
            .and_then(|()| self.registrar.add(&stream, port, Interest::Changes));
        if self.by_port.len() >= MAX_CONNECTIONS || ready.is_err() {
            self.refused.increment();
            return;
        }
        let phase = Phase::Greeting(Vec::new());
        let deadline = Some(Instant::now() + PATIENCE);
        self.by_port.insert(
            port,
            Client {
                stream,
                phase,
                readable: true,
                writable: true,
                deadline,
            },
        );
        self.greet(port);
    }

    /// The next port of the host's side that no stream has. There are far more ports than streams.
    fn free_port(&mut self) -> u32 {
        loop {
            self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.by_port.contains_key(&self.last_port) {
                return self.last_port;
            }
        }
    }

    /// Reads the client's first line, byte by byte, so that nothing behind it is taken.
    pub(super) fn greet(&mut self, number: u32) {
        let Some(client) = self.by_port.get_mut(&number) else {
            return;
        };
        let Phase::Greeting(line) = &mut client.phase else {
            return;
        };
        let mut byte = [0];
        let keep = loop {
            match client.stream.read(&mut byte) {
                Ok(1) if byte[0] == b'\n' => match parse_greeting(line) {
                    Some(port) => {
                        client.phase = Phase::Connected {
                            port,
                            connection: Connection::default(),
                        };
                        client.deadline = Some(Instant::now() + PATIENCE);
                        break true;
                    }
                    None => break false,
                },
                Ok(1) if line.len() < MAX_GREETING => line.push(byte[0]),
                Ok(_) => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        if !keep {
            self.refused.increment();
            self.by_port.remove(&number);
        }
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Client> {
        self.by_port.get_mut(&number)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Client)> {
        self.by_port.iter_mut().map(|(number, client)| (*number, client))
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Client> {
        self.by_port.remove(&number)
    }

    /// Hangs up on all that the guest knows of.
    pub(super) fn remove_connected(&mut self) {
        self.by_port
            .retain(|_, client| matches!(client.phase, Phase::Greeting(_)));
    }

    /// Those whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<u32> {
        self.by_port
            .iter()
            .filter(|(_, client)| client.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
            .collect()
    }

    /// When the first one's time is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_port.values().filter_map(|client| client.deadline).min()
    }

    /// All, beginning with the one whose turn it is.
    pub(super) fn in_turn(&self) -> Vec<u32> {
        self.by_port
            .range(self.next..)
            .chain(self.by_port.range(..self.next))
            .map(|(number, _)| *number)
            .collect()
    }

    /// One has had its turn.
    pub(super) fn served(&mut self, number: u32) {
        self.next = number.saturating_add(1);
    }
}

/// Writes what waits for the client until it takes no more.
pub(super) fn write_out(stream: &mut UnixStream, connection: &mut Connection, writable: &mut bool) {
    while *writable && !connection.for_client().is_empty() {
        match stream.write(connection.for_client()) {
            Ok(length) => connection.client_took(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => connection.client_gone(),
        }
    }
    if connection.is_open() && connection.client_has_all() {
        // A client that is gone needs no end of file.
        let _ended = stream.shutdown(Shutdown::Write);
    }
}

/// The port in `CONNECT <port>`.
fn parse_greeting(line: &[u8]) -> Option<u32> {
    let port = std::str::from_utf8(line).ok()?.strip_prefix("CONNECT ")?;
    port.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_names_one_port_and_nothing_else() {
        assert_eq!(parse_greeting(b"CONNECT 80"), Some(80));
        assert_eq!(parse_greeting(b"CONNECT 4294967295"), Some(u32::MAX));
        for line in [
            &b"CONNECT"[..],
            b"CONNECT ",
            b"CONNECT +80",
            b"CONNECT 4294967296",
            b"GET / HTTP/1.1",
            b"\xff",
        ] {
            assert_eq!(parse_greeting(line), None);
        }
    }
}
