//! How long to wait before trying again.

use std::time::Duration;

/// Pauses that double with each failure, up to a longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// No failure yet; the first pause is `first`, the longest `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            failures: 0,
            first,
            longest,
        }
    }

    /// Counts a failure and says how long to wait.
    #[must_use]
    pub fn failed(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// Forgets the failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_doubles_up_to_the_longest_and_starts_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..40).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(pauses[..5], [100, 200, 400, 800, 1000]);
        assert!(pauses[5..].iter().all(|pause| *pause == 1000));
        backoff.succeeded();
        assert_eq!(backoff.failed().as_millis(), 100);
    }
}
