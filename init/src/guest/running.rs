//! The guest's event loop: one thread that waits for the workload, the power button, the agent's word and time.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use node_api::guest::Process;

use super::{
    server::{self, Shared},
    workload::{self, History, SPEC, StartError},
};
use crate::{
    console,
    ending::{self, End},
    monotonic::Monotonic,
    power::PowerButton,
    reap,
    spawn::{self, Output, Reach},
    supervise::{self, Effect, Event, Exit, State},
    wait,
};

/// To PID 1: all but itself (kill(2)).
const EVERY_OTHER_PROCESS: Pid = Pid::from_raw(-1);
/// Longest wait when nothing is due.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Bytes of output that are taken in a turn.
const MOST_OUTPUT: usize = 256 * 1024;

/// The running guest.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    state: State,
    history: History,
    output: Output,
    signals: SignalFd,
    power: Option<PowerButton>,
    shared: Arc<Shared>,
    stopping: bool,
}

impl Guest {
    /// Prepares to run the workload and begins to answer the agent.
    ///
    /// # Errors
    /// When a pipe, a signal descriptor or the like cannot be made.
    pub fn new(process: Process) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let output = Output::new()?;
        output.give_to(process.uid, process.gid)?;
        let shared = Arc::new(Shared::new()?);
        if let Err(error) = server::listen(&shared) {
            console::say_error("listen on vsock", &error);
        }
        let power = PowerButton::open()
            .map_err(|error| console::say_error("listen for the power button", &error))
            .ok();
        let (state, history) = (State::Waiting, History::default());
        Ok(Self {
            process,
            state,
            history,
            output,
            signals,
            power,
            shared,
            stopping: false,
        })
    }

    /// Runs until the guest ends.
    pub fn run(mut self) -> ! {
        self.handle(Event::DependenciesUp, Monotonic::now());
        loop {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = Monotonic::now();
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.relay_output();
        for (pid, exit) in reap::ended() {
            self.handle(Event::Exited(pid, exit), now);
        }
        self.handle(Event::Tick, now);
        let _ = self.shared.wake.read();
        if self.power.as_ref().is_some_and(PowerButton::was_pressed) {
            self.begin("power button", now);
        }
        if self.shared.is_shutdown_asked() {
            self.begin("asked by the node", now);
        }
        if self.stopping && self.state.is_over() {
            self.finish();
        }
        self.shared.set_workload(self.history.report(&self.state));
        self.wait(now);
    }

    fn wait(&self, now: Monotonic) {
        let patience = self
            .state
            .deadline()
            .map_or(LONGEST_WAIT, |due| due.since(now).min(LONGEST_WAIT));
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![
            self.signals.as_fd(),
            self.shared.wake.as_fd(),
            self.output.reader.as_fd(),
        ];
        descriptors.extend(self.power.as_ref().map(AsFd::as_fd));
        // Every source is asked in the next turn without waiting, so it does not matter which one it was.
        let _ = wait::any_readable(&descriptors, patience);
    }

    fn handle(&mut self, event: Event, now: Monotonic) {
        let before = self.state;
        let step = supervise::step(before, event, &SPEC, now);
        self.state = step.state;
        if step.illegal {
            console::say(&format!("workload: {event:?} makes no sense in {before:?}"));
        }
        if let Event::Exited(pid, exit) = event
            && before.pid() == Some(pid)
        {
            self.ended(exit);
        }
        match step.effect {
            Some(Effect::Spawn) => {
                let event = self.start();
                self.handle(event, now);
            }
            Some(effect) => spawn::signal(effect, Reach::Group),
            None => {}
        }
    }

    fn start(&mut self) -> Event {
        let started = workload::command(&self.process).and_then(|command| {
            let program = command.get_program().to_string_lossy().into_owned();
            spawn::start(command, &self.output).map_err(|cause| StartError::Refused { program, cause })
        });
        match started {
            Ok(pid) => {
                self.history.starts = self.history.starts.saturating_add(1);
                self.history.refused = None;
                console::say("workload started");
                Event::Spawned(pid)
            }
            Err(error) => {
                let reason = error_line::with_causes(&error);
                console::say(&format!("workload cannot be started: {reason}"));
                self.history.refused = Some(reason);
                Event::SpawnFailed
            }
        }
    }

    /// Everything in the guest is the workload's. What it left running, in whatever session, would be in its successor's way and
    /// would go on while the node is told that nothing runs.
    fn ended(&mut self, exit: Exit) {
        // Nobody left is what is wanted. A process that is forking meanwhile dies as well.
        let _ = kill(EVERY_OTHER_PROCESS, Signal::SIGKILL);
        self.history.last = Some(exit);
        console::say(&format!("workload ended: code {}", exit.code()));
    }

    fn relay_output(&self) {
        let mut chunk = [0; 8192];
        let mut taken = 0;
        let mut reader = &self.output.reader;
        while taken < MOST_OUTPUT {
            match reader.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    taken += length;
                    self.shared.keep_output(chunk.get(..length).unwrap_or_default());
                }
            }
        }
    }

    fn begin(&mut self, why: &str, now: Monotonic) {
        if !self.stopping {
            console::say(&format!("stopping ({why})"));
            self.stopping = true;
            self.handle(Event::Stop, now);
        }
    }

    fn finish(&self) -> ! {
        ending::kill_everything();
        ending::unmount_everything();
        console::say("power off");
        ending::now(End::PowerOff)
    }
}
