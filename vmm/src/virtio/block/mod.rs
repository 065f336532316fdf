//! Block device (section 5.2): reads, writes, flushes and zeroes over a file or a block device.
//!
//! There are no discards: the space of a file is its guest's to the last byte, and one that gave some back could find none when
//! it writes there again.

pub mod request;

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
};

use node_api::vmm::Access;
use rustix::fs::FallocateFlags;
use virtio_bindings::{
    virtio_blk::{VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES},
    virtio_ids::VIRTIO_ID_BLOCK,
};
use vm_memory::Bytes;

use self::request::{Answer, MAX_CLEAR, Request, SECTOR, parse};
use super::{
    COMMON_FEATURES,
    chain::{self, Ring, Segment},
    slot::{Device, HostFailure, Work},
};
use crate::{
    Memory, bytes,
    metrics::{Counter, Metrics},
};

const QUEUE_SIZE: u16 = 256;
/// Most data segments of a request: the queue less header and status.
const MAX_DATA_SEGMENTS: u32 = 254;
/// Bytes of the serial that a guest reads.
const SERIAL: usize = 20;
/// Bytes of configuration space, up to `write_zeroes_may_unmap` and its padding.
const CONFIG: usize = 60;

/// Feature: `seg_max` holds.
const SEG_MAX: u64 = 1 << VIRTIO_BLK_F_SEG_MAX;
/// Feature: read-only.
const READ_ONLY: u64 = 1 << VIRTIO_BLK_F_RO;
/// Feature: flush requests are understood.
pub const FLUSH: u64 = 1 << VIRTIO_BLK_F_FLUSH;
/// Feature: write-zeroes requests are understood.
const WRITE_ZEROES: u64 = 1 << VIRTIO_BLK_F_WRITE_ZEROES;

/// The block device.
#[derive(Debug)]
pub struct Block {
    file: File,
    capacity: u64,
    access: Access,
    serial: [u8; SERIAL],
    config: [u8; CONFIG],
    flushes_by_request: bool,
    counters: Counters,
    name: String,
}

#[derive(Debug)]
struct Counters {
    reads: Counter,
    read_bytes: Counter,
    writes: Counter,
    written_bytes: Counter,
    flushes: Counter,
    cleared_bytes: Counter,
    errors: Counter,
    malformed: Counter,
}

impl Block {
    /// Disk `name` over `file`.
    ///
    /// # Errors
    /// When the file's length cannot be read.
    pub fn new(mut file: File, access: Access, serial: &str, name: &str, metrics: &Metrics) -> io::Result<Self> {
        let capacity = file.seek(SeekFrom::End(0))? / SECTOR * SECTOR;
        let mut padded = [0; SERIAL];
        let length = serial.len().min(SERIAL);
        padded[..length].copy_from_slice(&serial.as_bytes()[..length]);
        let count = |what: &str| metrics.counter(format!("{name}.{what}"));
        let counters = Counters {
            reads: count("reads"),
            read_bytes: count("read_bytes"),
            writes: count("writes"),
            written_bytes: count("written_bytes"),
            flushes: count("flushes"),
            cleared_bytes: count("cleared_bytes"),
            errors: count("errors"),
            malformed: count("malformed"),
        };
        Ok(Self {
            file,
            capacity,
            access,
            serial: padded,
            config: config(capacity),
            flushes_by_request: false,
            counters,
            name: name.to_owned(),
        })
    }

    fn answer(&mut self, memory: &Memory, request: &Request) -> Result<(Answer, usize), HostFailure> {
        let done = match request {
            Request::Read { at, data } => self.read(memory, *at, data),
            Request::Write { at, data } => self.write(memory, *at, data).map(|()| 0),
            Request::Flush => self.flush().map(|()| 0),
            Request::Serial { data } => return Ok(self.give_serial(memory, data)),
            Request::Zero { at, length } => self.zero(*at, *length).map(|()| 0),
            Request::Refused(answer) => {
                self.counters.errors.increment();
                return Ok((*answer, 0));
            }
        };
        match done {
            Ok(written) => Ok((Answer::Ok, written)),
            Err(error) if is_gone(&error) => Err(HostFailure(format!("{}: {error}", self.name))),
            Err(_) => {
                self.counters.errors.increment();
                Ok((Answer::IoError, 0))
            }
        }
    }

