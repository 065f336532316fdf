//! A disk, served to QEMU as a network block device, that loses what was not flushed when its power is cut.
//!
//! ```text
//! QEMU ── unix socket ── wire ──▶ medium ── file
//! ```

mod medium;
mod wire;

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::config::{Bus, Disk};
use medium::Medium;
pub use medium::{Cut, Flushes, Loss};
use wire::{Error, Kind, Negotiated};

/// Until what a killed QEMU had sent is taken.
const DRAIN: Duration = Duration::from_secs(30);
/// Until a disk that is written to has that much in its cache.
const FAIL: Duration = Duration::from_secs(120);

/// A served disk, empty at first. Its contents outlive the machine that it is attached to.
#[derive(Debug)]
pub struct NbdDisk {
    shared: Arc<Shared>,
    url: String,
    _sockets: TempDir,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    medium: Medium,
    connections: usize,
    power: Power,
}

/// Whether the disk has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It fails as soon as so many sectors are not flushed.
    FailsAt {
        unflushed: usize,
    },
    /// Nothing is answered any more.
    Failed,
}

impl NbdDisk {
    /// Serves an empty disk of `bytes`, which are kept in the file at `path`.
    ///
    /// # Errors
    /// If file, socket or thread cannot be made.
    pub fn serve(path: &Path, bytes: u64) -> Result<Self> {
        let medium = Medium::create(path, bytes).with_context(|| format!("make {}", path.display()))?;
        let sockets = tempfile::tempdir().context("make a directory for the disk's socket")?;
        let socket = sockets.path().join("nbd");
        let listener = UnixListener::bind(&socket).context("open the disk's socket")?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                medium,
                connections: 0,
                power: Power::On,
            }),
            changed: Condvar::new(),
        });
        let served = Arc::clone(&shared);
        thread::Builder::new()
            .name("nbd".into())
            .spawn(move || {
                // It ends with the process: a listener has no other end.
                for stream in listener.incoming().flatten() {
                    served.lock().connections += 1;
                    // A client that leaves or is killed is what this disk is for.
                    let _ = converse(stream, &served);
                    served.lock().connections -= 1;
                    served.changed.notify_all();
                }
            })
            .context("start the disk's thread")?;
        Ok(Self {
            shared,
            url: format!("nbd+unix:///disk?socket={}", socket.display()),
            _sockets: sockets,
        })
    }

    /// The disk as a machine's SATA disk, which has a volatile cache and says so. QEMU's NVMe disk would not do: it takes a
    /// forced write for an ordinary one, which the file system of the node, and any other, trusts not to be lost.
    #[must_use]
    pub fn disk(&self, serial: &str) -> Disk {
        Disk {
            bus: Bus::Sata,
            ..Disk::nbd(self.url.clone(), serial)
        }
    }

    /// Says what flushes do from now on.
    pub fn set_flushes(&self, flushes: Flushes) {
        self.shared.lock().medium.set_flushes(flushes);
    }

    /// Loses power in the middle of a write after which at least `unflushed` sectors are not flushed, and answers nothing
    /// from then on. The power of the machine is to be cut then.
    ///
    /// # Errors
    /// If not so much is written within two minutes.
    pub fn fail_while_writing(&self, unflushed: usize) -> Result<()> {
        self.shared.lock().power = Power::FailsAt { unflushed };
        let failed = self.shared.wait(FAIL, |state| state.power == Power::Failed);
        failed
            .with_context(|| format!("wait for {unflushed} sectors that are not flushed"))
            .map(drop)
    }

    /// Has the consequences of a loss of power; call after the machine has lost it. Power is back when this returns, and
    /// flushes are honoured again.
    ///
    /// # Errors
    /// If a machine is still attached, or the file cannot be written.
    pub fn cut(&self, loss: Loss) -> Result<Cut> {
        let state = self.shared.wait(DRAIN, |state| state.connections == 0);
        let mut state = state.context("wait for the machine to leave the disk")?;
        state.power = Power::On;
        state.medium.cut(loss).context("cut the disk's power")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A request is carried out or fails; nobody leaves a half of one behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, limit: Duration, is_over: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), limit, |state| !is_over(state));
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!timeout.timed_out(), "not within {limit:?}");
        Ok(state)
    }

    /// Carries a request out; nothing if the disk has no power to answer it.
    fn respond(&self, kind: Kind, data: &mut Vec<u8>) -> Option<Error> {
        let mut state = self.lock();
        let error = carry_out(kind, &mut state.medium, data);
        if matches!(state.power, Power::FailsAt { unflushed } if state.medium.unflushed() >= unflushed) {
            state.power = Power::Failed;
            self.changed.notify_all();
        }
        (state.power != Power::Failed).then_some(error)
    }
}

fn converse(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let bytes = shared.lock().medium.bytes();
    if wire::negotiate(&mut stream, bytes)? == Negotiated::Nothing {
        return Ok(());
    }
    loop {
        let request = wire::request(&mut stream)?;
        if request.kind == Kind::Disconnect {
            return Ok(());
        }
        let mut data = Vec::new();
        let Some(error) = shared.respond(request.kind, &mut data) else {
            // What the machine sends now never reaches the disk.
            return io::copy(&mut stream, &mut io::sink()).map(drop);
        };
        wire::answer(&mut stream, request.cookie, error, &data)?;
    }
}

