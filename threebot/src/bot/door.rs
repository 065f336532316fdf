//! How many negotiations a farmer's bot holds at once, in all and with one customer.

use std::sync::Arc;

use ledger::Id;
use peer_link::{Share, Shares};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most negotiations at once; whoever asks then is told to come again.
const MOST: usize = 64;
/// Most negotiations at once with one customer.
const MOST_OF_ONE: usize = 4;

/// Counts negotiations. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Door {
    slots: Arc<Semaphore>,
    customers: Shares<Id>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(MOST)),
            customers: Shares::new(MOST_OF_ONE),
        }
    }
}

impl Door {
    /// Lets somebody ask, whoever it is, if there is room.
    pub(super) fn knock(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// Lets a customer in whose link is its own, unless it has enough negotiations under way.
    pub(super) fn enter(&self, customer: Id) -> Option<Share<Id>> {
        self.customers.take(customer)
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
        let all: Vec<_> = (0..MOST).map(|_| door.knock().unwrap()).collect();
        assert!(door.knock().is_none());
        drop(all);
        assert!(door.knock().is_some());
    }
}
