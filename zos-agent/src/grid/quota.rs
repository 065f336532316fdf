//! How many things of a kind each contract may have at a time, so that no customer takes the node's descriptors and threads
//! from the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledger::Id;

/// A bound for each contract.
#[derive(Debug)]
pub struct Quota {
    most: usize,
    used: Arc<Mutex<BTreeMap<Id, usize>>>,
}

/// One of a contract's share; gives it back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    contract: Id,
    used: Arc<Mutex<BTreeMap<Id, usize>>>,
}

fn lock(used: &Mutex<BTreeMap<Id, usize>>) -> MutexGuard<'_, BTreeMap<Id, usize>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quota {
    /// At most `most` for each contract.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most,
            used: Arc::default(),
        }
    }

    /// One more for a contract, or nothing when it has its share.
    #[must_use]
    pub fn take(&self, contract: Id) -> Option<Ticket> {
        let mut used = lock(&self.used);
        let count = used.entry(contract).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Ticket {
            contract,
            used: Arc::clone(&self.used),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        if let Some(count) = used.get_mut(&self.contract) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                used.remove(&self.contract);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Hash;

    #[test]
    fn contract_that_has_its_share_gets_no_more_and_takes_nothing_from_others() {
        let id = |byte| Id::from_hash(Hash::from_bytes([byte; 32]));
        let quota = Quota::new(2);
        let mut held: Vec<_> = (0..2).map(|_| quota.take(id(1)).unwrap()).collect();
        assert!(quota.take(id(1)).is_none());
        assert!(quota.take(id(2)).is_some());
        held.pop();
        assert!(quota.take(id(1)).is_some());
        drop(held);
        assert!(lock(&quota.used).is_empty());
    }
}
