//! Which process is which, and its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use node_api::image::AGENT;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    command::{Refusal, failed},
    memory,
};

/// Where the kernel shows processes, and the groups that monitors are in.
#[derive(Debug)]
pub(crate) struct Processes {
    proc: PathBuf,
    monitors: PathBuf,
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its number.
    pub(crate) pid: Pid,
    /// When it began, in ticks since the machine's start.
    pub(crate) start: u64,
}

impl Processes {
    /// Those of this machine.
    pub(crate) fn of_the_machine() -> Self {
        Self {
            proc: "/proc".into(),
            monitors: "/sys/fs/cgroup/vms".into(),
        }
    }

    /// The agent: the child of PID 1 that runs its program. A child of its own that has not executed yet has the same
    /// program and another parent.
    pub(crate) fn agent(&self) -> Result<Found, Refusal> {
        let entries = fs::read_dir(&self.proc).map_err(failed("list the processes"))?;
        let found = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid = number(path.file_name()?.to_str()?)?;
            let (parent, start) = parent_and_start(&path)?;
            let is_agent = parent == 1 && fs::read_link(path.join("exe")).ok()? == Path::new(AGENT);
            is_agent.then_some(Found { pid, start })
        });
        only(found.collect())
    }

    /// The monitor of the contract whose id begins with `contract`: the first process of its group.
    pub(crate) fn monitor(&self, contract: &str) -> Result<Found, Refusal> {
        let entries = fs::read_dir(&self.monitors).map_err(failed("list the monitors"))?;
        let found = entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let group = entry.file_name();
            let processes = fs::read_to_string(entry.path().join("cgroup.procs")).ok()?;
            let pid = number(processes.lines().next()?)?;
            let (_, start) = parent_and_start(&self.proc.join(pid.as_raw_pid().to_string()))?;
            let is_meant = group.to_str()?.starts_with(contract);
            is_meant.then_some(Found { pid, start })
        });
        only(found.collect())
    }

    /// Bytes of memory that a process holds, without mappings of `guest` bytes or more.
    pub(crate) fn resident(&self, pid: Pid, guest: Option<u64>) -> Result<u64, Refusal> {
        let smaps = self.proc.join(pid.as_raw_pid().to_string()).join("smaps");
        let smaps = fs::read_to_string(smaps).map_err(failed("read the mappings"))?;
        memory::resident(&smaps, guest).ok_or_else(|| Refusal::Failed {
            step: "read the mappings",
            source: io::ErrorKind::InvalidData.into(),
        })
    }
}

/// Ends a process at once.
pub(crate) fn kill(process: Found) -> Result<Found, Refusal> {
    signal(process, Signal::KILL, "kill")
}

/// Makes a process do nothing until it is told to go on.
pub(crate) fn freeze(process: Found) -> Result<Found, Refusal> {
    signal(process, Signal::STOP, "freeze")
}

fn signal(process: Found, signal: Signal, step: &'static str) -> Result<Found, Refusal> {
    kill_process(process.pid, signal)
        .map_err(io::Error::from)
        .map_err(failed(step))?;
    Ok(process)
}

fn only(found: Vec<Found>) -> Result<Found, Refusal> {
    match found.as_slice() {
        [process] => Ok(*process),
        other => Err(Refusal::Processes { count: other.len() }),
    }
}

fn number(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// Fields 4 and 22 of proc_pid_stat(5), of a process that has not ended. The name before them may hold anything.
fn parent_and_start(process: &Path) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let alive = !matches!(*fields.first()?, "Z" | "X");
    alive.then_some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process and its group, as the kernel shows them.
    fn process(directory: &Path, pid: u32, exe: &str, state: char, parent: u32) {
        let path = directory.join("proc").join(pid.to_string());
        fs::create_dir_all(&path).unwrap();
        let zeros = "0 ".repeat(17);
        fs::write(
            path.join("stat"),
            format!("{pid} (a) b) {state} {parent} {zeros}{pid}7 0"),
        )
        .unwrap();
        std::os::unix::fs::symlink(exe, path.join("exe")).unwrap();
    }

    fn group(directory: &Path, contract: &str, pids: &str) {
        let path = directory.join("vms").join(contract);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), pids).unwrap();
    }

    #[test]
    fn agent_is_the_child_of_init_that_runs_its_program() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes {
            proc: directory.path().join("proc"),
            monitors: directory.path().join("vms"),
        };
        process(directory.path(), 30, AGENT, 'Z', 1);
        process(directory.path(), 31, AGENT, 'S', 40);
        process(directory.path(), 32, "/bin/vmm", 'S', 1);
        assert!(matches!(processes.agent(), Err(Refusal::Processes { count: 0 })));
        process(directory.path(), 40, AGENT, 'R', 1);
        let found = processes.agent().unwrap();
        assert_eq!((found.pid.as_raw_pid(), found.start), (40, 407));
    }

    #[test]
    fn monitor_is_found_by_a_beginning_that_no_other_contract_has() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes {
            proc: directory.path().join("proc"),
            monitors: directory.path().join("vms"),
        };
        for (pid, contract) in [(50, "0a0a"), (51, "0a0b")] {
            process(directory.path(), pid, "/", 'S', 1);
            group(directory.path(), contract, &format!("{pid}\n99\n"));
        }
        group(directory.path(), "0c", "");
        assert_eq!(processes.monitor("0a0b").unwrap().pid.as_raw_pid(), 51);
        assert!(matches!(processes.monitor("0a"), Err(Refusal::Processes { count: 2 })));
        assert!(matches!(processes.monitor("0c"), Err(Refusal::Processes { count: 0 })));
    }
}
