//! The full read of a disk before its first use.
//!
//! It runs at the disk's own speed: about two hours a terabyte on rotating disks. Progress lives in memory; after a restart
//! it begins again, which is safe since nothing was written.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// Alignment of the buffer in bytes; no device asks for more.
const ALIGNMENT: usize = 4096;

/// How far a full read has come; shared with the status screen.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes read and found zero.
    pub done: AtomicU64,
    /// Set to make the read end early.
    pub cancel: AtomicBool,
}

/// What a full read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Every byte is zero.
    Zeros,
    /// The offset of the first byte that is not.
    Data(u64),
    /// The read was cancelled.
    Cancelled,
}

/// Reads all of `disk`, past the page cache where the device allows it. Blocks for as long as that takes.
///
/// # Errors
/// The device's error at the first block that cannot be read.
pub fn read_fully(disk: &File, bytes: u64, progress: &Progress) -> io::Result<Found> {
    let direct = set_direct(disk, true).is_ok();
    let found = read_all(disk, bytes, progress, direct);
    // The caller goes on with the descriptor as it was.
    if direct {
        set_direct(disk, false)?;
    }
    found
}

fn read_all(disk: &File, bytes: u64, progress: &Progress, mut direct: bool) -> io::Result<Found> {
    let mut buffer = vec![0_u8; CHUNK + ALIGNMENT];
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let mut offset = 0;
    while offset < bytes {
        if progress.cancel.load(Ordering::Relaxed) {
            return Ok(Found::Cancelled);
        }
        let length = CHUNK.min(usize::try_from(bytes - offset).unwrap_or(CHUNK));
        let chunk = &mut buffer[start..start + length];
        match disk.read_exact_at(chunk, offset) {
            Ok(()) => {}
            // Direct reads want whole blocks, which the end of a file need not be.
            Err(error) if direct && error.kind() == io::ErrorKind::InvalidInput => {
                set_direct(disk, false)?;
                direct = false;
                continue;
            }
            Err(error) => return Err(error),
        }
        if !is_zero(chunk) {
            let at = chunk
                .iter()
                .position(|byte| *byte != 0)
                .and_then(|at| u64::try_from(at).ok())
                .unwrap_or(0);
            return Ok(Found::Data(offset + at));
        }
        let read = u64::try_from(length).unwrap_or(0);
        if !direct {
            // Keeps a large disk from pushing everything else out of the page cache; only advice, so a refusal is no matter.
            _ = fadvise(disk, offset, std::num::NonZeroU64::new(read), Advice::DontNeed);
        }
        offset += read;
        progress.done.store(offset, Ordering::Relaxed);
    }
    Ok(Found::Zeros)
}

fn set_direct(disk: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(disk)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(disk, flags)?)
}

/// Compares with zeros that are there: libc compares a vector at a time whatever this program was optimized for.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    bytes.chunks(CHUNK).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_is_found() {
        let file = tempfile::tempfile().unwrap();
        let bytes = 5 * (1 << 20) + 777;
        file.set_len(bytes).unwrap();
        let progress = Progress::default();
        assert_eq!(read_fully(&file, bytes, &progress).unwrap(), Found::Zeros);
        assert_eq!(progress.done.load(Ordering::Relaxed), bytes);
        for at in [0, 63, 64, (1 << 20) - 1, 3 << 20, bytes - 1] {
            file.write_all_at(&[0x80], at).unwrap();
            assert_eq!(read_fully(&file, bytes, &progress).unwrap(), Found::Data(at));
            file.write_all_at(&[0], at).unwrap();
        }
    }

    #[test]
    fn cancelled_read_says_so_and_a_short_disk_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let progress = Progress::default();
        assert_eq!(
            read_fully(&file, 8192, &progress).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        progress.cancel.store(true, Ordering::Relaxed);
        assert_eq!(read_fully(&file, 4096, &progress).unwrap(), Found::Cancelled);
    }
}
