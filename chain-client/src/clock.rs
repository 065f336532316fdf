//! The chain's time between its blocks, whatever this machine's clock says.

use std::time::Instant;

use ledger::Timestamp;

/// The time of the newest verified header, and when it came.
#[derive(Debug, Default)]
pub struct ChainClock(Option<(Timestamp, Instant)>);

impl ChainClock {
    /// A header of `time` was verified at `at`. An earlier or known one says nothing new.
    pub fn verified(&mut self, time: Timestamp, at: Instant) {
        if self.0.is_none_or(|(known, _)| time > known) {
            self.0 = Some((time, at));
        }
    }

    /// The time of the newest header and what has passed since it came; nothing before the first.
    #[must_use]
    pub fn read(&self, at: Instant) -> Option<Timestamp> {
        let (time, came) = self.0?;
        let passed = at.saturating_duration_since(came);
        Some(time.plus(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp::from_millis;

    #[test]
    fn time_passes_between_blocks_and_each_block_sets_it() {
        let (mut clock, start) = (ChainClock::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.read(start), None);
        clock.verified(T(5_000), start);
        assert_eq!(clock.read(at(700)), Some(T(5_700)));
        clock.verified(T(5_000), at(800));
        clock.verified(T(4_000), at(900));
        assert_eq!(clock.read(at(1_000)), Some(T(6_000)));
        clock.verified(T(5_900), at(1_000));
        assert_eq!(clock.read(at(1_000)), Some(T(5_900)));
    }
}
