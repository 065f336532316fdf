//! For how long a workload was seen to run.

use std::collections::VecDeque;

use ledger::Timestamp;

/// Most spans that are remembered; the oldest goes first.
const MAX_SPANS: usize = 1_024;

/// Adds up the time between looks that both found the workload running. What was not looked at counts as down.
#[derive(Debug, Clone)]
pub struct Meter {
    spans: VecDeque<(Timestamp, Timestamp)>,
    /// Whether the last look found it running.
    running: bool,
    max_gap_ms: u64,
}

impl Meter {
    /// A meter that trusts two looks at most `max_gap_ms` apart to speak for the time between them.
    #[must_use]
    pub fn new(max_gap_ms: u64) -> Self {
        Self {
            spans: VecDeque::new(),
            running: false,
            max_gap_ms,
        }
    }

    /// Takes note of one look.
    pub fn saw(&mut self, at: Timestamp, running: bool) {
        if running {
            match self.spans.back_mut() {
                Some((_, end)) if self.running && at >= *end && at.since(*end) <= self.max_gap_ms => *end = at,
                Some((_, end)) if at < *end => {}
                _ => self.spans.push_back((at, at)),
            }
            if self.spans.len() > MAX_SPANS {
                self.spans.pop_front();
            }
        }
        self.running = running;
    }

    /// Milliseconds between `from` and `to` during which it was seen to run.
    #[must_use]
    pub fn up_ms(&self, from: Timestamp, to: Timestamp) -> u64 {
        let within = |&(begin, end): &(Timestamp, Timestamp)| end.min(to).since(begin.max(from));
        self.spans.iter().map(within).sum()
    }

    /// Whether nothing was seen yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Forgets what ended before `time`.
    pub fn forget_before(&mut self, time: Timestamp) {
        while self.spans.len() > 1 && self.spans.front().is_some_and(|(_, end)| *end < time) {
            self.spans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn seen(looks: &[(u64, bool)]) -> Meter {
        let mut meter = Meter::new(10);
        for (at, running) in looks {
            meter.saw(T(*at), *running);
        }
        meter
    }

    #[test]
    fn only_time_between_two_good_looks_counts() {
        let meter = seen(&[
            (0, true),
            (10, true),
            (20, false),
            (30, true),
            (40, true),
            (60, true),
            (65, true),
        ]);
        assert_eq!(meter.up_ms(T(0), T(100)), 10 + 10 + 5);
        assert_eq!(meter.up_ms(T(5), T(35)), 5 + 5);
        assert_eq!(meter.up_ms(T(200), T(300)), 0);
        assert_eq!(seen(&[(0, false), (5, false)]).up_ms(T(0), T(10)), 0);
    }

    #[test]
    fn a_clock_that_jumps_back_adds_nothing() {
        let meter = seen(&[(100, true), (110, true), (50, true), (60, true), (115, true)]);
        assert_eq!(meter.up_ms(T(0), T(1_000)), 15);
    }

    #[test]
    fn what_is_forgotten_no_longer_counts() {
        let mut meter = seen(&[(0, true), (10, true), (50, true), (60, true)]);
        meter.forget_before(T(40));
        assert_eq!(meter.up_ms(T(0), T(100)), 10);
        assert!(!meter.is_empty());
    }
}
