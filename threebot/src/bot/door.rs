//! How many negotiations a farmer's bot holds at once, in all and with one customer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ledger::Id;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most negotiations at once; whoever asks then is told to come again.
const MOST: usize = 64;
/// Most negotiations at once with one customer.
const MOST_OF_ONE: usize = 4;

/// Counts negotiations. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Door {
    slots: Arc<Semaphore>,
    customers: Arc<Mutex<BTreeMap<Id, usize>>>,
}

/// A negotiation with a customer who is known; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    door: Door,
    customer: Id,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MOST)),
            customers: Arc::default(),
        }
    }
}

impl Door {
    /// Lets somebody ask, whoever it is, if there is room.
    pub(super) fn knock(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Lets a customer in whose link is its own, unless it has enough negotiations under way.
    pub(super) fn enter(&self, customer: Id) -> Option<Guest> {
        let mut customers = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_this = customers.entry(customer).or_default();
        if *of_this >= MOST_OF_ONE {
            return None;
        }
        *of_this += 1;
        Some(Guest {
            door: self.clone(),
            customer,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut customers = self.door.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_this) = customers.get_mut(&self.customer) {
            *of_this -= 1;
            if *of_this == 0 {
                customers.remove(&self.customer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::tests::id;

    #[test]
    fn one_customer_takes_a_few_places_and_all_together_have_an_end() {
        let door = Door::default();
        let mut guests: Vec<_> = (0..MOST_OF_ONE).map(|_| door.enter(id(1)).unwrap()).collect();
        assert!(door.enter(id(1)).is_none());
        assert!(door.enter(id(2)).is_some());
        guests.pop();
        assert!(door.enter(id(1)).is_some());
        drop(guests);
        assert!(door.customers.lock().unwrap().is_empty());
        let all: Vec<_> = (0..MOST).map(|_| door.knock().unwrap()).collect();
        assert!(door.knock().is_none());
        drop(all);
        assert!(door.knock().is_some());
    }
}
