//! Descriptor chains of a guest, taken with every bound checked, and the ring that they come from.

use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::{Memory, bytes};

/// Most segments of one chain; more are refused. A device here never announces more than 254.
pub const MAX_SEGMENTS: usize = 1024;

/// A guest's chain breaks the rules of section 2.7: too long, out of memory, cut off, or writable before readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed descriptor chain")]
pub struct Malformed;

/// A stretch of guest memory that lies inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: GuestAddress,
    /// Its bytes.
    pub length: usize,
}

/// A chain whose segments all lie in guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Names the chain when it is given back.
    pub head: u16,
    /// What the guest wrote for the device.
    pub readable: Vec<Segment>,
    /// Where the device writes.
    pub writable: Vec<Segment>,
}

/// Total length of `segments`.
#[must_use]
pub fn length(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.length).sum()
}

/// The part of `segments` from `skip` on, at most `length` bytes.
#[must_use]
pub fn part(segments: &[Segment], skip: usize, length: usize) -> Vec<Segment> {
    let (mut skip, mut left) = (skip, length);
    let mut out = Vec::new();
    for segment in segments {
        if skip >= segment.length {
            skip -= segment.length;
            continue;
        }
        let length = (segment.length - skip).min(left);
        if length == 0 {
            break;
        }
        out.push(Segment {
            address: GuestAddress(segment.address.0 + bytes::wide(skip)),
            length,
        });
        (skip, left) = (0, left - length);
    }
    out
}

/// Copies the first bytes of `segments` to `buffer`; returns how many there were.
///
/// # Errors
/// [`Malformed`] when a segment is not in guest memory.
pub fn gather(memory: &Memory, segments: &[Segment], buffer: &mut [u8]) -> Result<usize, Malformed> {
    let mut done = 0;
    for segment in segments {
        let length = segment.length.min(buffer.len() - done);
        memory
            .read_slice(&mut buffer[done..done + length], segment.address)
            .map_err(|_| Malformed)?;
        done += length;
    }
    Ok(done)
}

/// Copies `buffer` to the first bytes of `segments`; returns how many had room.
///
/// # Errors
/// [`Malformed`] when a segment is not in guest memory.
pub fn scatter(memory: &Memory, segments: &[Segment], buffer: &[u8]) -> Result<usize, Malformed> {
    let mut done = 0;
    for segment in segments {
        let length = segment.length.min(buffer.len() - done);
        memory
            .write_slice(&buffer[done..done + length], segment.address)
            .map_err(|_| Malformed)?;
        done += length;
    }
    Ok(done)
}

/// A queue, and whether chains were given back that the guest has not been told of.
#[derive(Debug)]
pub struct Ring {
    /// The queue itself.
    pub queue: Queue,
    returned: bool,
    broken: bool,
}

impl Ring {
    /// A ring of at most `size` chains; `size` is a power of two.
    #[must_use]
    pub fn new(size: u16) -> Self {
        let queue = Queue::new(size).expect("devices have queues of a power of two");
        Self {
            queue,
            returned: false,
            broken: false,
        }
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        self.queue.reset();
        (self.returned, self.broken) = (false, false);
    }

