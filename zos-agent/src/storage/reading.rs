//! The full read of a disk, on a thread of its own.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use tokio::task::JoinHandle;

use crate::disks::{
    Content, DiskFacts, signature,
    zeros::{self, Found, Progress},
};

/// A disk that is being read in full.
#[derive(Debug)]
pub(super) struct Reading {
    facts: Box<DiskFacts>,
    progress: Arc<Progress>,
    task: JoinHandle<io::Result<Found>>,
}

impl Reading {
    /// Begins to read the disk, whose file is in `dev`. The runtime whose thread does it must be entered.
    ///
    /// # Errors
    /// The error of opening the disk, with what is known of it.
    pub(super) fn begin(dev: &Path, facts: DiskFacts) -> Result<Self, Box<(DiskFacts, io::Error)>> {
        let disk = match File::open(dev.join(&facts.name)) {
            Ok(disk) => disk,
            Err(error) => return Err(Box::new((facts, error))),
        };
        let progress = Arc::new(Progress::default());
        let (shared, bytes) = (Arc::clone(&progress), facts.bytes);
        let task = tokio::task::spawn_blocking(move || zeros::read_fully(&disk, bytes, &shared));
        Ok(Self {
            facts: Box::new(facts),
            progress,
            task,
        })
    }

    /// Bytes in all.
    pub(super) fn bytes(&self) -> u64 {
        self.facts.bytes
    }

    /// Bytes that are read.
    pub(super) fn done(&self) -> u64 {
        self.progress.done.load(Ordering::Relaxed)
    }

    /// Whether [`Self::found`] does not wait.
    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// What the disk holds; nothing if the read was cancelled. Waits for its end.
    pub(super) fn found(self) -> Option<DiskFacts> {
        let found = tokio::runtime::Handle::current()
            .block_on(self.task)
            .map_err(io::Error::other)
            .flatten();
        let content = match found {
            Ok(Found::Zeros) => Content::Zeros,
            Ok(Found::Data(offset)) => Content::Foreign(signature::unknown(offset)),
            Ok(Found::Cancelled) => return None,
            Err(error) => Content::Unreadable(error.to_string()),
        };
        Some(DiskFacts { content, ..*self.facts })
    }

    /// Ends it early; nobody waits for it.
    pub(super) fn cancel(self) {
        self.progress.cancel.store(true, Ordering::Relaxed);
    }
}
