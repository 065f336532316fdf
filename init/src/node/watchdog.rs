//! The hardware watchdog and the proof of life that feeds it.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    time::Duration,
};

use crate::{console, monotonic::Monotonic, sys};

/// Without food for this long the hardware restarts the machine.
const TIMEOUT_SECONDS: i32 = 60;
/// Time between two feedings.
pub const FEED_EVERY: Duration = Duration::from_secs(10);
const DEVICE: &str = "/dev/watchdog";

/// Until when the agent has proven that it lives, as a value.
///
/// A sign of life proves the next period. A start proves its grace, but only if the process before it gave a sign of
/// life: an agent that dies at every start lets the hardware restart the machine.
#[derive(Debug, Clone, Copy)]
pub struct Proof {
    until: Monotonic,
    earned: bool,
}

impl Proof {
    /// The proof of a machine that boots: the first start has its grace.
    #[must_use]
    pub const fn at_boot() -> Self {
        Self {
            until: Monotonic::boot(),
            earned: true,
        }
    }

    /// The agent was started.
    #[must_use]
    pub fn started(self, now: Monotonic, grace: Duration) -> Self {
        if self.earned {
            Self {
                until: self.until.max(now.plus(grace)),
                earned: false,
            }
        } else {
            self
        }
    }

    /// The agent gave a sign of life.
    #[must_use]
    pub fn alive(self, now: Monotonic, every: Duration) -> Self {
        Self {
            until: self.until.max(now.plus(every)),
            earned: true,
        }
    }

    /// Whether the watchdog may be fed.
    #[must_use]
    pub fn holds(self, now: Monotonic) -> bool {
        now < self.until
    }
}

/// An open hardware watchdog.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Opens the machine's watchdog, which starts it, if it has one.
    #[must_use]
    pub fn open() -> Option<Self> {
        let device = OpenOptions::new().write(true).open(DEVICE).ok()?;
        match sys::set_watchdog_timeout(&device, TIMEOUT_SECONDS) {
            Ok(seconds) => console::say(&format!("watchdog: restart after {seconds} s without a sign of life")),
            Err(error) => console::say_error("watchdog: set time-out", &error),
        }
        Some(Self { device })
    }

    /// Feeds it.
    pub fn feed(&mut self) {
        if let Err(error) = self.device.write_all(b"1") {
            console::say_error("feed watchdog", &error);
        }
    }

    /// Stops it by its magic character and closes it: the machine ends in order.
    pub fn disarm(mut self) {
        if let Err(error) = self.device.write_all(b"V") {
            console::say_error("disarm watchdog", &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(120);
    const EVERY: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Monotonic {
        Monotonic::after_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn silence_starves_it() {
        let proof = Proof::at_boot().started(at(1), GRACE).alive(at(200), EVERY);
        assert!(proof.holds(at(229)) && !proof.holds(at(230)));
    }

    #[test]
    fn an_agent_that_dies_at_every_start_starves_it() {
        let mut proof = Proof::at_boot();
        for second in 0..300 {
            proof = proof.started(at(second), GRACE);
        }
        assert!(proof.holds(at(119)) && !proof.holds(at(120)));
    }

    #[test]
    fn a_restart_after_a_healthy_life_has_its_grace() {
        let proof = Proof::at_boot()
            .started(at(0), GRACE)
            .alive(at(500), EVERY)
            .started(at(520), GRACE);
        assert!(proof.holds(at(639)) && !proof.holds(at(640)));
    }
}
