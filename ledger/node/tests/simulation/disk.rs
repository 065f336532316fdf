//! A disk in memory that tears what was not synced when the power goes.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use redb::StorageBackend;

/// What a real disk writes at once.
const SECTOR: usize = 512;

/// Something that was written and not synced.
#[derive(Debug)]
enum Unsynced {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// How often the power has gone.
    cuts: u64,
    /// Writes until the power goes; absent: it stays.
    writes_left: Option<usize>,
}

impl State {
    fn check(&mut self, handle: &Handle) -> io::Result<()> {
        if self.cuts != handle.cuts || self.writes_left == Some(0) {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }
}

fn apply(content: &mut Vec<u8>, write: &Unsynced) {
    match write {
        Unsynced::Length(length) => content.resize(*length, 0),
        Unsynced::Bytes(offset, bytes) => {
            if content.len() < offset + bytes.len() {
                content.resize(offset + bytes.len(), 0);
            }
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What a program uses until the power goes.
    pub(crate) fn handle(&self) -> Handle {
        let cuts = self.state().cuts;
        Handle {
            disk: self.clone(),
            cuts,
        }
    }

    /// Lets the power go after some more writes.
    pub(crate) fn cut_after(&self, writes: usize) {
        self.state().writes_left = Some(writes);
    }

    /// The power stays after all.
    pub(crate) fn keep(&self) {
        self.state().writes_left = None;
    }

    /// The power goes now, unless it has already, and comes back: of what was not synced some is there, some is not, some is
    /// there in part.
    pub(crate) fn cut(&self, chance: &mut fastrand::Rng) {
        let mut state = self.state();
        let unsynced = std::mem::take(&mut state.unsynced);
        for write in unsynced {
            match (write, chance.u8(0..4)) {
                (_, 0) => {}
                (Unsynced::Bytes(offset, mut bytes), 1) => {
                    bytes.truncate(chance.usize(0..=bytes.len() / SECTOR) * SECTOR);
                    apply(&mut state.durable, &Unsynced::Bytes(offset, bytes));
                }
                (write, _) => apply(&mut state.durable, &write),
            }
        }
        state.current = state.durable.clone();
        state.cuts += 1;
        state.writes_left = None;
    }
}

/// The disk as one run of a program has it.
#[derive(Debug)]
pub(crate) struct Handle {
    disk: Disk,
    cuts: u64,
}

impl Handle {
    fn change(&self, write: Unsynced) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check(self)?;
        state.writes_left = state.writes_left.map(|left| left - 1);
        apply(&mut state.current, &write);
        state.unsynced.push(write);
        Ok(())
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.disk.state().current.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let offset = usize::try_from(offset).unwrap();
        let found = state.current.get(offset..offset + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::other("beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Unsynced::Length(usize::try_from(length).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.check(self)?;
        let unsynced = std::mem::take(&mut state.unsynced);
        for write in &unsynced {
            apply(&mut state.durable, write);
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Unsynced::Bytes(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }
}
