//! Waiting on descriptors, always with an end.

use std::{os::fd::BorrowedFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Longest single wait; whoever needs longer asks again.
const LONGEST: Duration = Duration::from_secs(60);

/// Whether `fd` can be written within `patience`.
#[must_use]
pub fn writable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    ready(&[(fd, PollFlags::POLLOUT)], patience)
        .first()
        .copied()
        .unwrap_or(false)
}

/// Whether `fd` can be read, or its other end is gone, within `patience`.
#[must_use]
pub fn readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    any_readable(&[fd], patience).first().copied().unwrap_or(false)
}

/// Which of `fds` can be read, or has lost its other end, after waiting for the first of them or for `patience`.
#[must_use]
pub fn any_readable(fds: &[BorrowedFd<'_>], patience: Duration) -> Vec<bool> {
    let interests: Vec<_> = fds.iter().map(|fd| (*fd, PollFlags::POLLIN)).collect();
    ready(&interests, patience)
}

fn ready(interests: &[(BorrowedFd<'_>, PollFlags)], patience: Duration) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> = interests.iter().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
    // Rounded up, so that a deadline has passed when the wait for it ends.
    let milliseconds = patience.min(LONGEST).as_micros().div_ceil(1000);
    let timeout = u16::try_from(milliseconds).map_or(PollTimeout::MAX, PollTimeout::from);
    match poll(&mut polled, timeout) {
        Ok(_) => polled.iter().map(|fd| fd.any().unwrap_or(false)).collect(),
        // A signal for another reader: as if the time had passed, the caller's loop comes back.
        Err(Errno::EINTR) => vec![false; interests.len()],
        Err(_) => {
            std::thread::sleep(Duration::from_millis(10));
            vec![false; interests.len()]
        }
    }
}
