//! Network device (section 5.1) over a queue of a tap device. The header before each frame goes through unchanged: the
//! host's kernel checks it, and finishes checksums and segments that the guest left open.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use virtio_bindings::{
    virtio_ids::VIRTIO_ID_NET,
    virtio_net::{
        VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC,
    },
};

use super::{
    COMMON_FEATURES,
    chain::{self, Chain, Ring},
    slot::{Device, HostFailure, Work},
};
use crate::{
    Memory, bytes,
    metrics::{Counter, Metrics},
    sys::{self, NET_HEADER},
};

/// Event number of the tap queue.
pub const TAP: u32 = 1;
const QUEUE_SIZE: u16 = 256;
/// Most bytes of a frame with its header: 64 KiB of unsegmented packet and an Ethernet header with a VLAN tag.
pub const MAX_FRAME: usize = NET_HEADER + 65535 + 18;
/// Frames in a row, in each direction, before other devices get their turn.
const BUDGET: usize = 256;
/// Offset of `num_buffers` in the header: always one, as chains are not merged.
const BUFFER_COUNT: usize = 10;

/// Feature: the host finishes checksums.
const CHECKSUM: u64 = 1 << VIRTIO_NET_F_CSUM;
/// Feature: the guest takes frames with unfinished checksums.
const GUEST_CHECKSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
/// Feature: the hardware address is in the configuration.
const MAC: u64 = 1 << VIRTIO_NET_F_MAC;
/// Features: the host cuts TCP over IPv4 and IPv6 into segments.
const HOST_SEGMENTS: u64 = (1 << VIRTIO_NET_F_HOST_TSO4) | (1 << VIRTIO_NET_F_HOST_TSO6);
/// `TUN_F_CSUM`: frames with unfinished checksums are taken.
const TUN_CHECKSUM: u32 = 1;

/// The network device.
#[derive(Debug)]
pub struct Net {
    tap: File,
    config: [u8; 6],
    /// What the tap queue has to be told before the next frame.
    offload_due: Option<u32>,
    /// A received frame and its length, zero while there is none.
    received: Box<[u8; MAX_FRAME]>,
    waiting: usize,
    sending: Box<[u8; MAX_FRAME]>,
    counters: Counters,
    name: String,
}

#[derive(Debug)]
struct Counters {
    rx_frames: Counter,
    rx_bytes: Counter,
    rx_dropped: Counter,
    tx_frames: Counter,
    tx_bytes: Counter,
    tx_dropped: Counter,
    malformed: Counter,
}

impl Net {
    /// Network `name` with hardware address `mac` over `tap`, which does not block.
    #[must_use]
    pub fn new(tap: File, mac: [u8; 6], name: &str, metrics: &Metrics) -> Self {
        let count = |what: &str| metrics.counter(format!("{name}.{what}"));
        let counters = Counters {
            rx_frames: count("rx_frames"),
            rx_bytes: count("rx_bytes"),
            rx_dropped: count("rx_dropped"),
            tx_frames: count("tx_frames"),
            tx_bytes: count("tx_bytes"),
            tx_dropped: count("tx_dropped"),
            malformed: count("malformed"),
        };
        Self {
            tap,
            config: mac,
            offload_due: None,
            received: Box::new([0; MAX_FRAME]),
            waiting: 0,
            sending: Box::new([0; MAX_FRAME]),
            counters,
            name: name.to_owned(),
        }
    }

    /// Hands frames of the tap queue to the guest.
    fn receive(&mut self, memory: &Memory, ring: &mut Ring) -> Result<Work, HostFailure> {
        for _ in 0..BUDGET {
            if self.waiting == 0 {
                match self.tap.read(&mut self.received[..]) {
                    Ok(length) if length > NET_HEADER => self.waiting = length,
                    Ok(_) => continue,
                    Err(error) if is_transient(&error) => return Ok(Work::Done),
                    Err(error) => return Err(HostFailure(format!("{}: read a frame: {error}", self.name))),
                }
            }
            let chain = match ring.pop(memory) {
                Some(Ok(chain)) => chain,
                Some(Err(head)) => {
                    self.counters.malformed.increment();
                    ring.give_back(memory, head, 0);
                    continue;
                }
                None if ring.rearm(memory) => continue,
                // The frame waits; the guest's next buffers ring the doorbell.
                None => return Ok(Work::Done),
            };
            let written = self.deliver(memory, &chain);
            ring.give_back(memory, chain.head, written);
        }
        Ok(Work::More)
    }

    /// Copies the waiting frame into `chain`, or drops it when it does not fit.
    fn deliver(&mut self, memory: &Memory, chain: &Chain) -> usize {
        let length = std::mem::take(&mut self.waiting);
        self.received[BUFFER_COUNT..NET_HEADER].copy_from_slice(&1u16.to_le_bytes());
        let fits = chain::length(&chain.writable) >= length;
        match chain::scatter(memory, &chain.writable, &self.received[..length]) {
            Ok(written) if fits => {
                self.counters.rx_frames.increment();
                self.counters.rx_bytes.add(bytes::wide(length - NET_HEADER));
                written
            }
            _ => {
                self.counters.rx_dropped.increment();
                0
            }
        }
    }

    /// Hands frames of the guest to the tap queue.
    fn send(&mut self, memory: &Memory, ring: &mut Ring) -> Result<Work, HostFailure> {
        for _ in 0..BUDGET {
            match ring.pop(memory) {
                Some(Ok(chain)) => {
                    self.send_one(memory, &chain)?;
                    ring.give_back(memory, chain.head, 0);
                }
                Some(Err(head)) => {
                    self.counters.malformed.increment();
                    ring.give_back(memory, head, 0);
                }
                None if ring.rearm(memory) => {}
                None => return Ok(Work::Done),
            }
        }
        Ok(Work::More)
    }

