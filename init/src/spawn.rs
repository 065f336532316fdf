//! Starting a process with a session of its own and its output in a pipe.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, pipe2},
};

use crate::{console, supervise::Effect, sys};

/// Where a supervised program's standard output and error arrive. It outlives the process: what a process leaves
/// running may go on writing while its successor starts.
#[derive(Debug)]
pub struct Output {
    /// Reading does not wait.
    pub reader: File,
    writer: OwnedFd,
}

impl Output {
    /// Makes the pipe.
    ///
    /// # Errors
    /// What pipe2(2) says.
    pub fn new() -> io::Result<Self> {
        let (read, writer) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self {
            reader: File::from(read),
            writer,
        })
    }

    /// Makes a user the pipe's owner, who can then open it by `/dev/stdout` and `/dev/stderr` as well.
    ///
    /// # Errors
    /// What fchown(2) says.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        std::os::unix::fs::fchown(&self.writer, Some(uid), Some(gid))
    }
}

/// Starts `command` as the leader of a new session, with nothing on its standard input.
///
/// # Errors
/// What fork(2) or execve(2) say.
pub fn start(mut command: Command, output: &Output) -> io::Result<Pid> {
    let (out, error) = (output.writer.try_clone()?, output.writer.try_clone()?);
    sys::lead_session(&mut command);
    let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn()?;
    // The child is collected by its number, together with the orphans; dropping the handle does not end it.
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

/// Whom a signal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The process alone. What it started lives on, as a micro-VM's monitor does when the agent is killed.
    Process,
    /// The process and all that it started and that did not leave its group.
    Group,
}

/// Carries out the signals among the effects of [`crate::supervise`].
pub fn signal(effect: Effect, reach: Reach) {
    let (pid, signal) = match effect {
        Effect::Terminate(pid) => (pid, Signal::SIGTERM),
        Effect::Kill(pid) => (pid, Signal::SIGKILL),
        Effect::Spawn => return,
    };
    let sent = match reach {
        Reach::Process => kill(pid, signal),
        // Between fork and setsid there is no group yet.
        Reach::Group => killpg(pid, signal).or_else(|_| kill(pid, signal)),
    };
    if let Err(error) = sent {
        console::say(&format!("signal process {pid}: {error}"));
    }
}
