//! The life of one supervised process, as a pure state machine.
//!
//! ```text
//!            DependenciesUp            Spawned               Ready
//!  Waiting ─────────────────▶ Spawning ───────▶ Starting ───────────▶ Running
//!                               ▲  │                │                    │
//!                         until │  │ SpawnFailed    │ Exited             │ Exited
//!                               │  ▼                ▼                    ▼
//!                             BackingOff ◀───────────────────────────────┤
//!                               ▲                                        ├──▶ Stopped, Failed (by policy)
//!                               └──────────── Stopping ◀─────────────────┘
//!                                 (no sign of life)      │ Exited after Stop
//!                                                        ▼
//!                                                     Stopped
//! ```
//!
//! The pause doubles with each attempt between the two bounds of [`Backoff`] and starts anew after a healthy while.
//! A process that owes signs of life ([`Liveness`]) and gives none is killed and started again.

use std::time::Duration;

use nix::unistd::Pid;

use crate::monotonic::Monotonic;

/// How a process is supervised.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Pauses between attempts.
    pub backoff: Backoff,
    /// A process that ran this long was healthy, and the next pause is the first again.
    pub healthy: Duration,
    /// Whether it is started again.
    pub restart: Restart,
    /// When it counts as running.
    pub readiness: Readiness,
    /// Signs of life that it owes.
    pub liveness: Option<Liveness>,
    /// From the request to stop until it is killed.
    pub stop: Duration,
}

/// Bounds of the pause before another attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Backoff {
    /// The pause after `attempt` attempts in a row that were not healthy; `attempt` counts from 0.
    #[must_use]
    pub fn pause(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

/// When a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whatever its exit was.
    Always,
    /// When its exit was not 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// When a process counts as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as it exists.
    Spawned,
    /// When it says so.
    Said,
}

/// Signs of life that a process owes.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Time from its start to the first, if it does not say sooner that it is ready.
    pub grace: Duration,
    /// Time from one to the next.
    pub every: Duration,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal of this number.
    Signal(i32),
}

impl Exit {
    /// The code as a shell would show it: 128 is added to a signal's number.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_i32.saturating_add(signal),
        }
    }
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Something it needs is not running yet.
    Waiting,
    /// The shell was told to start it.
    Spawning {
        /// Attempts in a row before this one that were not healthy.
        attempt: u32,
    },
    /// It exists and has not said that it is ready.
    Starting(Live),
    /// It runs.
    Running(Live),
    /// It ended and is started again later.
    BackingOff {
        /// When it is started again.
        until: Monotonic,
        /// Attempts in a row that were not healthy.
        attempt: u32,
    },
    /// It was asked to end, or killed, and exists still.
    Stopping {
        /// Its process.
        pid: Pid,
        /// When it is killed, again if need be.
        kill_at: Monotonic,
        /// What follows its end.
        then: Then,
    },
    /// It ended and stays so.
    Stopped,
    /// It ended badly and its policy is not to start it again.
    Failed {
        /// How it ended; `None` when it could not be started at all.
        exit: Option<Exit>,
    },
}

/// A process that exists and was not asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Its process.
    pub pid: Pid,
    /// When it was started.
    pub since: Monotonic,
    /// Attempts in a row before this one that were not healthy.
    pub attempt: u32,
    /// When its next sign of life is due, if it owes any.
    pub alive_by: Option<Monotonic>,
}

/// What follows the end of a process that was made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is started again after a pause.
    Restart {
        /// Attempts in a row that were not healthy.
        attempt: u32,
    },
    /// It stays ended.
    Stay,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// All that it needs is running.
    DependenciesUp,
    /// It was started.
    Spawned(Pid),
    /// It could not be started.
    SpawnFailed,
    /// It said that it is ready.
    Ready,
    /// It gave a sign of life.
    Alive,
    /// A process ended.
    Exited(Pid, Exit),
    /// It is to end and stay so.
    Stop,
    /// Time has passed.
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start the process and report [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn,
    /// Ask the process group to end (SIGTERM).
    Terminate(Pid),
    /// Kill the process group (SIGKILL).
    Kill(Pid),
}

/// The outcome of one step.
#[must_use = "a step that is not carried out changes nothing"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The new state.
    pub state: State,
    /// What to do, if anything.
    pub effect: Option<Effect>,
    /// Whether the event makes no sense in that state; the state is unchanged then.
    pub illegal: bool,
}

