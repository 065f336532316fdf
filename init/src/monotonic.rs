//! Time since the kernel started, as a value that pure code takes as an argument.

use std::{fmt, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Monotonic(u64);

impl Monotonic {
    /// The clock's reading. A kernel without the clock would read as zero.
    #[must_use]
    pub fn now() -> Self {
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Self(0), |time| Self::after_boot(Duration::from(time)))
    }

    /// The moment at which the kernel started.
    #[must_use]
    pub const fn boot() -> Self {
        Self(0)
    }

    /// The moment `since_boot` after the kernel started.
    #[must_use]
    pub fn after_boot(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX))
    }

    /// This moment and `later` more; stays at the end of time.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(Self::after_boot(later).0))
    }

    /// How long ago `earlier` was; zero when it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Milliseconds since the kernel started.
    #[must_use]
    pub const fn milliseconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Monotonic {
    /// Seconds and three decimals.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_seconds_with_three_decimals() {
        assert_eq!(
            Monotonic::after_boot(Duration::from_millis(12_034)).to_string(),
            "12.034"
        );
        assert_eq!(Monotonic::default().to_string(), "0.000");
    }

    #[test]
    fn the_future_is_not_ago() {
        let early = Monotonic::default();
        let late = early.plus(Duration::from_secs(1));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_secs(1));
    }
}
