//! The socket device: clients of the listening unix socket on one side, the guest's queues on the other.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::{
    connection::{Connection, Due, Outcome},
    packet::{HEADER, HOST, Header, Operation, STREAM},
};
use crate::{
    Memory, bytes,
    event_loop::{Interest, Registrar},
    metrics::{Counter, Metrics},
    virtio::{
        COMMON_FEATURES,
        chain::{self, Chain, Ring},
        slot::{DOORBELL, Device, HostFailure, Work},
    },
};

/// Most streams at a time; further clients are hung up on.
pub const MAX_CONNECTIONS: usize = 128;
/// Time for a client to say where to, for a guest to answer, and for one to agree to an end.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Event number of the listening socket.
const LISTENER: u32 = 1;
/// First port of the host's side; each stream has its own, which is its event number as well.
const FIRST_PORT: u32 = 1024;
/// Longest `CONNECT <port>` line.
const MAX_GREETING: usize = 32;
/// Most resets that wait for the guest; while there are so many, nothing more is taken from it.
const MAX_RESETS: usize = 256;
/// Most bytes of data in one packet.
const MAX_DATA: usize = 64 * 1024;
/// Packets in a row, in each direction, before other devices get their turn.
const BUDGET: usize = 256;
const QUEUE_SIZE: u16 = 128;

#[derive(Debug)]
enum Phase {
    /// The client has not yet said which port it wants.
    Greeting(Vec<u8>),
    /// It has.
    Connected { port: u32, connection: Connection },
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    phase: Phase,
    readable: bool,
    writable: bool,
    /// When the client or the guest has to have done what is waited for.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Counters {
    opened: Counter,
    refused: Counter,
    rx_bytes: Counter,
    tx_bytes: Counter,
    resets: Counter,
    violations: Counter,
    malformed: Counter,
}

/// The socket device.
#[derive(Debug)]
pub struct Vsock {
    cid: u32,
    config: [u8; 8],
    listener: UnixListener,
    registrar: Registrar,
    clients: BTreeMap<u32, Client>,
    last_port: u32,
    /// The client that is served first, so that each gets its turn.
    next: u32,
    resets: VecDeque<Header>,
    buffer: Box<[u8; MAX_DATA]>,
    counters: Counters,
}

impl Vsock {
    /// A device for guest `cid`, with clients from `listener`, which does not block.
    ///
    /// # Errors
    /// When the listener cannot be waited for.
    pub fn new(cid: u32, listener: UnixListener, registrar: Registrar, metrics: &Metrics) -> io::Result<Self> {
        registrar.add(&listener, LISTENER, Interest::Readable)?;
        let count = |what: &str| metrics.counter(format!("vsock.{what}"));
        let counters = Counters {
            opened: count("opened"),
            refused: count("refused"),
            rx_bytes: count("rx_bytes"),
            tx_bytes: count("tx_bytes"),
            resets: count("resets"),
            violations: count("violations"),
            malformed: count("malformed"),
        };
        Ok(Self {
            cid,
            config: u64::from(cid).to_le_bytes(),
            listener,
            registrar,
            clients: BTreeMap::new(),
            last_port: FIRST_PORT,
            next: 0,
            resets: VecDeque::new(),
            buffer: Box::new([0; MAX_DATA]),
            counters,
        })
    }

    fn accept(&mut self) {
        // A client that is gone again, or no descriptor left: the next event tries anew.
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let port = self.free_port();
        let ready = stream
            .set_nonblocking(true)
            .and_then(|()| self.registrar.add(&stream, port, Interest::Changes));
        if self.clients.len() >= MAX_CONNECTIONS || ready.is_err() {
            self.counters.refused.increment();
            return;
        }
        let phase = Phase::Greeting(Vec::new());
        let deadline = Some(Instant::now() + PATIENCE);
        self.clients.insert(
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
            if !self.clients.contains_key(&self.last_port) {
                return self.last_port;
            }
        }
    }