impl Step {
    const fn to(state: State) -> Self {
        Self {
            state,
            effect: None,
            illegal: false,
        }
    }

    const fn with(self, effect: Effect) -> Self {
        Self {
            effect: Some(effect),
            ..self
        }
    }

    const fn illegal(state: State) -> Self {
        Self {
            state,
            effect: None,
            illegal: true,
        }
    }
}

/// How often a process that does not die is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Decides what follows `event`.
pub fn step(state: State, event: Event, spec: &Spec, now: Monotonic) -> Step {
    match (state, event) {
        (State::Starting(live) | State::Running(live), event) => step_live(state, live, event, spec, now),
        (State::Stopping { pid, kill_at, then }, event) => step_stopping(pid, kill_at, then, event, spec, now),
        (State::Waiting, Event::DependenciesUp) => Step::to(State::Spawning { attempt: 0 }).with(Effect::Spawn),
        (State::Spawning { attempt }, Event::Spawned(pid)) => {
            let alive_by = spec.liveness.map(|liveness| now.plus(liveness.grace));
            let live = Live {
                pid,
                since: now,
                attempt,
                alive_by,
            };
            Step::to(match spec.readiness {
                Readiness::Spawned => State::Running(live),
                Readiness::Said => State::Starting(live),
            })
        }
        (State::Spawning { attempt }, Event::SpawnFailed) => match spec.restart {
            Restart::Never => Step::to(State::Failed { exit: None }),
            Restart::Always | Restart::OnFailure => Step::to(back_off(attempt, spec, now)),
        },
        (State::BackingOff { until, attempt }, Event::Tick) if until <= now => {
            Step::to(State::Spawning { attempt }).with(Effect::Spawn)
        }
        (State::Waiting | State::Spawning { .. } | State::BackingOff { .. }, Event::Stop) => Step::to(State::Stopped),
        // It was told to stop while it was being started.
        (State::Stopped, Event::Spawned(pid)) => {
            let kill_at = now.plus(spec.stop);
            Step::to(State::Stopping {
                pid,
                kill_at,
                then: Then::Stay,
            })
            .with(Effect::Terminate(pid))
        }
        // A process that was already replaced has ended late, or a last word arrived after the end.
        (state, Event::Tick | Event::Exited(..) | Event::Alive | Event::Ready)
        | (state @ (State::Stopped | State::Failed { .. }), Event::Stop | Event::SpawnFailed) => Step::to(state),
        (state, _) => Step::illegal(state),
    }
}

fn step_live(state: State, live: Live, event: Event, spec: &Spec, now: Monotonic) -> Step {
    match event {
        Event::Ready | Event::Alive => {
            let alive_by = spec.liveness.map(|liveness| now.plus(liveness.every));
            // Readiness ends the grace.
            Step::to(if event == Event::Ready || matches!(state, State::Running(_)) {
                State::Running(Live { alive_by, ..live })
            } else {
                State::Starting(Live {
                    alive_by: live.alive_by.max(alive_by),
                    ..live
                })
            })
        }
        Event::Exited(pid, exit) if pid == live.pid => {
            let attempt = if now.since(live.since) >= spec.healthy {
                0
            } else {
                live.attempt
            };
            Step::to(match (spec.restart, exit) {
                (Restart::Never | Restart::OnFailure, Exit::Code(0)) => State::Stopped,
                (Restart::Never, exit) => State::Failed { exit: Some(exit) },
                (Restart::Always | Restart::OnFailure, _) => back_off(attempt, spec, now),
            })
        }
        Event::Tick if live.alive_by.is_some_and(|due| due <= now) => {
            let then = Then::Restart { attempt: live.attempt };
            Step::to(State::Stopping {
                pid: live.pid,
                kill_at: now.plus(KILL_AGAIN),
                then,
            })
            .with(Effect::Kill(live.pid))
        }
        Event::Stop => {
            let kill_at = now.plus(spec.stop);
            Step::to(State::Stopping {
                pid: live.pid,
                kill_at,
                then: Then::Stay,
            })
            .with(Effect::Terminate(live.pid))
        }
        Event::Tick | Event::Exited(..) => Step::to(state),
        Event::DependenciesUp | Event::Spawned(_) | Event::SpawnFailed => Step::illegal(state),
    }
}

