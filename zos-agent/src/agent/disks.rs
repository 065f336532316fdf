//! The wait for the disks: from the first look at them to the node's home and identity.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{AgentError, DISK_PAUSE, say};
use crate::{
    heartbeat::Heartbeat,
    home,
    identity::{self, Identity},
    pool::Pool,
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

/// One look at the disks; says what has happened.
pub(super) fn step_storage(storage: &mut Storage) -> Disks {
    let mut disks = Disks::Same;
    match tokio::task::block_in_place(|| storage.step()) {
        Ok(events) => {
            for event in events {
                say(&event.to_string());
                if matches!(event, storage::Event::Mounted(_)) {
                    disks = Disks::More;
                }
            }
        }
        Err(error) => say(&format!("list the disks: {error}")),
    }
    disks
}

/// Waits until the home is there and the node knows who it is, by the rules of [`home`].
pub(super) async fn wait_for_home(
    storage: &mut Storage,
    heartbeat: &Heartbeat,
) -> Result<(Identity, home::Record, PathBuf), AgentError> {
    let began = Instant::now();
    let mut said = None;
    loop {
        let _ = step_storage(storage);
        let seen = home::Seen {
            disks: home::observe(storage.pool()),
            suspects: storage.suspects(),
            unreadable: storage.unreadable(),
            quiet: storage.quiet(),
            drivers_loaded: Path::new(node_api::init::MODULES_LOADED).exists(),
        };
        match home::decide(&seen) {
            home::Step::Open(record) => {
                if let Some(home) = storage.pool().disk(record.home) {
                    let directory = home.directory.clone();
                    return Ok((open_home(storage.pool(), record)?, record, directory));
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
pub(super) fn open_home(pool: &Pool, record: home::Record) -> Result<Identity, AgentError> {
    let directories = pool.directories();
    let identity = identity::load_or_make(&directories)?;
    home::write(record, &directories).map_err(|(path, error)| AgentError::Home(path, error))?;
    Ok(identity)
}