    fn send_one(&mut self, memory: &Memory, chain: &Chain) -> Result<(), HostFailure> {
        let length = chain::length(&chain.readable);
        if length <= NET_HEADER || length > MAX_FRAME {
            self.counters.malformed.increment();
            return Ok(());
        }
        if chain::gather(memory, &chain.readable, &mut self.sending[..length]).is_err() {
            self.counters.malformed.increment();
            return Ok(());
        }
        match self.tap.write(&self.sending[..length]) {
            Ok(_) => {
                self.counters.tx_frames.increment();
                self.counters.tx_bytes.add(bytes::wide(length - NET_HEADER));
            }
            // A full queue, an interface that is down or a frame that the kernel refuses: networks lose frames.
            Err(error) if error.raw_os_error() != Some(libc::EBADFD) => self.counters.tx_dropped.increment(),
            Err(error) => return Err(HostFailure(format!("{}: send a frame: {error}", self.name))),
        }
        Ok(())
    }
}

/// No frame now, or an interface that is down.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::EIO))
}

impl Device for Net {
    fn kind(&self) -> u32 {
        VIRTIO_ID_NET
    }

    fn features(&self) -> u64 {
        COMMON_FEATURES | MAC | CHECKSUM | GUEST_CHECKSUM | HOST_SEGMENTS
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.offload_due = Some(if features & GUEST_CHECKSUM == 0 {
            0
        } else {
            TUN_CHECKSUM
        });
    }

    fn reset(&mut self) {
        (self.offload_due, self.waiting) = (None, 0);
    }

    fn event(&mut self, _number: u32) {}

    fn process(&mut self, memory: &Memory, rings: &mut [Ring]) -> Result<Work, HostFailure> {
        if let Some(flags) = self.offload_due.take() {
            sys::set_tap_offload(&self.tap, flags)
                .map_err(|error| HostFailure(format!("{}: set offloads: {error}", self.name)))?;
        }
        let [receive, send] = rings else { return Ok(Work::Done) };
        let received = self.receive(memory, receive)?;
        let sent = self.send(memory, send)?;
        Ok(if received == Work::More { received } else { sent })
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::OwnedFd, unix::net::UnixDatagram};

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::virtio::chain::tests::{WRITE, memory, ring_with};

    /// A datagram socket keeps frames apart as a tap queue does.
    fn net() -> (Net, UnixDatagram, Metrics) {
        let (tap, wire) = UnixDatagram::pair().unwrap();
        tap.set_nonblocking(true).unwrap();
        wire.set_nonblocking(true).unwrap();
        let metrics = Metrics::default();
        (
            Net::new(File::from(OwnedFd::from(tap)), [2, 0, 0, 0, 0, 1], "net.0", &metrics),
            wire,
            metrics,
        )
    }

    #[test]
    fn frame_reaches_the_guest_with_one_buffer_in_its_header() {
        let (mut net, wire, metrics) = net();
        let memory = memory();
        let mut ring = ring_with(&memory, &[(0x1_0000, 12, WRITE), (0x1_1000, 1514, WRITE)]);
        wire.send(&[&[0; NET_HEADER][..], b"frame of fourteen"].concat())
            .unwrap();
        assert_eq!(net.receive(&memory, &mut ring).unwrap(), Work::Done);
        let mut frame = [0; 17];
        memory.read_slice(&mut frame, GuestAddress(0x1_1000)).unwrap();
        assert_eq!(&frame, b"frame of fourteen");
        assert_eq!(memory.read_obj::<u16>(GuestAddress(0x1_000a)).unwrap(), 1);
        assert_eq!(metrics.snapshot()["net.0.rx_bytes"], 17);
    }

    #[test]
    fn frame_waits_for_a_buffer_and_one_too_large_is_dropped() {
        let (mut net, wire, metrics) = net();
        let memory = memory();
        wire.send(&[1; 100]).unwrap();
        let mut none = Ring::new(16);
        assert_eq!(net.receive(&memory, &mut none).unwrap(), Work::Done);
        assert_eq!(net.waiting, 100);
        let mut small = ring_with(&memory, &[(0x1_0000, 50, WRITE)]);
        net.receive(&memory, &mut small).unwrap();
        assert_eq!((net.waiting, metrics.snapshot()["net.0.rx_dropped"]), (0, 1));
    }

    #[test]
    fn frame_of_the_guest_is_sent_and_a_monstrous_one_is_not() {
        let (mut net, wire, metrics) = net();
        let memory = memory();
        memory.write_slice(b"hello", GuestAddress(0x1_000c)).unwrap();
        net.send(&memory, &mut ring_with(&memory, &[(0x1_0000, 17, 0)]))
            .unwrap();
        let mut frame = [0; 100];
        assert_eq!(wire.recv(&mut frame).unwrap(), 17);
        assert_eq!(&frame[12..17], b"hello");
        for length in [0, 12, 70_000] {
            net.send(&memory, &mut ring_with(&memory, &[(0x1_0000, length, 0)]))
                .unwrap();
        }
        assert!(wire.recv(&mut frame).is_err());
        assert_eq!(
            (
                metrics.snapshot()["net.0.tx_frames"],
                metrics.snapshot()["net.0.malformed"]
            ),
            (1, 3)
        );
    }
}
