//! The guest's first serial port, and the bounded log that it writes to.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::fs::OFlags;
use vm_superio::Trigger;
use vmm_sys_util::{eventfd::EventFd, timerfd::TimerFd};

use crate::{
    lock,
    metrics::{Counter, Metrics},
};

/// Bytes that are held back at most before they are written out.
const HELD: usize = 1024;
/// How long a line without its end is held back.
pub const HOLD: Duration = Duration::from_millis(50);

/// The log of the guest's console: a pipe, or a regular file that never exceeds its limit.
#[derive(Debug)]
pub struct SerialLog {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    kind: Kind,
    held: Vec<u8>,
    timer: Option<TimerFd>,
    bytes: Counter,
    dropped: Counter,
}

#[derive(Debug)]
enum Kind {
    /// A pipe takes what it has room for; a guest never waits for its reader.
    Pipe,
    /// The file may be opened for writing alone, so the newer half is kept in memory to be written anew.
    Regular {
        length: u64,
        limit: u64,
        newest: VecDeque<u8>,
    },
}

impl SerialLog {
    /// A log into `file`, of at most `limit` bytes if it is a regular file.
    ///
    /// # Errors
    /// When the file's kind or length cannot be read or its flags not be set.
    pub fn new(mut file: File, limit: u64, metrics: &Metrics) -> io::Result<Self> {
        let mut flags = rustix::fs::fcntl_getfl(&file)?;
        let kind = if file.metadata()?.is_file() {
            flags.remove(OFlags::APPEND);
            Kind::Regular {
                length: file.seek(SeekFrom::End(0))?,
                limit,
                newest: VecDeque::new(),
            }
        } else {
            flags.insert(OFlags::NONBLOCK);
            Kind::Pipe
        };
        rustix::fs::fcntl_setfl(&file, flags)?;
        let (bytes, dropped) = (metrics.counter("serial.bytes"), metrics.counter("serial.dropped_bytes"));
        let inner = Inner {
            file,
            kind,
            held: Vec::with_capacity(HELD),
            timer: None,
            bytes,
            dropped,
        };
        Ok(Self {
            inner: Mutex::new(inner),
        })
    }

    /// Lets `timer` fire when a line without its end was held back for [`HOLD`]; its holder calls [`Self::flush`].
    pub fn set_timer(&self, timer: TimerFd) {
        lock(&self.inner).timer = Some(timer);
    }

    /// Writes out what is held back.
    pub fn flush(&self) {
        lock(&self.inner).flush();
    }

    /// Clears the timer's expiry, then writes out what is held back.
    pub fn timer_fired(&self) {
        let mut inner = lock(&self.inner);
        if let Some(timer) = &mut inner.timer {
            // Non-zero expiry is what woke the caller; the count is of no use.
            let _count = timer.wait();
        }
        inner.flush();
    }

    fn push(&self, bytes: &[u8]) {
        lock(&self.inner).push(bytes);
    }
}

impl Inner {
    fn push(&mut self, bytes: &[u8]) {
        let was_empty = self.held.is_empty();
        self.held.extend_from_slice(bytes);
        if self.held.last() == Some(&b'\n') || self.held.len() >= HELD {
            self.flush();
        } else if was_empty && let Some(timer) = &mut self.timer {
            // Without the timer the rest of the line waits for its end, which loses nothing.
            let _armed = timer.reset(HOLD, None);
        }
    }

    fn flush(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.bytes.add(crate::bytes::wide(held.len()));
        // The guest must not notice a full disk or a reader that is gone: what cannot be written is counted.
        if let Err(lost) = write(&mut self.file, &mut self.kind, &held, &self.dropped) {
            self.dropped.add(crate::bytes::wide(lost));
        }
        self.held = held;
        self.held.clear();
    }
}

/// Writes `bytes`, or says how many of them were lost.
fn write(file: &mut File, kind: &mut Kind, bytes: &[u8], dropped: &Counter) -> Result<(), usize> {
    match kind {
        Kind::Pipe => match file.write(bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(count) => Err(bytes.len() - count),
            Err(_) => Err(bytes.len()),
        },
        Kind::Regular { length, limit, newest } => {
            let half = crate::bytes::size(*limit / 2);
            newest.extend(bytes);
            newest.drain(..newest.len().saturating_sub(half));
            let added = crate::bytes::wide(bytes.len());
            if *length + added > *limit {
                let kept = newest.make_contiguous();
                let rewritten = file
                    .write_all_at(kept, 0)
                    .and_then(|()| file.set_len(crate::bytes::wide(kept.len())));
                rewritten.map_err(|_| bytes.len())?;
                dropped.add((*length + added).saturating_sub(crate::bytes::wide(kept.len())));
                *length = crate::bytes::wide(kept.len());
            } else {
                file.write_all_at(bytes, *length).map_err(|_| bytes.len())?;
                *length += added;
            }
            Ok(())
        }
    }
}

/// The writing end that the serial device holds.
#[derive(Debug, Clone)]
pub struct LogWriter(Arc<SerialLog>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    /// The device flushes after each byte; lines are written out by [`SerialLog`] instead.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Raises the port's interrupt.
#[derive(Debug)]
pub struct SerialInterrupt(EventFd);

impl Trigger for SerialInterrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The serial port.
pub type SerialPort = vm_superio::Serial<SerialInterrupt, vm_superio::serial::NoEvents, LogWriter>;

/// A serial port that writes to `log` and interrupts by `interrupt`.
#[must_use]
pub fn port(log: Arc<SerialLog>, interrupt: EventFd) -> SerialPort {
    vm_superio::Serial::new(SerialInterrupt(interrupt), LogWriter(log))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn log(limit: u64, before: &[u8]) -> (SerialLog, tempfile::NamedTempFile, Metrics) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(before).unwrap();
        let writer = std::fs::OpenOptions::new().append(true).open(file.path()).unwrap();
        let metrics = Metrics::default();
        (SerialLog::new(writer, limit, &metrics).unwrap(), file, metrics)
    }

    fn content(file: &tempfile::NamedTempFile) -> String {
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn lines_are_appended_to_what_an_earlier_run_left() {
        let (log, file, _) = log(4096, b"before\n");
        log.push(b"one\n");
        log.push(b"tw");
        assert_eq!(content(&file), "before\none\n");
        log.flush();
        assert_eq!(content(&file), "before\none\ntw");
    }

    #[test]
    fn full_log_keeps_the_newer_half_and_counts_the_rest() {
        let (log, file, metrics) = log(100, b"");
        for line in 0..1000 {
            log.push(format!("line {line:04}\n").as_bytes());
            assert!(content(&file).len() <= 100, "line {line}");
        }
        assert!(content(&file).ends_with("line 0998\nline 0999\n"));
        assert!(content(&file).len() >= 50);
        let counts = metrics.snapshot();
        assert_eq!(counts["serial.bytes"], 10_000);
        assert_eq!(
            counts["serial.dropped_bytes"],
            10_000 - crate::bytes::wide(content(&file).len())
        );
    }

    #[test]
    fn full_pipe_drops_and_never_waits() {
        let (mut reader, writer) = io::pipe().unwrap();
        let metrics = Metrics::default();
        let log = SerialLog::new(File::from(std::os::fd::OwnedFd::from(writer)), 4096, &metrics).unwrap();
        for _ in 0..4096 {
            log.push(&[b'x'; 100]);
        }
        log.flush();
        let counts = metrics.snapshot();
        assert!(counts["serial.dropped_bytes"] > 0);
        drop(log);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(
            crate::bytes::wide(rest.len()),
            counts["serial.bytes"] - counts["serial.dropped_bytes"]
        );
    }
}
