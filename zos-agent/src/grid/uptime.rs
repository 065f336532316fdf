//! When a workload ran, in the chain's time.

use borsh::{BorshDeserialize, BorshSerialize};

/// Most intervals that are kept; then the oldest are dropped. A workload that fails again and again is started every five
/// minutes, so this is a week of it, and what is settled goes by its age.
const MAX_INTERVALS: usize = 2048;

/// Intervals in which a workload ran, apart from each other and in ascending order, in milliseconds of the chain's time.
#[derive(Debug, Clone, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Uptime {
    intervals: Vec<(u64, u64)>,
}

impl Uptime {
    /// Adds the time from `start` to `end`, which may overlap what is known.
    pub fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        self.intervals.retain(|&(from, to)| {
            let apart = to < start || end < from;
            if !apart {
                start = start.min(from);
                end = end.max(to);
            }
            apart
        });
        let at = self.intervals.partition_point(|&(from, _)| from < start);
        self.intervals.insert(at, (start, end));
        if self.intervals.len() > MAX_INTERVALS {
            self.intervals.remove(0);
        }
    }

    /// Drops what ended before `time`: nobody will ask for it any more.
    pub fn forget_before(&mut self, time: u64) {
        self.intervals.retain(|&(_, end)| end >= time);
    }

    /// Milliseconds between `start` and `end` in which it ran.
    #[must_use]
    pub fn within(&self, start: u64, end: u64) -> u64 {
        self.intervals
            .iter()
            .map(|&(from, to)| to.min(end).saturating_sub(from.max(start)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(intervals: &[(u64, u64)]) -> Uptime {
        let mut uptime = Uptime::default();
        for &(start, end) in intervals {
            uptime.add(start, end);
        }
        uptime
    }

    #[test]
    fn overlaps_count_once_and_gaps_do_not_count() {
        let uptime = of(&[(10, 20), (15, 30), (50, 60), (30, 40), (5, 5)]);
        assert_eq!(uptime, of(&[(10, 40), (50, 60)]));
        assert_eq!(uptime.within(0, 100), 40);
        assert_eq!(uptime.within(35, 55), 10);
        assert_eq!(uptime.within(41, 49), 0);
    }

    #[test]
    fn what_is_settled_goes_by_its_age_and_what_is_not_stays() {
        let mut uptime = of(&[(10, 20), (25, 40), (50, 60)]);
        uptime.forget_before(40);
        assert_eq!(uptime, of(&[(25, 40), (50, 60)]));
    }

    #[test]
    fn the_number_of_intervals_is_bounded() {
        let many: Vec<(u64, u64)> = (0..5_000).map(|n| (n * 10, n * 10 + 1)).collect();
        let uptime = of(&many);
        assert_eq!(uptime.intervals.len(), MAX_INTERVALS);
        assert_eq!(uptime.within(49_990, 50_000), 1);
    }
}
