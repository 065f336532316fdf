//! A monitor's process: watched whether this agent or the one before started it.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Child,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid},
};
use serde::{Deserialize, Serialize};

/// Clock ticks in a second, as the kernel counts them for programs; fixed by its interface on x86 and Arm (`USER_HZ`).
const USER_HZ: u64 = 100;

/// What tells a process from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Process number.
    pub pid: i32,
    /// When it started, in clock ticks since the kernel did (`/proc/PID/stat`, field 22).
    pub start: u64,
}

impl Birth {
    /// When it started, in time since the kernel did, by the kernel's own account.
    #[must_use]
    pub fn since_boot(self) -> Duration {
        Duration::from_millis(self.start.saturating_mul(1000 / USER_HZ))
    }
}

/// What tells this boot of the machine from every other; empty where the kernel does not say.
#[must_use]
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// How a monitor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With one of [`node_api::vmm::exit`].
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// Somebody else collected it: init, after the agent that started it had ended.
    Unknown,
}

/// A running process that the agent holds on to.
#[derive(Debug)]
pub struct Process {
    birth: Birth,
    handle: OwnedFd,
}

impl Process {
    /// Takes over a child that has just been started.
    ///
    /// # Errors
    /// The kernel's error; the child goes on running.
    pub fn of_child(child: &Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let handle = open(pid)?;
        let start = start_time(Path::new("/proc"), pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            birth: Birth { pid, start },
            handle,
        })
    }

    /// Finds a process again that an earlier agent started. `None`: it has ended, whoever has its number now.
    #[must_use]
    pub fn adopt(birth: Birth) -> Option<Self> {
        let handle = open(birth.pid).ok()?;
        // Checked after the handle is held: from here on the number cannot pass to another.
        (start_time(Path::new("/proc"), birth.pid) == Some(birth.start)).then_some(Self { birth, handle })
    }

    /// What tells it from others.
    #[must_use]
    pub fn birth(&self) -> Birth {
        self.birth
    }

    /// Whether it has ended, and how. Does not wait.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn ended(&self) -> io::Result<Option<Ended>> {
        let mut handles = [PollFd::new(&self.handle, PollFlags::IN)];
        if poll(&mut handles, Some(&Timespec::default()))? == 0 {
            return Ok(None);
        }
        let status = match waitid(
            WaitId::PidFd(self.handle.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        ) {
            Ok(status) => status,
            Err(rustix::io::Errno::CHILD) => return Ok(Some(Ended::Unknown)),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(status.map_or(Ended::Unknown, |status| {
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Code(code),
                (None, Some(signal)) => Ended::Signal(signal),
                (None, None) => Ended::Unknown,
            }
        })))
    }

    /// Kills it. One that has ended is no error.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.handle, Signal::KILL) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn start_time(proc: &Path, pid: i32) -> Option<u64> {
    parse_start(&fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?)
}

/// The name in parentheses may hold spaces and parentheses; what follows the last one counts from field 3. A process that is
/// dead and not yet collected (`Z`, `X`) counts as ended.
fn parse_start(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(test)]
#[expect(
    clippy::zombie_processes,
    reason = "ends are collected through the process handle under test"
)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sleeper() -> Child {
        Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait(process: &Process) -> Ended {
        for _ in 0..500 {
            if let Some(ended) = process.ended().unwrap() {
                return ended;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("still running")
    }

    #[test]
    fn running_process_is_adopted_and_its_end_is_seen() {
        let process = Process::of_child(&sleeper()).unwrap();
        let adopted = Process::adopt(process.birth()).unwrap();
        assert_eq!(adopted.ended().unwrap(), None);
        adopted.kill().unwrap();
        assert_eq!(wait(&process), Ended::Signal(9));
        assert_eq!(wait(&adopted), Ended::Unknown, "collected by the other");
        adopted.kill().unwrap();
        assert!(Process::adopt(process.birth()).is_none());
    }

    #[test]
    fn number_that_passed_to_another_process_is_not_adopted() {
        let process = Process::of_child(&sleeper()).unwrap();
        let Birth { pid, start } = process.birth();
        assert!(Process::adopt(Birth { pid, start: start + 1 }).is_none());
        process.kill().unwrap();
        wait(&process);
    }

    #[test]
    fn start_is_told_by_the_kernels_clock() {
        let before = crate::machine::uptime();
        let process = Process::of_child(&sleeper()).unwrap();
        let after = crate::machine::uptime();
        let started = process.birth().since_boot();
        // A tick is at most 10 ms long.
        let tick = Duration::from_millis(10);
        assert!(
            before <= started + tick && started <= after,
            "{before:?} {started:?} {after:?}"
        );
        process.kill().unwrap();
        wait(&process);
    }

    #[test]
    fn exit_code_is_kept() {
        let child = Command::new("/bin/sh")
            .args(["-c", "sleep 0.05; exit 5"])
            .spawn()
            .unwrap();
        assert_eq!(wait(&Process::of_child(&child).unwrap()), Ended::Code(5));
    }

    #[test]
    fn start_time_is_read_behind_the_strangest_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        assert_eq!(parse_start(stat), Some(777));
        assert_eq!(parse_start(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_start("42 (x"), None);
    }
}
