//! Which monitors run: what a new agent needs to know of those that an earlier one started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Size, VmId,
    process::{Birth, Process, boot_id},
};
use crate::{
    durable,
    guest_net::{MAX_SLOTS, Slot},
};

const FILE: &str = "state.json";

/// The state file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The boot in which it was started: its start counts from that.
    boot: String,
    birth: Birth,
    slot: u16,
    digest: String,
    size: Size,
    directory: PathBuf,
}

/// A running monitor.
#[derive(Debug)]
pub struct Running {
    /// Its process.
    pub process: Process,
    /// Its place among the guests.
    pub slot: Slot,
    /// Digest of the specification that it was started with.
    pub digest: String,
    /// What it takes of the machine.
    pub size: Size,
    /// Where its volumes and logs are.
    pub directory: PathBuf,
}

/// A VM that runs, for those who speak with its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Its place among the guests.
    pub slot: Slot,
    /// When its monitor started, in time since the machine did.
    pub started: Duration,
}

impl Running {
    /// What those who speak with its guest need.
    #[must_use]
    pub fn live(&self) -> Live {
        Live {
            slot: self.slot,
            started: self.process.birth().since_boot(),
        }
    }
}

/// What was found in the run directory.
#[derive(Debug, Default)]
pub struct Found {
    /// Monitors that run.
    pub running: BTreeMap<VmId, Running>,
    /// Names of VMs whose monitor has ended or never told of itself.
    pub ended: BTreeSet<VmId>,
}

/// Directory of a VM's sockets.
#[must_use]
pub fn directory(run: &Path, id: &VmId) -> PathBuf {
    run.join(id.as_str())
}

/// Writes the state file of a monitor that has been started.
///
/// # Errors
/// The error of writing.
pub fn record(run: &Path, id: &VmId, running: &Running) -> io::Result<()> {
    let state = State {
        boot: boot_id(),
        birth: running.process.birth(),
        slot: running.slot.number(),
        digest: running.digest.clone(),
        size: running.size,
        directory: running.directory.clone(),
    };
    let json = serde_json::to_vec(&state).map_err(io::Error::other)?;
    durable::write(&directory(run, id).join(FILE), &json, 0o600)
}

/// Finds the monitors that run.
///
/// # Errors
/// The error of reading `run` itself; a directory that is not there is an empty one.
pub fn find(run: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Some(id) = entry?.file_name().to_str().and_then(VmId::new) else {
            continue;
        };
        match adopt(&directory(run, &id)) {
            Some(running) => _ = found.running.insert(id, running),
            None => _ = found.ended.insert(id),
        }
    }
    Ok(found)
}

fn adopt(directory: &Path) -> Option<Running> {
    let state: State = serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()?;
    if state.boot != boot_id() {
        return None;
    }
    let process = Process::adopt(state.birth)?;
    Some(Running {
        process,
        slot: Slot::new(state.slot)?,
        digest: state.digest,
        size: state.size,
        directory: state.directory,
    })
}