    /// Reads the client's first line, byte by byte, so that nothing behind it is taken.
    fn greet(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else {
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
            self.counters.refused.increment();
            self.clients.remove(&number);
        }
    }

    /// Drops clients whose time is over, with a reset for the guest where it knows of them.
    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u32> = self
            .clients
            .iter()
            .filter(|(_, client)| client.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.counters.refused.increment();
            self.end(number, Notice::Reset);
        }
    }

    /// Lets go of a client.
    fn end(&mut self, number: u32, notice: Notice) {
        let Some(client) = self.clients.remove(&number) else {
            return;
        };
        if let (Phase::Connected { port, .. }, Notice::Reset) = (&client.phase, notice) {
            let header = self.header(number, *port, Operation::Reset);
            self.queue_reset(header);
        }
    }

    fn queue_reset(&mut self, header: Header) {
        self.counters.resets.increment();
        // Beyond the bound a reset is lost; the guest's next packet on that stream asks for another.
        if self.resets.len() < 2 * MAX_RESETS {
            self.resets.push_back(header);
        }
    }

    fn header(&self, number: u32, port: u32, operation: Operation) -> Header {
        Header {
            source: HOST,
            destination: self.cid.into(),
            source_port: number,
            destination_port: port,
            length: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            window: 0,
            forwarded: 0,
        }
    }

    /// Takes packets of the guest.
    fn take_packets(&mut self, memory: &Memory, ring: &mut Ring) -> Work {
        for _ in 0..BUDGET {
            if self.resets.len() >= MAX_RESETS {
                return Work::Done;
            }
            match ring.pop(memory) {
                Some(Ok(chain)) => {
                    self.take_packet(memory, &chain);
                    ring.give_back(memory, chain.head, 0);
                }
                Some(Err(head)) => {
                    self.counters.malformed.increment();
                    ring.give_back(memory, head, 0);
                }
                None if ring.rearm(memory) => {}
                None => return Work::Done,
            }
        }
        Work::More
    }

    fn take_packet(&mut self, memory: &Memory, chain: &Chain) {
        let mut head = [0; HEADER];
        let whole = chain::gather(memory, &chain.readable, &mut head) == Ok(HEADER);
        let header = Header::parse(&head);
        let length = bytes::size(header.length.into());
        let data = chain::part(&chain.readable, HEADER, length);
        if !whole || length > MAX_DATA || chain::length(&data) != length {
            self.counters.malformed.increment();
            return;
        }
        if chain::gather(memory, &data, &mut self.buffer[..length]).is_err() {
            self.counters.malformed.increment();
            return;
        }
        let ours = header.source == u64::from(self.cid) && header.destination == HOST && header.kind == STREAM;
        let client = self.clients.get_mut(&header.destination_port).filter(|_| ours);
        let Some((client, connection)) = client.and_then(|client| match &mut client.phase {
            Phase::Connected { port, connection } if *port == header.source_port => Some((
                (&mut client.stream, &mut client.deadline, &mut client.writable),
                connection,
            )),
            _ => None,
        }) else {
            if header.operation != Some(Operation::Reset) {
                self.queue_reset(header.reset());
            }
            return;
        };
        let outcome = connection.receive(&header, &self.buffer[..length]);
        self.counters.rx_bytes.add(length.try_into().unwrap_or(0));
        let (stream, deadline, writable) = client;
        match outcome {
            Outcome::Continue => {}
            Outcome::Accepted => {
                *deadline = None;
                *writable = true;
                self.counters.opened.increment();
                // A fresh socket has room for one line; a client that is gone shows at the next step.
                let _told = stream.write_all(format!("OK {}\n", header.source_port).as_bytes());
            }
            Outcome::EndedByGuest => {
                write_out(stream, connection, writable);
                self.end(header.destination_port, Notice::Silent);
            }
            Outcome::Violation => {
                self.counters.violations.increment();
                self.end(header.destination_port, Notice::Reset);
            }
        }
    }

    /// Gives packets to the guest: resets first, then each stream in turn.
    fn give_packets(&mut self, memory: &Memory, ring: &mut Ring) -> Work {
        for _ in 0..BUDGET {
            let chain = match ring.pop(memory) {
                Some(Ok(chain)) => chain,
                Some(Err(head)) => {
                    self.counters.malformed.increment();
                    ring.give_back(memory, head, 0);
                    continue;
                }
                None if ring.rearm(memory) => continue,
                None => return Work::Done,
            };
            let room = chain::length(&chain.writable);
            if room <= HEADER {
                self.counters.malformed.increment();
                ring.give_back(memory, chain.head, 0);
                continue;
            }
            let Some((header, length)) = self.next_packet(room - HEADER) else {
                ring.undo();
                // The guest's next buffers are of interest only once there is something for them.
                return Work::Done;
            };
            let after = chain::part(&chain.writable, HEADER, length);
            let written = chain::scatter(memory, &chain.writable, &header.encode())
                .and_then(|_| chain::scatter(memory, &after, &self.buffer[..length]))
                .map_or(0, |data| HEADER + data);
            self.counters.tx_bytes.add(bytes::wide(length));
            ring.give_back(memory, chain.head, written);
        }
        Work::More
    }

    /// The next packet for the guest, with at most `room` bytes of data in the buffer.
    fn next_packet(&mut self, room: usize) -> Option<(Header, usize)> {
        if let Some(reset) = self.resets.pop_front() {
            return Some((reset, 0));
        }
        let numbers: Vec<u32> = self
            .clients
            .range(self.next..)
            .chain(self.clients.range(..self.next))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            if let Some(packet) = self.packet_of(number, room) {
                self.next = number.saturating_add(1);
                return Some(packet);
            }
        }
        None
    }

    fn packet_of(&mut self, number: u32, room: usize) -> Option<(Header, usize)> {
        let cid = self.cid;
        let client = self.clients.get_mut(&number)?;
        let Phase::Connected { port, connection } = &mut client.phase else {
            return None;
        };
        let header = |operation, flags, length, (window, forwarded)| Header {
            source: HOST,
            destination: cid.into(),
            source_port: number,
            destination_port: *port,
            length,
            kind: STREAM,
            operation: Some(operation),
            flags,
            window,
            forwarded,
        };
        loop {
            match connection.due() {
                Due::Nothing => return None,
                // Credit is asked for only when there may be something to send.
                Due::Control(Operation::CreditRequest, _) if !client.readable => return None,
                Due::Control(operation, flags) => {
                    let room = connection.sent_control(operation, flags);
                    if connection.is_lingering() {
                        client.deadline = Some(Instant::now() + PATIENCE);
                    }
                    return Some((header(operation, flags, 0, room), 0));
                }
                Due::Data(_) if !client.readable => return None,
                Due::Data(most) => {
                    let most = bytes::size(most.into()).min(room).min(MAX_DATA);
                    match client.stream.read(&mut self.buffer[..most]) {
                        Ok(0) => connection.client_finished(),
                        Ok(length) => {
                            let sent = u32::try_from(length).expect("a packet is shorter than 4 GiB");
                            return Some((header(Operation::Data, 0, sent, connection.sent_data(length)), length));
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => client.readable = false,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(_) => connection.client_gone(),
                    }
                }
            }
        }
    }

    /// Hands clients what waits for them, and ends the streams that are over.
    fn serve_clients(&mut self) {
        let mut over = Vec::new();
        for (number, client) in &mut self.clients {
            if let Phase::Connected { connection, .. } = &mut client.phase {
                write_out(&mut client.stream, connection, &mut client.writable);
                if connection.is_over() {
                    over.push(*number);
                }
            }
        }
        for number in over {
            self.end(number, Notice::Reset);
        }
    }
}

