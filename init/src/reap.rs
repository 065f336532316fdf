//! Collecting processes that ended: our own and those whose parent died before them.

use nix::{
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use crate::supervise::Exit;

/// Most processes collected at a time, so that a storm of them does not keep PID 1 from its other duties.
pub const MOST: usize = 256;

/// Collects the processes that ended, at most [`MOST`]; the kernel keeps the rest for the next call.
#[must_use]
pub fn ended() -> Vec<(Pid, Exit)> {
    let mut ended = Vec::new();
    while ended.len() < MOST {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid, Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                ended.push((pid, Exit::Signal(i32::from(signal_number(signal)))))
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => break,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    ended
}

/// Whether any child is left.
#[must_use]
pub fn any_left() -> bool {
    use nix::sys::wait::{Id, waitid};
    waitid(
        Id::All,
        WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
    )
    .is_ok()
}

fn signal_number(signal: nix::sys::signal::Signal) -> u8 {
    nix::sys::signal::Signal::iterator()
        .zip(1_u8..)
        .find(|(candidate, _)| *candidate == signal)
        .map_or(0, |(_, n)| n)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn signals_have_their_numbers() {
        assert_eq!(signal_number(Signal::SIGHUP), 1);
        assert_eq!(signal_number(Signal::SIGKILL), 9);
        assert_eq!(signal_number(Signal::SIGTERM), 15);
        assert_eq!(signal_number(Signal::SIGSYS), 31);
    }
}