fn carry_out(kind: Kind, medium: &mut Medium, data: &mut Vec<u8>) -> Error {
    if !fits(&kind, medium.bytes()) {
        return Error::Invalid;
    }
    let done = match kind {
        Kind::Read { offset, length } => {
            data.resize(length, 0);
            medium.read(offset, data)
        }
        Kind::Write { offset, data, forced } => medium.write(offset, &data).map(|()| {
            if forced {
                medium.flush_range(offset, data.len());
            }
        }),
        Kind::Flush => {
            medium.flush();
            Ok(())
        }
        Kind::Disconnect | Kind::Unknown => return Error::Invalid,
    };
    if done.is_ok() {
        return Error::None;
    }
    data.clear();
    Error::Io
}

fn fits(kind: &Kind, bytes: u64) -> bool {
    let (offset, length) = match kind {
        Kind::Read { offset, length } => (*offset, *length),
        Kind::Write { offset, data, .. } => (*offset, data.len()),
        Kind::Flush | Kind::Disconnect | Kind::Unknown => return true,
    };
    let end = u64::try_from(length).ok().and_then(|length| offset.checked_add(length));
    end.is_some_and(|end| end <= bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn connect(disk: &NbdDisk) -> UnixStream {
        let (_, socket) = disk.url.split_once("socket=").unwrap();
        UnixStream::connect(socket).unwrap()
    }

    /// Negotiates as QEMU does, and returns the size that it is told.
    fn negotiate(stream: &mut UnixStream) -> u64 {
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        assert!(greeting.starts_with(b"NBDMAGICIHAVEOPT"));
        stream.write_all(&[0, 0, 0, 3]).unwrap();
        // An option that is not known, structured replies.
        stream.write_all(b"IHAVEOPT\0\0\0\x08\0\0\0\0").unwrap();
        let mut refusal = [0; 20];
        stream.read_exact(&mut refusal).unwrap();
        assert_eq!(refusal[12..16], [0x80, 0, 0, 1]);
        stream
            .write_all(b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0")
            .unwrap();
        let mut answers = [0; 20 + 12 + 20 + 14 + 20];
        stream.read_exact(&mut answers).unwrap();
        u64::from_be_bytes(answers[22..30].try_into().unwrap())
    }

    fn ask(stream: &mut UnixStream, flags: u8, kind: u8, offset: u64, length: u32, data: &[u8]) -> u32 {
        let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
        request.extend([0, flags, 0, kind]);
        request.extend(7_u64.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        stream.write_all(&request).unwrap();
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[8..], 7_u64.to_be_bytes());
        u32::from_be_bytes(reply[4..8].try_into().unwrap())
    }

    #[test]
    fn client_reads_what_it_wrote_and_finds_what_it_flushed_after_a_cut() {
        let directory = tempfile::tempdir().unwrap();
        let disk = NbdDisk::serve(&directory.path().join("disk"), 1 << 20).unwrap();
        let mut stream = connect(&disk);
        assert_eq!(negotiate(&mut stream), 1 << 20);
        assert_eq!(ask(&mut stream, 0, 1, 0, 512, &[1; 512]), 0);
        assert_eq!(ask(&mut stream, 0, 3, 0, 0, &[]), 0);
        assert_eq!(ask(&mut stream, 0, 1, 512, 512, &[2; 512]), 0);
        assert_eq!(ask(&mut stream, 1, 1, 1024, 512, &[3; 512]), 0);
        assert_eq!(ask(&mut stream, 0, 0, 0, 1536, &[]), 0);
        let mut read = [0; 1536];
        stream.read_exact(&mut read).unwrap();
        assert_eq!([read[0], read[512], read[1024]], [1, 2, 3]);
        assert_eq!(
            ask(&mut stream, 0, 0, 1 << 20, 512, &[]),
            22,
            "there is nothing beyond its end"
        );
        assert_eq!(ask(&mut stream, 0, 9, 0, 0, &[]), 22);
        drop(stream);
        assert_eq!(disk.cut(Loss::All).unwrap(), Cut { unflushed: 1, lost: 1 });
        let mut stream = connect(&disk);
        negotiate(&mut stream);
        ask(&mut stream, 0, 0, 0, 1536, &[]);
        stream.read_exact(&mut read).unwrap();
        assert_eq!([read[0], read[512], read[1024]], [1, 0, 3]);
    }

    #[test]
    fn disk_fails_in_the_middle_of_a_write() {
        let directory = tempfile::tempdir().unwrap();
        let disk = NbdDisk::serve(&directory.path().join("disk"), 1 << 20).unwrap();
        let mut stream = connect(&disk);
        negotiate(&mut stream);
        assert_eq!(ask(&mut stream, 0, 1, 0, 512, &[1; 512]), 0);
        assert_eq!(ask(&mut stream, 0, 3, 0, 0, &[]), 0);
        let machine = thread::spawn(move || {
            let mut request = 0x2560_9513_u32.to_be_bytes().to_vec();
            request.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
            request.extend(0_u64.to_be_bytes());
            request.extend(1024_u32.to_be_bytes());
            request.extend([2; 1024]);
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            // It is answered until the disk has heard that it is to fail.
            loop {
                stream.write_all(&request).unwrap();
                if stream.read_exact(&mut [0; 16]).is_err() {
                    return;
                }
            }
        });
        disk.fail_while_writing(2).unwrap();
        machine.join().unwrap();
        assert_eq!(disk.cut(Loss::All).unwrap(), Cut { unflushed: 2, lost: 2 });
    }
}
