//! The event loop: one thread that waits for processes, the agent, the power button and time.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use nix::sys::{
    eventfd::{EfdFlags, EventFd},
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use node_api::init::{Answer, LIVENESS_MS, Request, SOCKET};
use rustix::system::{RebootCommand, reboot};

use super::{
    control::Control,
    services::{self, AGENT_SERVICE, SERVICES, Service},
    supervisor::Supervisor,
    watchdog::{FEED_EVERY, Proof, Watchdog},
};
use crate::{
    console,
    ending::{self, End},
    monotonic::Monotonic,
    power::PowerButton,
    reap,
    supervise::Event,
    verify::Damage,
    wait,
};

/// Longest wait when nothing is due.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The background threads' end of the way to the event loop, for damage in a part of the image that is hashed late.
#[derive(Debug, Clone)]
pub struct Findings {
    sender: Sender<Damage>,
    wake: Arc<EventFd>,
}

/// The event loop's end.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Damage>,
    wake: Arc<EventFd>,
}

impl Findings {
    /// Makes both ends.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new() -> io::Result<(Self, Inbox)> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (sender, receiver) = channel();
        Ok((
            Self {
                sender,
                wake: Arc::clone(&wake),
            },
            Inbox { receiver, wake },
        ))
    }

    /// Tells of damage and wakes the event loop.
    pub fn send(&self, damage: Damage) {
        // The event loop lives as long as the machine; it looks into the inbox at least every LONGEST_WAIT.
        let _ = self.sender.send(damage);
        let _ = self.wake.write(1);
    }
}

/// The running machine.
#[derive(Debug)]
pub struct Node {
    inbox: Inbox,
    /// Tells the thread that loads modules that the node is ready.
    ready: Arc<EventFd>,
    signals: SignalFd,
    ending: Option<End>,
    /// How long the last lines stay on the console.
    farewell: Duration,
}

/// What the event loop has besides, once services run.
#[derive(Debug)]
struct Loop {
    node: Node,
    supervisor: Supervisor,
    control: Control,
    power: Option<PowerButton>,
    watchdog: Option<Watchdog>,
    proof: Proof,
    next_feed: Monotonic,
}

impl Node {
    /// Takes over the signals of PID 1. Call before any thread starts.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub fn new(inbox: Inbox, ready: Arc<EventFd>) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        if let Err(error) = reboot(RebootCommand::CadOff) {
            console::say_error("take over ctrl-alt-del", &error);
        }
        Ok(Self {
            inbox,
            ready,
            signals,
            ending: None,
            farewell: Duration::ZERO,
        })
    }

    /// Starts the services and runs until the machine ends.
    pub fn run(self, services: &[Service]) -> ! {
        let prepared = services::order(services)
            .map_err(io::Error::other)
            .and_then(Supervisor::new)
            .and_then(|supervisor| Ok((supervisor, Control::listen(Path::new(SOCKET))?)));
        let (supervisor, control) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => ending::fatal(&format!("prepare services: {}", error_line::with_causes(&error))),
        };
        let power = PowerButton::open()
            .map_err(|error| console::say_error("listen for the power button", &error))
            .ok();
        let (proof, next_feed) = (Proof::at_boot(), Monotonic::boot());
        let mut event_loop = Loop {
            node: self,
            supervisor,
            control,
            power,
            watchdog: None,
            proof,
            next_feed,
        };
        loop {
            event_loop.turn();
        }
    }
}

impl Loop {
    fn turn(&mut self) {
        let now = Monotonic::now();
        self.reap(now);
        self.hear(now);
        let started = self.supervisor.tell_all(Event::Tick, now);
        if started.contains(&AGENT_SERVICE) {
            self.agent_started(now);
        }
        self.supervisor.relay_output(now);
        self.feed(now);
        if let Some(end) = self.node.ending
            && self.supervisor.stop_next(now)
        {
            self.finish(end);
        }
        self.wait(now);
    }

