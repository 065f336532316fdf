//! Answers to the node's agent over vsock.

use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    socket::{AddressFamily, SockFlag, SockType, VsockAddr, bind, setsockopt, socket, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};
use node_api::{
    guest::{Answer, LOG_BYTES, LOG_CHUNK, PORT, Request, Workload},
    line,
};

use crate::{background, console, monotonic::Monotonic, ring::Ring};

/// Most connections at a time; a further one is closed at once.
const MOST_CONNECTIONS: usize = 4;
/// A connection that says nothing for this long is closed.
const SILENCE_SECONDS: i64 = 120;
/// Connections that wait to be taken.
const BACKLOG: i32 = 4;

/// What the event loop and the connections share.
#[derive(Debug)]
pub struct Shared {
    log: Mutex<Ring>,
    workload: Mutex<Workload>,
    shutdown: AtomicBool,
    connections: AtomicUsize,
    /// Wakes the event loop.
    pub wake: EventFd,
}

impl Shared {
    /// Nothing said, nothing asked.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            log: Mutex::new(Ring::new(LOG_BYTES)),
            workload: Mutex::new(Workload::BackingOff { restarts: 0, code: 0 }),
            shutdown: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Keeps output of the workload.
    pub fn keep_output(&self, output: &[u8]) {
        locked(&self.log).push(output);
    }

    /// Says how the workload is from now on.
    pub fn set_workload(&self, workload: Workload) {
        *locked(&self.workload) = workload;
    }

    /// Whether the guest was asked to end.
    pub fn is_shutdown_asked(&self) -> bool {
        self.shutdown.load(Ordering::Acquire)
    }

    /// Answers one request.
    pub fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => {
                let uptime_ms = Monotonic::now().milliseconds();
                Answer::Status {
                    uptime_ms,
                    workload: locked(&self.workload).clone(),
                }
            }
            Request::Log { from } => {
                let (from, bytes) = locked(&self.log).read(from, LOG_CHUNK);
                Answer::Log { from, bytes }
            }
            Request::Shutdown => {
                self.shutdown.store(true, Ordering::Release);
                // The event loop looks by itself within a few seconds when it cannot be woken.
                let _ = self.wake.write(1);
                Answer::Done
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens on the guest's port and answers in threads of their own.
///
/// # Errors
/// When the guest has no vsock device, or there can be no thread.
pub fn listen(shared: &Arc<Shared>) -> io::Result<()> {
    let listener = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_ANY, PORT))?;
    rustix::net::listen(&listener, BACKLOG)?;
    let shared = Arc::clone(shared);
    background::start("vsock", move || accept(&listener, &shared))
}

fn accept(listener: &OwnedFd, shared: &Arc<Shared>) {
    loop {
        match rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            Ok(connection) => begin(connection, shared),
            Err(error) => {
                console::say_error("accept on vsock", &error);
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
    }
}

fn begin(connection: OwnedFd, shared: &Arc<Shared>) {
    if shared.connections.load(Ordering::Acquire) >= MOST_CONNECTIONS {
        return;
    }
    shared.connections.fetch_add(1, Ordering::AcqRel);
    let theirs = Arc::clone(shared);
    let begun = background::start("connection", move || {
        // A connection that breaks is the agent's to open again.
        let _ = serve(connection, &theirs);
        theirs.connections.fetch_sub(1, Ordering::AcqRel);
    });
    if begun.is_err() {
        shared.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(connection: OwnedFd, shared: &Shared) -> Result<(), line::LineError> {
    let timeout = TimeVal::seconds(SILENCE_SECONDS);
    setsockopt(&connection.as_fd(), ReceiveTimeout, &timeout).map_err(|error| line::LineError::Io(error.into()))?;
    let mut writer = File::from(connection);
    let mut reader = BufReader::with_capacity(1024, writer.try_clone().map_err(line::LineError::Io)?);
    while let Some(request) = line::read(&mut reader)? {
        line::write(&mut writer, &shared.answer(request))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_answers_are_bounded_and_tell_where_they_begin() {
        let shared = Shared::new().unwrap();
        shared.keep_output(&vec![b'x'; LOG_BYTES + 10]);
        let Answer::Log { from, bytes } = shared.answer(Request::Log { from: 0 }) else {
            panic!()
        };
        assert_eq!((from, bytes.len()), (10, LOG_CHUNK));
    }

    #[test]
    fn shutdown_wakes_the_event_loop() {
        let shared = Shared::new().unwrap();
        assert!(!shared.is_shutdown_asked());
        assert_eq!(shared.answer(Request::Shutdown), Answer::Done);
        assert!(shared.is_shutdown_asked());
        assert_eq!(shared.wake.read().unwrap(), 1);
    }

    #[test]
    fn a_connection_is_answered_line_by_line() {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        let shared = Shared::new().unwrap();
        shared.set_workload(Workload::Running { restarts: 2 });
        line::write(&mut &here, &Request::Status).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        serve(OwnedFd::from(there), &shared).unwrap();
        let answer: Option<Answer> = line::read(&mut BufReader::new(&here)).unwrap();
        assert!(matches!(
            answer,
            Some(Answer::Status {
                workload: Workload::Running { restarts: 2 },
                ..
            })
        ));
    }
}
