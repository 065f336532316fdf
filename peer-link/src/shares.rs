//! A share for each: so that one of many takes no more than its own of what there is for all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Held<K> = Arc<Mutex<BTreeMap<K, usize>>>;

/// How many things of a kind each may hold at a time. Clones share the count.
#[derive(Debug, Clone)]
pub struct Shares<K: Ord + Clone> {
    most: usize,
    held: Held<K>,
}

/// One thing of a share; counted until it is dropped.
#[derive(Debug)]
pub struct Share<K: Ord + Clone> {
    of: K,
    held: Held<K>,
}

impl<K: Ord + Clone> Shares<K> {
    /// At most `most` for each.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            held: Arc::default(),
        }
    }

    /// One more for `of`, or nothing when it has its share.
    #[must_use]
    pub fn take(&self, of: K) -> Option<Share<K>> {
        let mut held = lock(&self.held);
        let count = held.get(&of).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        held.insert(of.clone(), count + 1);
        drop(held);
        Some(Share {
            of,
            held: Arc::clone(&self.held),
        })
    }
}

impl<K: Ord + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        match held.get_mut(&self.of) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = held.remove(&self.of),
        }
    }
}

fn lock<K>(held: &Mutex<BTreeMap<K, usize>>) -> MutexGuard<'_, BTreeMap<K, usize>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_its_share_gets_no_more_and_takes_nothing_from_others() {
        let shares = Shares::new(2);
        let mut held: Vec<_> = (0..2).map(|_| shares.take("greedy").unwrap()).collect();
        assert!(shares.clone().take("greedy").is_none());
        assert!(shares.take("other").is_some());
        held.pop();
        assert!(shares.take("greedy").is_some());
        drop(held);
        assert!(lock(&shares.held).is_empty(), "nobody is remembered");
        assert!(Shares::new(0).take("anybody").is_none());
        assert!(lock(&Shares::<u8>::new(0).held).is_empty());
    }
}