    fn wait(&self, now: Monotonic) {
        let due = self
            .supervisor
            .deadline()
            .map_or(self.next_feed, |deadline| deadline.min(self.next_feed));
        let patience = due.since(now).min(LONGEST_WAIT);
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![self.node.signals.as_fd(), self.node.inbox.wake.as_fd()];
        descriptors.extend(self.power.as_ref().map(AsFd::as_fd));
        descriptors.extend(self.supervisor.descriptors());
        descriptors.extend(self.control.descriptors());
        // Every source is asked in the next turn without waiting, so it does not matter which one it was.
        let _ = wait::any_readable(&descriptors, patience);
    }

    /// Collects the ended: services and, since monitors outlive an agent, orphans.
    fn reap(&mut self, now: Monotonic) {
        while let Ok(Some(signal)) = self.node.signals.read_signal() {
            if i32::try_from(signal.ssi_signo).is_ok_and(|number| number == libc::SIGINT) {
                self.begin(End::Reboot, "ctrl-alt-del");
            }
        }
        for (pid, exit) in reap::ended() {
            let started = self.supervisor.tell_all(Event::Exited(pid, exit), now);
            if started.contains(&AGENT_SERVICE) {
                self.agent_started(now);
            }
        }
    }

    fn hear(&mut self, now: Monotonic) {
        let _ = self.node.inbox.wake.read();
        while let Ok(damage) = self.node.inbox.receiver.try_recv() {
            console::say(&error_line::with_causes(&damage));
            self.node.farewell = ending::REFUSAL_PAUSE;
            self.begin(End::PowerOff, "image damaged");
        }
        if self.power.as_ref().is_some_and(PowerButton::was_pressed) {
            self.begin(End::PowerOff, "power button");
        }
        let mut requests = Vec::new();
        self.control.serve(self.supervisor.pid_of(AGENT_SERVICE), |request| {
            requests.push(request);
            Answer::Done
        });
        for request in requests {
            self.obey(request, now);
        }
    }

    fn obey(&mut self, request: Request, now: Monotonic) {
        match request {
            Request::Alive => {
                self.proof = self.proof.alive(now, Duration::from_millis(LIVENESS_MS));
                self.supervisor.tell(AGENT_SERVICE, Event::Alive, now);
            }
            Request::Ready => {
                self.supervisor.tell(AGENT_SERVICE, Event::Ready, now);
                // It has only to be heard once; a counter that is full has been heard.
                let _ = self.node.ready.write(1);
            }
            Request::Reboot => self.begin(End::Reboot, "asked by the agent"),
            Request::PowerOff => self.begin(End::PowerOff, "asked by the agent"),
        }
    }

    fn agent_started(&mut self, now: Monotonic) {
        let grace = SERVICES
            .iter()
            .find(|service| service.name == AGENT_SERVICE)
            .and_then(|service| service.spec.liveness)
            .map_or(Duration::ZERO, |liveness| liveness.grace);
        self.proof = self.proof.started(now, grace);
    }

    /// Feeds the watchdog while the agent lives. An ordered end has its own bounds and is let finish.
    fn feed(&mut self, now: Monotonic) {
        if now < self.next_feed {
            return;
        }
        self.next_feed = now.plus(FEED_EVERY);
        if self.watchdog.is_none() {
            self.watchdog = Watchdog::open();
        }
        if (self.proof.holds(now) || self.node.ending.is_some())
            && let Some(watchdog) = &mut self.watchdog
        {
            watchdog.feed();
        }
    }

    fn begin(&mut self, end: End, why: &str) {
        if self.node.ending.is_none() {
            console::say(&format!("stopping ({why})"));
            self.node.ending = Some(end);
        }
    }

    fn finish(&mut self, end: End) -> ! {
        ending::kill_everything();
        self.supervisor.relay_output(Monotonic::now());
        ending::unmount_everything();
        std::thread::sleep(self.node.farewell);
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.disarm();
        }
        console::say(match end {
            End::PowerOff => "power off",
            End::Reboot => "restart",
        });
        ending::now(end)
    }
}