    fn read(&mut self, memory: &Memory, at: u64, data: &[Segment]) -> io::Result<usize> {
        self.file.seek(SeekFrom::Start(at))?;
        for segment in data {
            memory
                .read_exact_volatile_from(segment.address, &mut self.file, segment.length)
                .map_err(io_error)?;
        }
        let length = chain::length(data);
        self.counters.reads.increment();
        self.counters.read_bytes.add(bytes::wide(length));
        Ok(length)
    }

    fn write(&mut self, memory: &Memory, at: u64, data: &[Segment]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        for segment in data {
            memory
                .write_all_volatile_to(segment.address, &mut self.file, segment.length)
                .map_err(io_error)?;
        }
        self.counters.writes.increment();
        self.counters.written_bytes.add(bytes::wide(chain::length(data)));
        self.settle()
    }

    /// Section 5.2.6.2: for a driver that does not flush, a write is stable before it is answered.
    fn settle(&mut self) -> io::Result<()> {
        if self.flushes_by_request {
            Ok(())
        } else {
            self.file.sync_data()
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.access == Access::ReadWrite {
            self.file.sync_data()?;
        }
        self.counters.flushes.increment();
        Ok(())
    }

    fn give_serial(&self, memory: &Memory, data: &[Segment]) -> (Answer, usize) {
        match chain::scatter(memory, data, &self.serial) {
            Ok(written) => (Answer::Ok, written),
            Err(chain::Malformed) => (Answer::IoError, 0),
        }
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt;

        self.counters.cleared_bytes.add(length);
        // No hole is punched: the space stays reserved.
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, zero, at, length) {
            Ok(()) => {}
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeroes = [0; 64 * 1024];
                let mut done = 0;
                while done < length {
                    let step = (length - done).min(bytes::wide(zeroes.len()));
                    self.file.write_all_at(&zeroes[..bytes::size(step)], at + done)?;
                    done += step;
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.settle()
    }
}

/// Configuration space: capacity, `seg_max`, and the limits of zeroes (section 5.2.4), which are not unmapped.
fn config(capacity: u64) -> [u8; CONFIG] {
    let mut config = [0; CONFIG];
    let mut put = |at: usize, value: &[u8]| config[at..at + value.len()].copy_from_slice(value);
    put(0, &(capacity / SECTOR).to_le_bytes());
    put(12, &MAX_DATA_SEGMENTS.to_le_bytes());
    put(48, &MAX_CLEAR.to_le_bytes());
    put(52, &1u32.to_le_bytes());
    config
}

/// The file or device is not there any more; repeating the request cannot help.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::ENXIO | libc::EBADF | libc::ENOMEDIUM)
    )
}

fn io_error(error: vm_memory::GuestMemoryError) -> io::Error {
    match error {
        vm_memory::GuestMemoryError::IOError(error) => error,
        other => io::Error::other(other),
    }
}

impl Device for Block {
    fn kind(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        let access = match self.access {
            Access::ReadOnly => READ_ONLY,
            Access::ReadWrite => WRITE_ZEROES,
        };
        COMMON_FEATURES | SEG_MAX | FLUSH | access
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, features: u64) {
        self.flushes_by_request = features & FLUSH != 0;
    }

    fn reset(&mut self) {
        self.flushes_by_request = false;
    }

    fn event(&mut self, _number: u32) {}

    fn process(&mut self, memory: &Memory, rings: &mut [Ring]) -> Result<Work, HostFailure> {
        let ring = &mut rings[0];
        // One turn takes what a full queue holds; the disk has a thread of its own, so that is fair enough.
        for _ in 0..QUEUE_SIZE {
            match ring.pop(memory) {
                Some(Ok(chain)) => {
                    let written = match parse(memory, &chain, self.capacity, self.access) {
                        Ok((request, status)) => {
                            let (answer, written) = self.answer(memory, &request)?;
                            chain::scatter(memory, &[status], &[answer.code()]).map_or(0, |one| written + one)
                        }
                        Err(chain::Malformed) => {
                            self.counters.malformed.increment();
                            0
                        }
                    };
                    ring.give_back(memory, chain.head, written);
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
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::FileExt};

    use proptest::prelude::*;
    use vm_memory::GuestAddress;

    use super::*;
    use crate::virtio::chain::tests::{WRITE, memory, ring_with};

    const HEAD: u64 = 0x1_0000;
    const DATA: u64 = 0x2_0000;
    const STATUS: u64 = 0x3_0000;

    fn disk(access: Access) -> (Block, File, Metrics) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 4096]).unwrap();
        let metrics = Metrics::default();
        let block = Block::new(file.try_clone().unwrap(), access, "disk-1", "block.0", &metrics).unwrap();
        (block, file, metrics)
    }

