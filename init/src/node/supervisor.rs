//! Carries out what [`supervise`] decides for each service, and keeps what the services say.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process::Command,
};

use nix::unistd::Pid;

use super::services::Service;
use crate::{
    cgroup, console,
    log_file::{self, LogFile},
    milestone,
    monotonic::Monotonic,
    spawn::{self, Output, Reach},
    supervise::{self, Effect, Event, Exit, State},
    sys,
};

/// Where the services' output is kept.
const LOGS: &str = "/run/log";
/// Bytes of output that are taken from one service in a turn.
const MOST_OUTPUT: usize = 64 * 1024;
/// Lines of one service that the console shows in a second; all of them are in its log file.
const MOST_LINES: u32 = 200;
/// Environment of a service.
const ENVIRONMENT: &[(&str, &str)] = &[("PATH", "/bin:/sbin"), ("HOME", "/"), ("TERM", "linux")];

/// The services and their processes.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order of start.
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    service: Service,
    state: State,
    output: Output,
    log: Option<LogFile>,
    pending: Vec<u8>,
    shown: Shown,
}

/// Lines shown on the console in the current second.
#[derive(Debug, Default)]
struct Shown {
    second: u64,
    lines: u32,
    withheld: u32,
}

impl Supervisor {
    /// Prepares `services`, which are in the order of start.
    ///
    /// # Errors
    /// When there can be no pipe for a service's output.
    pub fn new(services: Vec<Service>) -> io::Result<Self> {
        let slot = |service: Service| {
            let log = LogFile::open(Path::new(LOGS), service.name, log_file::LIMIT);
            let log = log.map_err(|error| console::say_error("open service log", &error)).ok();
            let (pending, shown) = (Vec::new(), Shown::default());
            Ok(Slot {
                service,
                state: State::Waiting,
                output: Output::new()?,
                log,
                pending,
                shown,
            })
        };
        Ok(Self {
            slots: services.into_iter().map(slot).collect::<io::Result<_>>()?,
        })
    }

    /// The service's process, if it has one.
    #[must_use]
    pub fn pid_of(&self, name: &str) -> Option<Pid> {
        self.slots
            .iter()
            .find(|slot| slot.service.name == name)
            .and_then(|slot| slot.state.pid())
    }

    /// Tells one service what happened. Returns whether it was started.
    pub fn tell(&mut self, name: &str, event: Event, now: Monotonic) -> bool {
        self.slots
            .iter_mut()
            .filter(|slot| slot.service.name == name)
            .any(|slot| slot.handle(event, now))
    }

    /// Tells all services what happened and starts those whose dependencies run. Returns the names of the started.
    pub fn tell_all(&mut self, event: Event, now: Monotonic) -> Vec<&'static str> {
        let mut started = Vec::new();
        for index in 0..self.slots.len() {
            let runs = |name: &&str| {
                self.slots
                    .iter()
                    .any(|other| other.service.name == *name && matches!(other.state, State::Running(_)))
            };
            let is_due = self
                .slots
                .get(index)
                .is_some_and(|slot| slot.service.after.iter().all(runs));
            let Some(slot) = self.slots.get_mut(index) else { break };
            let mut was_started = slot.handle(event, now);
            if is_due && slot.state == State::Waiting {
                was_started |= slot.handle(Event::DependenciesUp, now);
            }
            if was_started {
                started.push(slot.service.name);
            }
        }
        started
    }

    /// Asks the last service that is not over to stop, so that they end in reverse order. Returns whether all are over.
    pub fn stop_next(&mut self, now: Monotonic) -> bool {
        match self.slots.iter_mut().rev().find(|slot| !slot.state.is_over()) {
            None => true,
            Some(slot) => {
                if !matches!(
                    slot.state,
                    State::Stopping {
                        then: supervise::Then::Stay,
                        ..
                    }
                ) {
                    slot.handle(Event::Stop, now);
                }
                false
            }
        }
    }

    /// When time alone makes something happen.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.slots.iter().filter_map(|slot| slot.state.deadline()).min()
    }

    /// Where the services' output arrives.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.slots.iter().map(|slot| slot.output.reader.as_fd())
    }

    /// Takes what the services said: to the console and to their logs.
    pub fn relay_output(&mut self, now: Monotonic) {
        for slot in &mut self.slots {
            slot.relay(now);
        }
    }
}