    /// The next chain. `Some(Err(head))` is one that breaks the rules and has to be given back unused.
    pub fn pop(&mut self, memory: &Memory) -> Option<Result<Chain, u16>> {
        if self.broken || !self.queue.ready() {
            return None;
        }
        match self.queue.iter(memory) {
            Ok(mut available) => available.next().map(|chain| check(memory, chain)),
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    /// Lets the chain that was taken last be taken again.
    pub fn undo(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives chain `head` back, with `written` bytes written to it.
    pub fn give_back(&mut self, memory: &Memory, head: u16, written: usize) {
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        match self.queue.add_used(memory, head, written) {
            Ok(()) => self.returned = true,
            Err(_) => self.broken = true,
        }
    }

    /// Asks the guest to notify of further chains; `true` when there are some already.
    pub fn rearm(&mut self, memory: &Memory) -> bool {
        if self.broken || !self.queue.ready() {
            return false;
        }
        self.queue.enable_notification(memory).unwrap_or_else(|_| {
            self.broken = true;
            false
        })
    }

    /// Whether the guest has to be interrupted for what was given back since the last call.
    pub fn take_interrupt(&mut self, memory: &Memory) -> bool {
        if !std::mem::take(&mut self.returned) {
            return false;
        }
        self.queue.needs_notification(memory).unwrap_or_else(|_| {
            self.broken = true;
            false
        })
    }

    /// Whether the guest's part of the ring cannot be used any more until a reset.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Number of chains that wait, for tests and metrics.
    #[must_use]
    pub fn waiting(&self, memory: &Memory) -> u16 {
        let available = self
            .queue
            .avail_idx(memory, Ordering::Acquire)
            .map_or(0, |index| index.0);
        available.wrapping_sub(self.queue.next_avail())
    }
}

fn check(memory: &Memory, chain: DescriptorChain<&Memory>) -> Result<Chain, u16> {
    let head = chain.head_index();
    let mut out = Chain {
        head,
        readable: Vec::new(),
        writable: Vec::new(),
    };
    let mut ended = false;
    for descriptor in chain {
        let segment = Segment {
            address: descriptor.addr(),
            length: bytes::size(descriptor.len().into()),
        };
        if out.readable.len() + out.writable.len() >= MAX_SEGMENTS
            || !GuestMemoryBackend::check_range(memory, segment.address, segment.length)
        {
            return Err(head);
        }
        ended = !descriptor.has_next();
        if descriptor.is_write_only() {
            out.writable.push(segment);
        } else if out.writable.is_empty() {
            out.readable.push(segment);
        } else {
            return Err(head);
        }
    }
    if ended { Ok(out) } else { Err(head) }
}

#[cfg(test)]
pub(crate) mod tests {
    use virtio_queue::{
        desc::{RawDescriptor, split::Descriptor},
        mock::MockSplitQueue,
    };

    use super::*;

    pub(crate) const NEXT: u16 = 1;
    pub(crate) const WRITE: u16 = 2;

    pub(crate) fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    /// A ring over `memory` with one chain of `(address, length, flags)`, linked in order.
    pub(crate) fn ring_with(memory: &Memory, descriptors: &[(u64, u32, u16)]) -> Ring {
        let mock = MockSplitQueue::new(memory, 16);
        let last = descriptors.len() - 1;
        let chain: Vec<RawDescriptor> = descriptors
            .iter()
            .enumerate()
            .map(|(index, (address, length, flags))| {
                let link = if index < last { NEXT } else { 0 };
                Descriptor::new(*address, *length, flags | link, u16::try_from(index + 1).unwrap()).into()
            })
            .collect();
        mock.build_desc_chain(&chain).unwrap();
        let queue: Queue = mock.create_queue().unwrap();
        Ring {
            queue,
            returned: false,
            broken: false,
        }
    }

    #[test]
    fn chain_is_split_into_what_is_read_and_what_is_written() {
        let memory = memory();
        let mut ring = ring_with(
            &memory,
            &[(0x1_0000, 16, 0), (0x1_1000, 512, WRITE), (0x1_2000, 1, WRITE)],
        );
        let chain = ring.pop(&memory).unwrap().unwrap();
        assert_eq!((chain.readable.len(), length(&chain.writable)), (1, 513));
        assert!(ring.pop(&memory).is_none());
    }

    #[test]
    fn chains_that_break_a_rule_are_refused_with_their_head() {
        let memory = memory();
        for hostile in [
            &[(0xffff_ffff_ffff_f000, 0x2000, 0)][..],
            &[(0xf_fff0, 0x20, 0)],
            &[(0x1_0000, u32::MAX, WRITE)],
            &[(0x1_0000, 16, WRITE), (0x1_1000, 16, 0)],
        ] {
            let mut ring = ring_with(&memory, hostile);
            assert_eq!(ring.pop(&memory), Some(Err(0)), "{hostile:x?}");
        }
    }

    #[test]
    fn chain_that_loops_is_refused_and_not_followed_forever() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        let looping = Descriptor::new(0x1_0000, 16, NEXT, 0);
        mock.desc_table().store(0, looping.into()).unwrap();
        mock.avail().ring().ref_at(0).unwrap().store(0);
        mock.avail().idx().store(1);
        let mut ring = Ring {
            queue: mock.create_queue().unwrap(),
            returned: false,
            broken: false,
        };
        assert_eq!(ring.pop(&memory), Some(Err(0)));
    }

    #[test]
    fn available_index_beyond_the_ring_breaks_it_until_reset() {
        let memory = memory();
        let mock = MockSplitQueue::new(&memory, 16);
        mock.avail().idx().store(17);
        let mut ring = Ring {
            queue: mock.create_queue().unwrap(),
            returned: false,
            broken: false,
        };
        assert!(ring.pop(&memory).is_none());
        assert!(ring.is_broken());
        ring.reset();
        assert!(!ring.is_broken());
    }

    #[test]
    fn parts_and_copies_cross_segment_borders() {
        let memory = memory();
        let at = |address, length| Segment {
            address: GuestAddress(address),
            length,
        };
        let segments = [at(0x1000, 3), at(0x2000, 0), at(0x3000, 5)];
        assert_eq!(part(&segments, 2, 4), [at(0x1002, 1), at(0x3000, 3)]);
        assert_eq!(part(&segments, 8, 4), []);
        assert_eq!(scatter(&memory, &segments, b"abcdefgh"), Ok(8));
        let mut back = [0; 10];
        assert_eq!(gather(&memory, &segments, &mut back), Ok(8));
        assert_eq!(&back[..8], b"abcdefgh");
        assert_eq!(gather(&memory, &[at(1 << 20, 1)], &mut back), Err(Malformed));
    }
}