    fn header(memory: &Memory, kind: u32, sector: u64) {
        memory.write_obj(kind, GuestAddress(HEAD)).unwrap();
        memory.write_obj(sector, GuestAddress(HEAD + 8)).unwrap();
        memory.write_obj(0xaau8, GuestAddress(STATUS)).unwrap();
    }

    fn run(block: &mut Block, memory: &Memory, descriptors: &[(u64, u32, u16)]) -> u8 {
        let mut rings = [ring_with(memory, descriptors)];
        assert_eq!(block.process(memory, &mut rings).unwrap(), Work::Done);
        memory.read_obj(GuestAddress(STATUS)).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_and_counted() {
        let (memory, (mut block, file, metrics)) = (memory(), disk(Access::ReadWrite));
        memory.write_slice(&[9; 512], GuestAddress(DATA)).unwrap();
        header(&memory, 1, 2);
        assert_eq!(
            run(
                &mut block,
                &memory,
                &[(HEAD, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)]
            ),
            0
        );
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, 1024).unwrap();
        assert_eq!(sector, [9; 512]);
        header(&memory, 0, 1);
        assert_eq!(
            run(
                &mut block,
                &memory,
                &[(HEAD, 16, 0), (DATA, 1024, WRITE), (STATUS, 1, WRITE)]
            ),
            0
        );
        let mut data = [0u8; 1024];
        memory.read_slice(&mut data, GuestAddress(DATA)).unwrap();
        assert_eq!((&data[..512], &data[512..]), (&[7; 512][..], &[9; 512][..]));
        header(&memory, 4, 0);
        assert_eq!(run(&mut block, &memory, &[(HEAD, 16, 0), (STATUS, 1, WRITE)]), 0);
        let counts = metrics.snapshot();
        assert_eq!(
            (
                counts["block.0.writes"],
                counts["block.0.reads"],
                counts["block.0.flushes"]
            ),
            (1, 1, 1)
        );
    }

    #[test]
    fn read_only_disk_is_never_written() {
        let (memory, (mut block, file, _)) = (memory(), disk(Access::ReadOnly));
        assert_eq!(block.features() & (WRITE_ZEROES | READ_ONLY), READ_ONLY);
        for kind in [1, 13] {
            header(&memory, kind, 0);
            assert_eq!(
                run(
                    &mut block,
                    &memory,
                    &[(HEAD, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)]
                ),
                1
            );
        }
        let mut content = [0; 4096];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(content, [7; 4096]);
    }

    #[test]
    fn requests_beyond_the_end_or_of_odd_length_are_io_errors() {
        let (memory, (mut block, _, metrics)) = (memory(), disk(Access::ReadWrite));
        for (kind, sector, length) in [(0, 8, 512), (0, 7, 1024), (1, u64::MAX, 512), (0, 0, 100), (1, 8, 512)] {
            header(&memory, kind, sector);
            let flags = if kind == 0 { WRITE } else { 0 };
            let status = run(
                &mut block,
                &memory,
                &[(HEAD, 16, 0), (DATA, length, flags), (STATUS, 1, WRITE)],
            );
            assert_eq!(status, 1, "{kind} {sector} {length}");
        }
        assert_eq!(metrics.snapshot()["block.0.errors"], 5);
    }

    #[test]
    fn unknown_request_is_unsupported_and_short_header_an_error() {
        let (memory, (mut block, _, _)) = (memory(), disk(Access::ReadWrite));
        header(&memory, 99, 0);
        assert_eq!(run(&mut block, &memory, &[(HEAD, 16, 0), (STATUS, 1, WRITE)]), 2);
        assert_eq!(run(&mut block, &memory, &[(HEAD, 15, 0), (STATUS, 1, WRITE)]), 1);
    }