impl Slot {
    /// Returns whether the process was started.
    fn handle(&mut self, event: Event, now: Monotonic) -> bool {
        let was_starting = matches!(self.state, State::Starting(_));
        let before = self.state;
        let step = supervise::step(self.state, event, &self.service.spec, now);
        if step.illegal {
            console::say(&format!(
                "{}: {event:?} makes no sense in {before:?}",
                self.service.name
            ));
        }
        self.state = step.state;
        if let Event::Exited(pid, exit) = event
            && before.pid() == Some(pid)
        {
            self.say_ended(exit, now);
        }
        if was_starting && matches!(self.state, State::Running(_)) {
            console::say(&format!("{} ready", self.service.milestone));
        }
        match step.effect {
            Some(Effect::Spawn) => self.spawn(now),
            Some(effect) => {
                if let Effect::Kill(_) = effect {
                    let silent = matches!(before, State::Starting(_) | State::Running(_));
                    let why = if silent {
                        "gives no sign of life"
                    } else {
                        "does not end in time"
                    };
                    console::say(&format!("{} {why}: killed", self.service.milestone));
                }
                spawn::signal(effect, Reach::Process);
                false
            }
            None => false,
        }
    }

    fn spawn(&mut self, now: Monotonic) -> bool {
        let mut command = Command::new(self.service.program);
        command
            .args(self.service.arguments)
            .env_clear()
            .envs(ENVIRONMENT.iter().copied())
            .current_dir("/");
        match cgroup::service_leaf(Path::new(cgroup::ROOT), self.service.name) {
            Ok(procs) => sys::enter_cgroup(&mut command, procs),
            Err(error) => console::say_error("open service cgroup", &error),
        }
        match spawn::start(command, &self.output) {
            Ok(pid) => {
                console::say(&format!("{} started", self.service.milestone));
                self.handle(Event::Spawned(pid), now);
                true
            }
            Err(error) => {
                console::say_error(&format!("start {}", self.service.program), &error);
                self.handle(Event::SpawnFailed, now);
                false
            }
        }
    }

    fn say_ended(&self, exit: Exit, now: Monotonic) {
        let how = match exit {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        };
        let then = match self.state {
            State::BackingOff { until, .. } => format!("again in {} ms", until.since(now).as_millis()),
            _ => "not started again".to_owned(),
        };
        console::say(&format!("{} ended: {how}; {then}", self.service.milestone));
    }

    fn relay(&mut self, now: Monotonic) {
        let mut chunk = [0; 4096];
        let mut taken = 0;
        while taken < MOST_OUTPUT {
            match self.output.reader.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    taken += length;
                    self.pending.extend_from_slice(chunk.get(..length).unwrap_or_default());
                    self.relay_lines(now);
                }
            }
        }
    }

    fn relay_lines(&mut self, now: Monotonic) {
        loop {
            let end = self.pending.iter().position(|byte| *byte == b'\n');
            let end = match end {
                Some(end) => end + 1,
                None if self.pending.len() >= milestone::MAX_TEXT => milestone::MAX_TEXT,
                None => return,
            };
            let mut line: Vec<u8> = self.pending.drain(..end).collect();
            if self.shown.may_show(now) {
                if self.shown.withheld > 0 {
                    console::say(&format!(
                        "{}: {} lines not shown",
                        self.service.name, self.shown.withheld
                    ));
                    self.shown.withheld = 0;
                }
                console::relay(self.service.name, String::from_utf8_lossy(&line).trim_end());
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            // A log that cannot be written, such as on a full /run, is given up; the console still has the lines.
            if self.log.as_mut().is_some_and(|log| log.append(&line).is_err()) {
                self.log = None;
                console::say(&format!("{}: log file given up", self.service.name));
            }
        }
    }
}

impl Shown {
    fn may_show(&mut self, now: Monotonic) -> bool {
        let second = now.milliseconds() / 1000;
        if second != self.second {
            self.second = second;
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        let may = self.lines <= MOST_LINES;
        if !may {
            self.withheld = self.withheld.saturating_add(1);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_console_shows_a_bounded_number_of_lines_a_second() {
        let mut shown = Shown::default();
        let first = Monotonic::after_boot(Duration::from_millis(1500));
        let count = (0..1000).filter(|_| shown.may_show(first)).count();
        assert_eq!(count, usize::try_from(MOST_LINES).unwrap());
        assert_eq!(shown.withheld, 1000 - MOST_LINES);
        assert!(shown.may_show(first.plus(Duration::from_secs(1))));
    }
}
