//! Where a database lies that is only looked at: a file that is never written, and one that leaves nothing behind.

use std::{
    collections::BTreeMap,
    fs::{File, TryLockError},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

const PAGE: usize = 4_096;
const PAGE_BYTES: u64 = 4_096;

/// A file as it is, with what is written laid over it in memory.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    /// Length as the writer has it.
    length: u64,
    /// Bytes from the start that are the file's where no page lies over them.
    kept: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    /// Opens a file that nobody writes, and keeps others from writing it. Nothing if somebody does.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let length = file.metadata()?.len();
        let over = Over {
            length,
            kept: length,
            pages: BTreeMap::new(),
        };
        Ok(Some(Self {
            file,
            over: Mutex::new(over),
        }))
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file's bytes, zeros where it has none.
    fn below(&self, kept: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(kept.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (old, new) = out.split_at_mut(there.min(out.len()));
        new.fill(0);
        self.file.read_exact_at(old, offset)
    }
}

/// The parts of `length` bytes from `offset` on: number of the page, where the part is in it and where in the bytes.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + u64::try_from(done).ok()?;
        let within = usize::try_from(at % PAGE_BYTES).ok()?;
        let end = length.min(done + PAGE - within);
        let part = done..end;
        (done < length).then(|| {
            done = end;
            (at / PAGE_BYTES, within, part)
        })
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over();
        let wanted = u64::try_from(out.len()).map_err(io::Error::other)?;
        if offset.saturating_add(wanted) > over.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(over.kept, offset, out)?;
        for (page, within, part) in parts(offset, out.len()) {
            if let Some(page) = over.pages.get(&page) {
                out[part.clone()].copy_from_slice(&page[within..within + part.len()]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut over = self.over();
        over.kept = over.kept.min(length);
        // What comes back later is zeros.
        let (whole, rest) = (
            length / PAGE_BYTES,
            usize::try_from(length % PAGE_BYTES).map_err(io::Error::other)?,
        );
        over.pages.retain(|page, _| *page <= whole);
        if let Some(last) = over.pages.get_mut(&whole) {
            last[rest..].fill(0);
        }
        over.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over();
        let kept = over.kept;
        for (number, within, part) in parts(offset, data.len()) {
            if let std::collections::btree_map::Entry::Vacant(vacant) = over.pages.entry(number) {
                let mut page = Box::new([0; PAGE]);
                self.below(kept, number * PAGE_BYTES, page.as_mut_slice())?;
                vacant.insert(page);
            }
            if let Some(page) = over.pages.get_mut(&number) {
                page[within..within + part.len()].copy_from_slice(&data[part]);
            }
        }
        Ok(())
    }
}

/// A file that is gone when it is closed, and is never waited for.
#[derive(Debug)]
pub(super) struct Scratch(File);

impl Scratch {
    /// Makes it at `path`, where nothing remains even if the program is killed.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        std::fs::remove_file(path)?;
        Ok(Self(file))
    }
}

impl StorageBackend for Scratch {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_lies_over_a_file_that_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut chance = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| chance.u8(..)).take(3 * PAGE + 100).collect();
        std::fs::write(&path, &bytes).unwrap();
        let overlay = Overlay::open(&path).unwrap().unwrap();
        let mut model = bytes.clone();
        for _ in 0..2_000 {
            if chance.u8(..) < 20 {
                let length = chance.usize(1..5 * PAGE);
                overlay.set_len(length.try_into().unwrap()).unwrap();
                model.resize(length, 0);
            }
            let from = chance.usize(..model.len());
            let to = chance.usize(from..=model.len());
            let offset = u64::try_from(from).unwrap();
            let mut read = vec![0; to - from];
            overlay.read(offset, &mut read).unwrap();
            assert_eq!(read, model[from..to]);
            let fill = vec![chance.u8(..); (to - from).min(300)];
            overlay.write(offset, &fill).unwrap();
            model[from..from + fill.len()].copy_from_slice(&fill);
        }
        assert!(overlay.read(overlay.len().unwrap(), &mut [0]).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