/// Forgets a monitor that has ended.
///
/// # Errors
/// The error of the removal.
pub fn forget(run: &Path, id: &VmId) -> io::Result<()> {
    match fs::remove_dir_all(directory(run, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Places that rest: something is left of the monitor that had them, other than of `of`, whose remainders go before it
/// starts. `proc` is `/proc` but in tests.
///
/// # Errors
/// The error of reading a directory.
pub fn resting(run: &Path, proc: &Path, of: &VmId) -> io::Result<BTreeSet<Slot>> {
    let mut slots = BTreeSet::new();
    for id in names(run)?
        .iter()
        .filter_map(|name| VmId::new(name))
        .filter(|id| id != of)
    {
        let state = fs::read(directory(run, &id).join(FILE)).ok();
        let state = state.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
        slots.extend(state.and_then(|state| Slot::new(state.slot)));
    }
    for process in names(proc)?.iter().filter(|name| name.parse::<u32>().is_ok()) {
        // One that has ended meanwhile is of no matter.
        let status = fs::read_to_string(proc.join(process).join("status")).unwrap_or_default();
        slots.extend(users(&status).into_iter().filter_map(slot_of));
    }
    Ok(slots)
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Real, effective, saved and file-system user of a process (`/proc/PID/status`).
fn users(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let words = line.unwrap_or_default().split_ascii_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The slot whose monitor has a user id.
fn slot_of(uid: u32) -> Option<Slot> {
    let number = uid.checked_sub(super::FIRST_UID)?;
    Slot::new(u16::try_from(number).ok()?)
}

/// The lowest slot that is not used. A slot is used for as long as its monitor runs, and so is its user id.
#[must_use]
pub fn free_slot(used: &BTreeSet<Slot>) -> Option<Slot> {
    (0..MAX_SLOTS).filter_map(Slot::new).find(|slot| !used.contains(slot))
}

#[cfg(test)]
#[expect(
    clippy::zombie_processes,
    reason = "ends are collected through the process handle under test"
)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn new_agent_finds_what_runs_and_what_has_ended() {
        let run = tempfile::tempdir().unwrap();
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let running = Running {
            process: Process::of_child(&child).unwrap(),
            slot: Slot::new(5).unwrap(),
            digest: "d".to_owned(),
            size: Size {
                vcpus: 1,
                memory_mib: 64,
            },
            directory: "/data/vms/a".into(),
        };
        for id in ["a", "b"] {
            fs::create_dir(run.path().join(id)).unwrap();
        }
        fs::create_dir(run.path().join("Not an id")).unwrap();
        let id = VmId::new("a").unwrap();
        record(run.path(), &id, &running).unwrap();
        let found = find(run.path()).unwrap();
        assert_eq!(found.running.keys().collect::<Vec<_>>(), [&id]);
        assert_eq!(
            (found.running[&id].slot, &*found.running[&id].digest),
            (running.slot, "d")
        );
        assert_eq!(found.ended, [VmId::new("b").unwrap()].into());
        running.process.kill().unwrap();
        while running.process.ended().unwrap().is_none() {}
        assert!(find(run.path()).unwrap().running.is_empty());
        forget(run.path(), &id).unwrap();
        forget(run.path(), &id).unwrap();
        assert_eq!(find(&run.path().join("absent")).unwrap().ended.len(), 0);
    }

    #[test]
    fn lowest_free_slot_is_given_until_there_is_none() {
        let slot = |n| Slot::new(n).unwrap();
        assert_eq!(free_slot(&[slot(0), slot(2)].into()), Some(slot(1)));
        assert_eq!(free_slot(&(0..MAX_SLOTS).map(slot).collect()), None);
    }

    #[test]
    fn place_rests_while_a_process_or_a_file_of_it_remains() {
        let root = tempfile::tempdir().unwrap();
        let (run, proc) = (root.path().join("run"), root.path().join("proc"));
        let slot = |n| Slot::new(n).unwrap();
        let (ours, other) = (VmId::new("a").unwrap(), VmId::new("b").unwrap());
        for (id, number) in [(&ours, 3), (&other, 4)] {
            fs::create_dir_all(run.join(id.as_str())).unwrap();
            let state = State {
                boot: String::new(),
                birth: Birth { pid: 1, start: 1 },
                slot: number,
                digest: String::new(),
                size: Size {
                    vcpus: 1,
                    memory_mib: 64,
                },
                directory: PathBuf::new(),
            };
            fs::write(run.join(id.as_str()).join(FILE), serde_json::to_vec(&state).unwrap()).unwrap();
        }
        for (pid, uid) in [("7", 1_000_006), ("8", 0), ("self", 1_000_009)] {
            fs::create_dir_all(proc.join(pid)).unwrap();
            let status = format!("Name:\tvmm\nUid:\t0\t{uid}\t{uid}\t{uid}\nGid:\t0\n");
            fs::write(proc.join(pid).join("status"), status).unwrap();
        }
        assert_eq!(resting(&run, &proc, &ours).unwrap(), [slot(4), slot(6)].into());
        forget(&run, &other).unwrap();
        fs::remove_dir_all(proc.join("7")).unwrap();
        assert!(resting(&run, &proc, &ours).unwrap().is_empty());
    }
}
