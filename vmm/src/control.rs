//! The control socket: one JSON object a line, answered by the main thread.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    time::Instant,
};

use node_api::vmm::{ControlAnswer, ControlRequest, Status};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    end::{Ender, Ending},
    event_loop::{Interest, Registrar, Source},
    lock,
    metrics::{Counter, Metrics},
};

/// Most connections at a time; the one silent for longest makes room.
pub const MAX_CLIENTS: usize = 8;
/// Most bytes of a request.
pub const MAX_REQUEST: usize = 4096;
/// Event number of the listening socket.
pub const LISTENER: u32 = 1;

/// What the answers are made from.
#[derive(Debug)]
pub struct Machine {
    /// The configured id.
    pub id: String,
    /// When the first guest instruction ran.
    pub started: Instant,
    /// All counters.
    pub metrics: Metrics,
    /// A pulse on this line is a press of the power button.
    pub button: Arc<EventFd>,
    /// Ends the monitor.
    pub ender: Ender,
}

impl Machine {
    fn answer(&self, request: ControlRequest) -> ControlAnswer {
        match request {
            ControlRequest::Status => ControlAnswer::Status(Status {
                id: self.id.clone(),
                uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
                metrics: self.metrics.snapshot(),
            }),
            ControlRequest::PowerButton => match self.button.write(1) {
                Ok(()) => ControlAnswer::Done,
                Err(error) => ControlAnswer::Refused {
                    reason: format!("press the power button: {error}"),
                },
            },
            ControlRequest::Kill => ControlAnswer::Done,
        }
    }
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    partial: Vec<u8>,
    last_heard: Instant,
}

/// The control socket's source of events.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    registrar: Registrar,
    machine: Machine,
    requests: Counter,
    clients: Mutex<(u32, BTreeMap<u32, Client>)>,
}

impl Control {
    /// Serves `machine` on `listener`, which does not block.
    ///
    /// # Errors
    /// When the listener cannot be waited for.
    pub fn new(listener: UnixListener, registrar: Registrar, machine: Machine) -> io::Result<Self> {
        registrar.add(&listener, LISTENER, Interest::Readable)?;
        let requests = machine.metrics.counter("control.requests");
        Ok(Self {
            listener,
            registrar,
            machine,
            requests,
            clients: Mutex::new((LISTENER, BTreeMap::new())),
        })
    }

    fn accept(&self) {
        // A client that is gone again, or no descriptor left: the next event tries anew.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let mut guard = lock(&self.clients);
        let (last, clients) = &mut *guard;
        if clients.len() >= MAX_CLIENTS {
            let silent = clients
                .iter()
                .min_by_key(|(_, client)| client.last_heard)
                .map(|(number, _)| *number);
            silent.and_then(|number| clients.remove(&number));
        }
        *last = last.checked_add(1).unwrap_or(LISTENER + 1);
        let ready = stream
            .set_nonblocking(true)
            .and_then(|()| self.registrar.add(&stream, *last, Interest::Readable));
        if ready.is_ok() {
            clients.insert(
                *last,
                Client {
                    stream,
                    partial: Vec::new(),
                    last_heard: Instant::now(),
                },
            );
        }
    }

    fn serve(&self, number: u32) {
        let mut guard = lock(&self.clients);
        let Some(client) = guard.1.get_mut(&number) else { return };
        client.last_heard = Instant::now();
        let mut buffer = [0; MAX_REQUEST];
        let open = match client.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                client.partial.extend_from_slice(&buffer[..length]);
                self.answer_lines(client)
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        if !open {
            guard.1.remove(&number);
        }
    }

    /// Answers each whole line; `false` closes the connection.
    fn answer_lines(&self, client: &mut Client) -> bool {
        while let Some(end) = client.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = client.partial.drain(..=end).collect();
            self.requests.increment();
            let request = serde_json::from_slice(&line);
            let answer = match &request {
                Ok(request) => self.machine.answer(*request),
                Err(error) => ControlAnswer::Refused {
                    reason: format!("not a request: {error}"),
                },
            };
            let sent = send(&mut client.stream, &answer);
            if let Ok(ControlRequest::Kill) = request {
                self.machine.ender.end(&Ending::Killed);
            }
            if sent.is_err() || request.is_err() {
                return false;
            }
        }
        client.partial.len() < MAX_REQUEST
    }
}

/// Sends an answer. A client that does not read has no room for it, and the error closes its connection.
fn send(stream: &mut UnixStream, answer: &ControlAnswer) -> io::Result<()> {
    let mut line = Vec::new();
    node_api::line::write(&mut line, answer).map_err(io::Error::other)?;
    stream.write_all(&line)
}

impl Source for Control {
    fn handle(&self, number: u32) {
        if number == LISTENER {
            self.accept()
        } else {
            self.serve(number)
        }
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::{event_loop::EventLoop, serial::SerialLog};

    fn start() -> (EventLoop, tempfile::TempDir, EventFd) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("control")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let metrics = Metrics::default();
        metrics.counter("block.0.flushes").add(3);
        let log = SerialLog::new(tempfile::tempfile().unwrap(), 4096, &metrics).unwrap();
        let button = EventFd::new(libc::EFD_NONBLOCK).unwrap();
        let pressed = button.try_clone().unwrap();
        let machine = Machine {
            id: "vm-1".into(),
            started: Instant::now(),
            metrics,
            button: Arc::new(button),
            ender: Ender::new(Arc::new(log)),
        };
        let mut events = EventLoop::new().unwrap();
        let control = Control::new(listener, events.registrar(), machine).unwrap();
        events.add(Arc::new(control));
        (events, directory, pressed)
    }

    fn ask(events: &EventLoop, client: &mut UnixStream, request: &[u8]) -> String {
        client.write_all(request).unwrap();
        events.turn().unwrap();
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn status_has_the_counters_and_the_button_is_pressed() {
        let (events, directory, pressed) = start();
        let mut client = UnixStream::connect(directory.path().join("control")).unwrap();
        events.turn().unwrap();
        let status = ask(&events, &mut client, b"{\"op\":\"status\"}\n");
        assert!(
            status.contains("\"block.0.flushes\":3") && status.contains("\"id\":\"vm-1\""),
            "{status}"
        );
        assert!(pressed.read().is_err());
        assert_eq!(
            ask(&events, &mut client, b"{\"op\":\"power-button\"}\n"),
            "{\"answer\":\"done\"}\n"
        );
        assert_eq!(pressed.read().unwrap(), 1);
    }

    #[test]
    fn garbage_is_refused_with_a_reason_and_the_connection_closed() {
        let (events, directory, _pressed) = start();
        let mut client = UnixStream::connect(directory.path().join("control")).unwrap();
        events.turn().unwrap();
        assert!(ask(&events, &mut client, b"{\"op\":\"dance\"}\n").contains("refused"));
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        let mut endless = UnixStream::connect(directory.path().join("control")).unwrap();
        events.turn().unwrap();
        endless.write_all(&[b' '; MAX_REQUEST]).unwrap();
        events.turn().unwrap();
        assert_eq!(endless.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn more_clients_than_allowed_push_out_the_silent_one() {
        let (events, directory, _pressed) = start();
        let mut clients: Vec<_> = (0..=MAX_CLIENTS)
            .map(|_| {
                let client = UnixStream::connect(directory.path().join("control")).unwrap();
                events.turn().unwrap();
                client
            })
            .collect();
        assert_eq!(clients[0].read(&mut [0; 8]).unwrap(), 0);
        assert!(ask(&events, clients.last_mut().unwrap(), b"{\"op\":\"status\"}\n").contains("status"));
    }
}
