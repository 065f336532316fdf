//! Tells init that the agent lives, from a thread of its own.
//!
//! The reconcile loop marks each turn; the thread says [`Request::Alive`] for as long as the last mark is not older than
//! [`STUCK`]. So a slow turn is no hang, and a loop that is stuck is one: init hears nothing more and starts another agent,
//! which takes the running VMs over. Nothing here knows of the chain.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use error_line::with_causes;
use node_api::init::Request;
use tracing::{error, warn};

use crate::init_client::{INTERVAL, Init};

/// Age of the last turn from which the loop is taken to be stuck. A turn waits for a format of a disk or for the rule set at
/// most, which are done in seconds.
pub const STUCK: Duration = Duration::from_secs(180);

/// How often is told, and for how long a turn may last.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two signs of life.
    pub every: Duration,
    /// See [`STUCK`].
    pub stuck: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: INTERVAL,
            stuck: STUCK,
        }
    }
}

/// The loop's end of the heartbeat. The thread ends with it.
#[derive(Debug)]
pub struct Heartbeat {
    turned: Arc<Mutex<Instant>>,
    ready: SyncSender<()>,
    said_ready: bool,
}

impl Heartbeat {
    /// Starts the thread, which speaks to init at `socket`.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(socket: PathBuf, pace: Pace) -> io::Result<Self> {
        let turned = Arc::new(Mutex::new(Instant::now()));
        let (ready, told) = sync_channel(1);
        let speaker = Speaker {
            socket,
            pace,
            turned: Arc::clone(&turned),
            init: None,
        };
        thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || speaker.run(&told))?;
        Ok(Self {
            turned,
            ready,
            said_ready: false,
        })
    }

    /// The loop has turned once more.
    pub fn turned(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The agent is ready; said once.
    pub fn ready(&mut self) {
        if !self.said_ready {
            // The only message ever sent fits.
            self.said_ready = self.ready.try_send(()).is_ok();
        }
    }
}

struct Speaker {
    socket: PathBuf,
    pace: Pace,
    turned: Arc<Mutex<Instant>>,
    init: Option<Init>,
}

impl Speaker {
    fn run(mut self, told: &Receiver<()>) {
        let mut ready_owed = false;
        let mut stuck = false;
        loop {
            let age = self.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            if age < self.pace.stuck {
                stuck = false;
                self.tell(Request::Alive);
            } else if !stuck {
                stuck = true;
                error!("the loop has not turned for {} s; init is told no more", age.as_secs());
            }
            if ready_owed {
                ready_owed = !self.tell(Request::Ready);
            }
            match told.recv_timeout(self.pace.every) {
                Ok(()) => ready_owed = !self.tell(Request::Ready),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether init has heard it. A connection that is lost is made anew the next time.
    fn tell(&mut self, request: Request) -> bool {
        let told = match self.init.take() {
            Some(init) => Ok(init),
            None => Init::connect(&self.socket),
        };
        let told = told.and_then(|mut init| init.tell(request).map(|()| init));
        self.init = told.map_err(|error| warn!("init: {}", with_causes(&error))).ok();
        self.init.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_api::{init::Answer, line};
    use std::{io::BufReader, os::unix::net::UnixListener, sync::mpsc::channel};

    #[test]
    fn slow_turn_is_no_hang_and_a_stuck_loop_is_heard_of_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("init.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, heard) = channel();
        thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            while let Ok(Some(request)) = line::read::<Request>(&mut stream) {
                line::write(stream.get_mut(), &Answer::Done).unwrap();
                sender.send(request).unwrap();
            }
        });
        let pace = Pace {
            every: Duration::from_millis(20),
            stuck: Duration::from_millis(400),
        };
        let mut heartbeat = Heartbeat::start(socket, pace).unwrap();
        let began = Instant::now();
        // A turn that takes many intervals.
        for _ in 0..5 {
            assert_eq!(heard.recv().unwrap(), Request::Alive);
        }
        heartbeat.turned();
        heartbeat.ready();
        heartbeat.ready();
        let mut ready = 0;
        while let Ok(request) = heard.recv_timeout(Duration::from_millis(400)) {
            ready += usize::from(request == Request::Ready);
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "a stuck loop passes for a living one"
            );
        }
        assert_eq!(ready, 1);
        heartbeat.turned();
        assert_eq!(heard.recv().unwrap(), Request::Alive, "it turns again");
    }
}
