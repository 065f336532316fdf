//! Counters of the monitor, each under a dotted name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// A counter that only rises.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<String, Counter>>>);

impl Metrics {
    /// The counter called `name`, made on its first use.
    pub fn counter(&self, name: impl Into<String>) -> Counter {
        crate::lock(&self.0).entry(name.into()).or_default().clone()
    }

    /// Every counter's present value.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        crate::lock(&self.0)
            .iter()
            .map(|(name, counter)| (name.clone(), counter.get()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_one_name_are_one_counter() {
        let metrics = Metrics::default();
        metrics.counter("a.b").increment();
        metrics.clone().counter("a.b").add(2);
        assert_eq!(metrics.snapshot(), BTreeMap::from([("a.b".to_owned(), 3)]));
    }
}
