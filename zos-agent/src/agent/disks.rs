//! The wait for the disks: from the first look at them to the node's home and identity.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{AgentError, DISK_PAUSE, say};
use crate::{
    heartbeat::Heartbeat,
    home,
    identity::{self, Identity},
    pool::{DataDisk, Owner},
    storage::{self, Storage},
};

/// How long disks may take to come before their absence is said.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// Whether a step has brought another data disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disks {
    Same,
    More,
}

/// Whether the kernel can mount a data disk.
fn has_file_system() -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.split_whitespace().any(|word| word == "xfs")
}

/// One look at the disks; says what has happened.
pub(super) fn step_storage(storage: &mut Storage) -> Disks {
    match tokio::task::block_in_place(|| storage.step()) {
        Ok(events) => say_all(&events),
        Err(error) => {
            say(&format!("list the disks: {error}"));
            Disks::Same
        }
    }
}

fn say_all(events: &[storage::Event]) -> Disks {
    events.iter().for_each(|event| say(&event.to_string()));
    if events.iter().any(|event| matches!(event, storage::Event::Mounted(_))) {
        Disks::More
    } else {
        Disks::Same
    }
}

/// Waits until the home is there and the node knows who it is, by the rules of [`home`].
pub(super) async fn wait_for_home(
    storage: &mut Storage,
    heartbeat: &Heartbeat,
) -> Result<(Identity, home::Record, PathBuf), AgentError> {
    let began = Instant::now();
    let mut said = None;
    let machine = home::Machine::observe(Path::new("/"));
    loop {
        let drivers_loaded = Path::new(node_api::init::MODULES_LOADED).exists();
        // The kernel would have the module loaded a second time while init is about to do so.
        if drivers_loaded || has_file_system() {
            let _ = step_storage(storage);
        }
        let seen = home::Seen {
            disks: home::observe(storage.pool()),
            suspects: storage.suspects(),
            unreadable: storage.unreadable(),
            quiet: storage.quiet(),
            drivers_loaded,
            machine,
        };
        match home::decide(&seen) {
            home::Step::Open(record) => {
                let gone = tokio::task::block_in_place(|| storage.keep_only(&record.disks))?;
                let _ = say_all(&gone);
                if let Some(home) = storage.pool().disk(record.home) {
                    let directory = home.directory.clone();
                    if gone.is_empty() {
                        return Ok((open_home(storage, &record)?, record, directory));
                    }
                }
            }
            home::Step::Wait(home::Wait::NoDisk)
                if !storage.reading().is_empty() || began.elapsed() <= DISK_PATIENCE => {}
            home::Step::Wait(wait) => {
                if said.as_ref() != Some(&wait) {
                    say(&wait.to_string());
                    said = Some(wait);
                }
            }
        }
        heartbeat.turned();
        tokio::time::sleep(DISK_PAUSE).await;
    }
}

/// Finds or makes the identity, and writes it and the record of the home to every data disk.
fn open_home(storage: &mut Storage, record: &home::Record) -> Result<Identity, AgentError> {
    let directories = storage.pool().directories();
    let identity = identity::load_or_make(&directories)?;
    home::write(record, &directories)?;
    storage.belong_to(Owner {
        node: identity.node(),
        disks: record.disks.clone(),
    });
    Ok(identity)
}

/// Sees to it that a disk that has come later holds a copy of the identity as well, and that every disk names it.
pub(super) fn follow_home(storage: &mut Storage, record: &home::Record) -> Result<home::Record, AgentError> {
    // Before a new generation hides it: the disk that has come may know more than the others.
    home::check(record, &storage.pool().directories())?;
    let mut disks: BTreeSet<_> = storage.pool().disks().iter().map(DataDisk::id).collect();
    disks.insert(record.home);
    let record = record.updated(record.home, record.machine, disks);
    open_home(storage, &record)?;
    Ok(record)
}
