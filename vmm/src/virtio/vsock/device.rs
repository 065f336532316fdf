//! The socket device: takes packets from the guest's queues and gives it what its clients and their streams have for it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::unix::net::UnixListener,
    time::Instant,
};

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

use super::{
    clients::{Clients, LISTENER, PATIENCE, Phase, write_out},
    connection::{Due, Outcome},
    packet::{HEADER, HOST, Header, Operation, STREAM},
};
use crate::{
    Memory, bytes,
    event_loop::Registrar,
    metrics::{Counter, Metrics},
    virtio::{
        COMMON_FEATURES,
        chain::{self, Chain, Ring},
        slot::{DOORBELL, Device, HostFailure, Work},
    },
};

/// Most resets that wait for the guest; while there are so many, nothing more is taken from it.
const MAX_RESETS: usize = 256;
/// Most bytes of data in one packet.
const MAX_DATA: usize = 64 * 1024;
/// Packets in a row, in each direction, before other devices get their turn.
const BUDGET: usize = 256;
const QUEUE_SIZE: u16 = 128;

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
    clients: Clients,
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
            clients: Clients::new(listener, registrar, counters.refused.clone())?,
            resets: VecDeque::new(),
            buffer: Box::new([0; MAX_DATA]),
            counters,
        })
    }

    /// Drops clients whose time is over, with a reset for the guest where it knows of them.
    fn expire(&mut self) {
        for number in self.clients.late(Instant::now()) {
            self.counters.refused.increment();
            self.end(number, Notice::Reset);
        }
    }

    /// Lets go of a client.
    fn end(&mut self, number: u32, notice: Notice) {
        let Some(client) = self.clients.remove(number) else {
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
        let client = self.clients.get_mut(header.destination_port).filter(|_| ours);
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
        for number in self.clients.in_turn() {
            if let Some(packet) = self.packet_of(number, room) {
                self.clients.served(number);
                return Some(packet);
            }
        }
        None
    }

    fn packet_of(&mut self, number: u32, room: usize) -> Option<(Header, usize)> {
        let cid = self.cid;
        let client = self.clients.get_mut(number)?;
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
        for (number, client) in self.clients.iter_mut() {
            if let Phase::Connected { connection, .. } = &mut client.phase {
                write_out(&mut client.stream, connection, &mut client.writable);
                if connection.is_over() {
                    over.push(number);
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
        self.clients.remove_connected();
        self.resets.clear();
    }

    fn event(&mut self, number: u32) {
        match number {
            DOORBELL => {}
            LISTENER => self.clients.accept(),
            number => {
                if let Some(client) = self.clients.get_mut(number) {
                    (client.readable, client.writable) = (true, true);
                }
                self.clients.greet(number);
            }
        }
        self.expire();
    }

    fn deadline(&self) -> Option<Instant> {
        self.clients.deadline()
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
    use std::{net::Shutdown, os::unix::net::UnixStream, time::Duration};

    use proptest::prelude::*;
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::{
        event_loop::EventLoop,
        virtio::{
            chain::tests::{WRITE, memory, ring_with},
            vsock::{clients::MAX_CONNECTIONS, connection::WINDOW, packet::SHUTDOWN_SEND},
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
        assert!(bench.device.clients.iter_mut().next().is_none());
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
                for (_, client) in bench.device.clients.iter_mut() {
                    if let Phase::Connected { connection, .. } = &mut client.phase {
                        prop_assert!(connection.for_client().len() <= usize::try_from(WINDOW).unwrap());
                    }
                }
            }
        }
    }
}