    #[test]
    fn serial_is_given_padded() {
        let (memory, (mut block, _, _)) = (memory(), disk(Access::ReadOnly));
        header(&memory, 8, 0);
        assert_eq!(
            run(
                &mut block,
                &memory,
                &[(HEAD, 16, 0), (DATA, 20, WRITE), (STATUS, 1, WRITE)]
            ),
            0
        );
        let mut serial = [1u8; 20];
        memory.read_slice(&mut serial, GuestAddress(DATA)).unwrap();
        assert_eq!(&serial, b"disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn zeroes_stay_inside_their_range() {
        let (memory, (mut block, file, _)) = (memory(), disk(Access::ReadWrite));
        memory.write_obj(1u64, GuestAddress(DATA)).unwrap();
        memory.write_obj(2u32, GuestAddress(DATA + 8)).unwrap();
        header(&memory, 13, 0);
        assert_eq!(
            run(&mut block, &memory, &[(HEAD, 16, 0), (DATA, 16, 0), (STATUS, 1, WRITE)]),
            0
        );
        let mut content = [0; 4096];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(
            (&content[..512], &content[512..1536], &content[1536..]),
            (&[7; 512][..], &[0; 1024][..], &[7; 2560][..])
        );
        memory.write_obj(100u32, GuestAddress(DATA + 8)).unwrap();
        header(&memory, 13, 0);
        assert_eq!(
            run(&mut block, &memory, &[(HEAD, 16, 0), (DATA, 16, 0), (STATUS, 1, WRITE)]),
            1
        );
    }

    #[test]
    fn zeroes_and_discards_give_no_space_away() {
        use std::os::unix::fs::MetadataExt;

        let (memory, (mut block, file, _)) = (memory(), disk(Access::ReadWrite));
        let bytes = 1 << 20;
        file.write_all_at(&vec![7; bytes], 0).unwrap();
        file.sync_all().unwrap();
        block.capacity = bytes::wide(bytes);
        let before = file.metadata().unwrap().blocks();
        assert!(before * 512 >= bytes::wide(bytes));
        memory.write_obj(0u64, GuestAddress(DATA)).unwrap();
        memory
            .write_obj(u32::try_from(bytes / 512).unwrap(), GuestAddress(DATA + 8))
            .unwrap();
        for (kind, answer) in [(13, 0), (11, 2)] {
            header(&memory, kind, 0);
            let chain = [(HEAD, 16, 0), (DATA, 16, 0), (STATUS, 1, WRITE)];
            assert_eq!(run(&mut block, &memory, &chain), answer);
            assert!(file.metadata().unwrap().blocks() >= before, "request {kind}");
        }
        let mut content = vec![1; bytes];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn request_without_room_for_its_status_is_counted_and_given_back() {
        let (memory, (mut block, _, metrics)) = (memory(), disk(Access::ReadWrite));
        header(&memory, 1, 0);
        assert_eq!(run(&mut block, &memory, &[(HEAD, 16, 0), (DATA, 512, 0)]), 0xaa);
        assert_eq!(metrics.snapshot()["block.0.malformed"], 1);
    }

    /// A device that takes every write and refuses every flush.
    fn unflushable() -> Block {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let mut block = Block::new(null, Access::ReadWrite, "", "block.0", &Metrics::default()).unwrap();
        block.capacity = 4096;
        block
    }

    #[test]
    fn flush_is_answered_only_after_the_host_has_flushed() {
        let (memory, mut block) = (memory(), unflushable());
        header(&memory, 4, 0);
        assert_eq!(run(&mut block, &memory, &[(HEAD, 16, 0), (STATUS, 1, WRITE)]), 1);
    }

    #[test]
    fn write_is_stable_at_once_for_a_driver_that_does_not_flush() {
        let (memory, mut block) = (memory(), unflushable());
        for (features, answer) in [(FLUSH, 0), (0, 1)] {
            block.activate(features);
            header(&memory, 1, 0);
            assert_eq!(
                run(
                    &mut block,
                    &memory,
                    &[(HEAD, 16, 0), (DATA, 512, 0), (STATUS, 1, WRITE)]
                ),
                answer
            );
        }
    }

    proptest! {
        #[test]
        fn hostile_requests_never_panic_and_never_change_the_file_length(
            head in any::<[u8; 16]>(),
            kind in 0u32..16,
            sector in 0u64..20,
            descriptors in prop::collection::vec((any::<u32>(), any::<u16>(), 0u16..4), 1..10),
        ) {
            let (memory, (mut block, file, _)) = (memory(), disk(Access::ReadWrite));
            memory.write_slice(&head, GuestAddress(HEAD)).unwrap();
            header(&memory, kind, sector);
            let chain: Vec<_> = descriptors
                .iter()
                .map(|(address, length, flags)| (u64::from(*address) % 0x11_0000, u32::from(*length), flags & WRITE))
                .collect();
            let mut rings = [ring_with(&memory, &chain)];
            block.process(&memory, &mut rings).unwrap();
            let mut with_header = vec![(HEAD, 16, 0)];
            with_header.extend(chain);
            with_header.truncate(15);
            let mut rings = [ring_with(&memory, &with_header)];
            block.process(&memory, &mut rings).unwrap();
            prop_assert_eq!(file.metadata().unwrap().len(), 4096);
        }
    }
}
