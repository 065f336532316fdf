//! Who of the validators is linked, as those see it who watch this one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledger::Height;
use peer_link::PeerId;

/// The linked validators, each with the height that it says it has. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Linked(Arc<Mutex<BTreeMap<PeerId, Height>>>);

impl Linked {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.peers().len()
    }

    /// The highest block that one of them says it has, 0 if none does.
    #[must_use]
    pub fn highest(&self) -> Height {
        self.peers().values().copied().max().unwrap_or(0)
    }

    pub(super) fn came(&self, peer: PeerId) {
        self.peers().entry(peer).or_default();
    }

    /// What one says that is not linked any more counts no more.
    pub(super) fn told(&self, peer: PeerId, tip: Height) {
        if let Some(known) = self.peers().get_mut(&peer) {
            *known = tip;
        }
    }

    pub(super) fn went(&self, peer: PeerId) {
        self.peers().remove(&peer);
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<PeerId, Height>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use peer_link::LinkKey;

    use super::*;

    #[test]
    fn what_a_validator_said_goes_with_its_link() {
        let (linked, [one, other]) = (
            Linked::default(),
            [1, 2].map(|seed| LinkKey::from_seed(&[seed; 32]).id()),
        );
        linked.came(one);
        linked.told(one, 7);
        linked.told(other, 99);
        assert_eq!((linked.count(), linked.highest()), (1, 7));
        linked.came(other);
        linked.told(other, 9);
        linked.came(other);
        assert_eq!((linked.count(), linked.highest()), (2, 9));
        linked.went(other);
        assert_eq!((linked.count(), linked.highest()), (1, 7));
    }
}