/// Whether the guest has to learn that a stream is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notice {
    Reset,
    Silent,
}

/// Writes what waits for the client until it takes no more.
fn write_out(stream: &mut UnixStream, connection: &mut Connection, writable: &mut bool) {
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

impl Device for Vsock {
    fn kind(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, _features: u64) {}

    /// Streams do not survive the guest's driver.
    fn reset(&mut self) {
        self.clients
            .retain(|_, client| matches!(client.phase, Phase::Greeting(_)));
        self.resets.clear();
    }

    fn event(&mut self, number: u32) {
        match number {
            DOORBELL => {}
            LISTENER => self.accept(),
            number => {
                if let Some(client) = self.clients.get_mut(&number) {
                    (client.readable, client.writable) = (true, true);
                }
                self.greet(number);
            }
        }
        self.expire();
    }

    fn deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(|client| client.deadline).min()
    }

    fn process(&mut self, memory: &Memory, rings: &mut [Ring]) -> Result<Work, HostFailure> {
        // The third queue carries events of migration, which does not happen.
        let [give, take, _events] = rings else {
            return Ok(Work::Done);
        };
        let taken = self.take_packets(memory, take);
        self.serve_clients();
        let given = self.give_packets(memory, give);
        // Resets that were given may have made room for packets that were left.
        let left = taken == Work::Done && take.waiting(memory) > 0 && self.resets.len() < MAX_RESETS;
        Ok(if taken == Work::More || given == Work::More || left {
            Work::More
        } else {
            Work::Done
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::{
        event_loop::EventLoop,
        virtio::{
            chain::tests::{WRITE, memory, ring_with},
            vsock::{connection::WINDOW, packet::SHUTDOWN_SEND},
        },
    };

    const GIVEN: u64 = 0x2_0000;
    const TAKEN: u64 = 0x4_0000;

    struct Bench {
        device: Vsock,
        directory: tempfile::TempDir,
        memory: Memory,
        metrics: Metrics,
        _events: EventLoop,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(directory.path().join("vsock")).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (events, metrics) = (EventLoop::new().unwrap(), Metrics::default());
            let device = Vsock::new(3, listener, events.registrar(), &metrics).unwrap();
            Self {
                device,
                directory,
                memory: memory(),
                metrics,
                _events: events,
            }
        }

        fn client(&mut self, greeting: &str) -> UnixStream {
            let mut client = UnixStream::connect(self.directory.path().join("vsock")).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.write_all(greeting.as_bytes()).unwrap();
            self.device.event(LISTENER);
            client
        }

        /// The guest offers one buffer; what is the packet in it?
        fn give(&mut self) -> Option<(Header, Vec<u8>)> {
            self.memory.write_slice(&[0; HEADER], GuestAddress(GIVEN)).unwrap();
            let give = ring_with(&self.memory, &[(GIVEN, 4096, WRITE)]);
            self.device
                .process(&self.memory, &mut [give, Ring::new(16), Ring::new(16)])
                .unwrap();
            let mut head = [0; HEADER];
            self.memory.read_slice(&mut head, GuestAddress(GIVEN)).unwrap();
            let header = Header::parse(&head);
            header.operation?;
            let mut data = vec![0; usize::try_from(header.length).unwrap()];
            self.memory
                .read_slice(&mut data, GuestAddress(GIVEN + bytes::wide(HEADER)))
                .unwrap();
            Some((header, data))
        }

        /// The guest sends one packet.
        fn take(&mut self, header: Header, data: &[u8]) {
            let header = Header {
                length: u32::try_from(data.len()).unwrap(),
                ..header
            };
            let packet = [&header.encode()[..], data].concat();
            self.memory.write_slice(&packet, GuestAddress(TAKEN)).unwrap();
            let take = ring_with(&self.memory, &[(TAKEN, u32::try_from(packet.len()).unwrap(), 0)]);
            self.device
                .process(&self.memory, &mut [Ring::new(16), take, Ring::new(16)])
                .unwrap();
        }
    }

    fn from_guest(host_port: u32, operation: Operation) -> Header {
        Header {
            source: 3,
            destination: HOST,
            source_port: 5000,
            destination_port: host_port,
            length: 0,
            kind: STREAM,
            operation: Some(operation),
            flags: 0,
            window: 1000,
            forwarded: 0,
        }
    }

    #[test]
    fn stream_is_opened_carries_both_ways_and_is_closed() {
        let mut bench = Bench::new();
        let mut client = bench.client("CONNECT 5000\nquestion");
        let (request, _) = bench.give().unwrap();
        assert_eq!(
            (request.operation, request.destination_port),
            (Some(Operation::Request), 5000)
        );
        assert_eq!(
            (request.source, request.destination, request.window),
            (HOST, 3, 0x1_0000)
        );
        bench.take(from_guest(request.source_port, Operation::Response), &[]);
        let (data, text) = bench.give().unwrap();
        assert_eq!(
            (data.operation, text.as_slice()),
            (Some(Operation::Data), &b"question"[..])
        );
        bench.take(from_guest(request.source_port, Operation::Data), b"answer");
        let mut heard = [0; 14];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"OK 5000\nanswer");
        client.shutdown(Shutdown::Write).unwrap();
        bench.device.event(request.source_port);
        let (end, _) = bench.give().unwrap();
        assert_eq!((end.operation, end.flags), (Some(Operation::Shutdown), SHUTDOWN_SEND));
        let close = Header {
            flags: 3,
            ..from_guest(request.source_port, Operation::Shutdown)
        };
        bench.take(close, &[]);
        assert_eq!(client.read(&mut heard).unwrap(), 0);
        assert_eq!(bench.give().unwrap().0.operation, Some(Operation::Reset));
        assert!(bench.device.clients.is_empty());
    }

    #[test]
    fn guest_may_not_open_streams_and_gets_a_reset() {
        let mut bench = Bench::new();
        bench.take(from_guest(80, Operation::Request), &[]);
        let (reset, _) = bench.give().unwrap();
        assert_eq!((reset.operation, reset.source_port), (Some(Operation::Reset), 80));
        bench.take(from_guest(80, Operation::Reset), &[]);
        assert_eq!(bench.give(), None);
    }

    #[test]
    fn refused_client_is_hung_up_on_without_an_answer() {
        let mut bench = Bench::new();
        let mut client = bench.client("CONNECT 5000\n");
        let (request, _) = bench.give().unwrap();
        bench.take(from_guest(request.source_port, Operation::Reset), &[]);
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn more_clients_than_streams_are_hung_up_on() {
        let mut bench = Bench::new();
        let _held: Vec<_> = (0..MAX_CONNECTIONS).map(|_| bench.client("CONNECT 1\n")).collect();
        let mut late = bench.client("CONNECT 1\n");
        assert!(matches!(late.read(&mut [0; 8]), Ok(0) | Err(_)));
        assert_eq!(bench.metrics.snapshot()["vsock.refused"], 1);
    }

    proptest! {
        #[test]
        fn hostile_packets_never_panic_and_never_hold_more_than_the_window(
            packets in prop::collection::vec((any::<[u8; HEADER]>(), 0u16..9, 0usize..5000, any::<bool>()), 1..40),
        ) {
            let mut bench = Bench::new();
            let _client = bench.client("CONNECT 5000\n");
            let (request, _) = bench.give().unwrap();
            for (random, operation, length, known) in packets {
                let mut head = random;
                head[30..32].copy_from_slice(&operation.to_le_bytes());
                let random = Header::parse(&head);
                let header = match random.operation {
                    Some(operation) if known => from_guest(request.source_port, operation),
                    _ => random,
                };
                bench.take(header, &vec![7; length]);
                bench.give();
                prop_assert!(bench.device.resets.len() <= 2 * MAX_RESETS);
                for client in bench.device.clients.values_mut() {
                    if let Phase::Connected { connection, .. } = &mut client.phase {
                        prop_assert!(connection.for_client().len() <= usize::try_from(WINDOW).unwrap());
                    }
                }
            }
        }
    }

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