fn step_stopping(pid: Pid, kill_at: Monotonic, then: Then, event: Event, spec: &Spec, now: Monotonic) -> Step {
    let state = State::Stopping { pid, kill_at, then };
    match event {
        Event::Exited(ended, _) if ended == pid => Step::to(match then {
            Then::Restart { attempt } => back_off(attempt, spec, now),
            Then::Stay => State::Stopped,
        }),
        Event::Stop => Step::to(State::Stopping {
            pid,
            kill_at,
            then: Then::Stay,
        }),
        Event::Tick if kill_at <= now => Step::to(State::Stopping {
            pid,
            kill_at: now.plus(KILL_AGAIN),
            then,
        })
        .with(Effect::Kill(pid)),
        Event::Tick | Event::Exited(..) | Event::Alive | Event::Ready => Step::to(state),
        Event::DependenciesUp | Event::Spawned(_) | Event::SpawnFailed => Step::illegal(state),
    }
}

fn back_off(attempt: u32, spec: &Spec, now: Monotonic) -> State {
    State::BackingOff {
        until: now.plus(spec.backoff.pause(attempt)),
        attempt: attempt.saturating_add(1),
    }
}

impl State {
    /// When [`Event::Tick`] is next of use.
    #[must_use]
    pub const fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::BackingOff { until, .. } => Some(*until),
            Self::Stopping { kill_at, .. } => Some(*kill_at),
            Self::Starting(live) | Self::Running(live) => live.alive_by,
            Self::Waiting | Self::Spawning { .. } | Self::Stopped | Self::Failed { .. } => None,
        }
    }

    /// The process, if there is one.
    #[must_use]
    pub const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Starting(live) | Self::Running(live) => Some(live.pid),
            Self::Stopping { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// Whether it ended for good.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec {
        backoff: Backoff {
            first: Duration::from_millis(250),
            most: Duration::from_secs(30),
        },
        healthy: Duration::from_secs(60),
        restart: Restart::Always,
        readiness: Readiness::Said,
        liveness: Some(Liveness {
            grace: Duration::from_secs(120),
            every: Duration::from_secs(30),
        }),
        stop: Duration::from_secs(60),
    };

    fn at(seconds: u64) -> Monotonic {
        Monotonic::after_boot(Duration::from_secs(seconds))
    }

    fn started(pid: i32) -> State {
        let spawning = step(State::Waiting, Event::DependenciesUp, &SPEC, at(0));
        assert_eq!(spawning.effect, Some(Effect::Spawn));
        step(spawning.state, Event::Spawned(Pid::from_raw(pid)), &SPEC, at(0)).state
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_start_anew_after_a_healthy_while() {
        let mut state = started(5);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            state = step(state, Event::Exited(Pid::from_raw(5), Exit::Code(1)), &SPEC, at(0)).state;
            let State::BackingOff { until, attempt } = state else {
                panic!("{state:?}")
            };
            pauses.push(until.milliseconds());
            state = step(
                State::Spawning { attempt },
                Event::Spawned(Pid::from_raw(5)),
                &SPEC,
                at(0),
            )
            .state;
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        let healthy = step(state, Event::Exited(Pid::from_raw(5), Exit::Code(1)), &SPEC, at(60)).state;
        assert_eq!(healthy.deadline(), Some(at(60).plus(Duration::from_millis(250))));
    }

    #[test]
    fn late_exit_of_replaced_process_is_ignored() {
        let state = started(5);
        let step = step(state, Event::Exited(Pid::from_raw(4), Exit::Signal(9)), &SPEC, at(1));
        assert_eq!(step, Step::to(state));
    }

    #[test]
    fn silence_kills_and_restarts() {
        let state = step(started(5), Event::Alive, &SPEC, at(100)).state;
        assert_eq!(step(state, Event::Tick, &SPEC, at(129)).effect, None);
        let killed = step(state, Event::Tick, &SPEC, at(130));
        assert_eq!(killed.effect, Some(Effect::Kill(Pid::from_raw(5))));
        let after = step(
            killed.state,
            Event::Exited(Pid::from_raw(5), Exit::Signal(9)),
            &SPEC,
            at(131),
        )
        .state;
        assert!(matches!(after, State::BackingOff { .. }), "{after:?}");
    }

    #[test]
    fn an_early_sign_of_life_does_not_shorten_the_grace() {
        let state = step(started(5), Event::Alive, &SPEC, at(1)).state;
        assert_eq!(state.deadline(), Some(at(120)));
    }

    #[test]
    fn readiness_ends_the_grace() {
        let ready = step(started(5), Event::Ready, &SPEC, at(2)).state;
        assert_eq!(ready.deadline(), Some(at(32)));
        let alive = step(ready, Event::Alive, &SPEC, at(20)).state;
        assert_eq!(alive.deadline(), Some(at(50)));
    }

    #[test]
    fn stop_terminates_then_kills_then_stays_stopped() {
        let stopping = step(started(5), Event::Stop, &SPEC, at(1));
        assert_eq!(stopping.effect, Some(Effect::Terminate(Pid::from_raw(5))));
        assert_eq!(step(stopping.state, Event::Tick, &SPEC, at(60)).effect, None);
        let killed = step(stopping.state, Event::Tick, &SPEC, at(61));
        assert_eq!(killed.effect, Some(Effect::Kill(Pid::from_raw(5))));
        let over = step(
            killed.state,
            Event::Exited(Pid::from_raw(5), Exit::Signal(9)),
            &SPEC,
            at(62),
        )
        .state;
        assert_eq!(over, State::Stopped);
    }

    #[test]
    fn exit_zero_ends_what_is_restarted_only_on_failure() {
        let spec = Spec {
            restart: Restart::OnFailure,
            ..SPEC
        };
        assert_eq!(
            step(started(5), Event::Exited(Pid::from_raw(5), Exit::Code(0)), &spec, at(1)).state,
            State::Stopped
        );
        let never = Spec {
            restart: Restart::Never,
            ..SPEC
        };
        let failed = step(
            started(5),
            Event::Exited(Pid::from_raw(5), Exit::Signal(11)),
            &never,
            at(1),
        )
        .state;
        assert_eq!(
            failed,
            State::Failed {
                exit: Some(Exit::Signal(11))
            }
        );
    }

    /// A small generator, so that a failure is repeated from its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// A faithful shell: it carries out each effect, so at most one process exists at any time.
    #[test]
    fn random_lives_never_have_two_processes_and_always_end_when_stopped() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let (mut now, mut state, mut process, mut next_pid) = (at(0), State::Waiting, None, 100);
            let mut stopped = false;
            for turn in 0..400 {
                now = now.plus(Duration::from_millis(random.below(20_000)));
                let event = match (random.below(8), process) {
                    (0, None) if state == State::Waiting => Event::DependenciesUp,
                    (1, Some(pid)) => Event::Exited(pid, Exit::Code(1)),
                    (2, _) => Event::Exited(Pid::from_raw(1), Exit::Code(0)),
                    (3, Some(_)) => Event::Ready,
                    (4, Some(_)) => Event::Alive,
                    _ if turn > 300 && !stopped => Event::Stop,
                    _ => Event::Tick,
                };
                stopped |= event == Event::Stop;
                if matches!(event, Event::Exited(pid, _) if Some(pid) == process) {
                    process = None;
                }
                let mut queue = vec![event];
                while let Some(event) = queue.pop() {
                    let step = step(state, event, &SPEC, now);
                    assert!(!step.illegal, "seed {seed}: {state:?} {event:?}");
                    state = step.state;
                    match step.effect {
                        Some(Effect::Spawn) if random.below(4) == 0 => queue.push(Event::SpawnFailed),
                        Some(Effect::Spawn) => {
                            assert_eq!(process, None, "seed {seed}: a second process");
                            next_pid += 1;
                            process = Some(Pid::from_raw(next_pid));
                            queue.push(Event::Spawned(Pid::from_raw(next_pid)));
                        }
                        Some(Effect::Kill(pid)) => {
                            assert_eq!(process, Some(pid), "seed {seed}: kill of a stranger");
                            process = None;
                            queue.push(Event::Exited(pid, Exit::Signal(9)));
                        }
                        Some(Effect::Terminate(pid)) => assert_eq!(process, Some(pid), "seed {seed}"),
                        None => {}
                    }
                }
                assert_eq!(state.pid(), process, "seed {seed} turn {turn}: {state:?}");
            }
            if let Some(deadline) = state.deadline() {
                state = step(state, Event::Tick, &SPEC, deadline).state;
            }
            assert!(
                stopped && (state.is_over() || matches!(state, State::Stopping { .. })),
                "seed {seed}: {state:?}"
            );
        }
    }
}
