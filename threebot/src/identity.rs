//! Who a 3bot is: the id of its entity, and the seed of the keys that the chain has for it now.

mod file;
mod seed;

pub use file::{IdentityFile, IdentityFileError, MAX_IDENTITY_FILE, Protection};
pub use seed::{Seed, WordsError};

use ledger::{Id, SigningKey, body::Keys};
use peer_link::LinkKey;
use workload::EncryptionKey;

/// Most seeds of keys that were replaced that are kept, to read what was sealed to them.
pub const MAX_FORMER: usize = 32;

/// An entity's id and its seeds.
#[derive(Debug, Clone)]
pub struct Identity {
    entity: Id,
    current: Seed,
    /// Of keys that are to replace the current ones, while it is not known whether they do.
    next: Option<Seed>,
    /// Of keys that were replaced, the newest first.
    former: Vec<Seed>,
}

impl Identity {
    /// A new entity's, founded by the seed's keys.
    #[must_use]
    pub fn founded(seed: Seed) -> Self {
        Self::of(seed.founding_id(), seed)
    }

    /// Of an entity that has, or is to have, this seed's keys.
    #[must_use]
    pub fn of(entity: Id, seed: Seed) -> Self {
        Self {
            entity,
            current: seed,
            next: None,
            former: Vec::new(),
        }
    }

    /// The entity's id.
    #[must_use]
    pub fn id(&self) -> Id {
        self.entity
    }

    /// The seed of its keys.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.current
    }

    /// The seed of the keys that are to replace them.
    #[must_use]
    pub fn next(&self) -> Option<&Seed> {
        self.next.as_ref()
    }

    /// Signs transactions and agreements.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        self.current.signing()
    }

    /// Speaks for it on links.
    #[must_use]
    pub fn link(&self) -> LinkKey {
        self.current.link()
    }

    /// The public halves, as they stand on the chain.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.current.keys()
    }

    /// What reads what is or was sealed to it; the first is the one to seal to.
    #[must_use]
    pub fn encryption(&self) -> Vec<EncryptionKey> {
        let seeds = std::iter::once(&self.current).chain(&self.former);
        seeds.map(Seed::encryption).collect()
    }

    /// With a seed that is to come.
    #[must_use]
    pub fn with_next(self, seed: Seed) -> Self {
        Self {
            next: Some(seed),
            ..self
        }
    }

    /// After the keys were replaced by the next ones, if there are any.
    #[must_use]
    pub fn renewed(mut self) -> Self {
        if let Some(next) = self.next.take() {
            let former = std::mem::replace(&mut self.current, next);
            self.former.insert(0, former);
            self.former.truncate(MAX_FORMER);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn seed(byte: u8) -> Seed {
        Seed::from_bytes(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn renewed_keys_are_the_next_ones_of_the_same_entity_and_old_secrets_stay_readable() {
        let mut identity = Identity::founded(seed(1));
        let id = identity.id();
        for byte in 2..=40 {
            identity = identity.with_next(seed(byte));
            assert_eq!(identity.keys(), seed(byte - 1).keys());
            identity = identity.renewed();
            assert_eq!((identity.id(), identity.keys()), (id, seed(byte).keys()));
            assert!(identity.next().is_none());
        }
        let keys: Vec<_> = identity.encryption().iter().map(EncryptionKey::public).collect();
        assert_eq!(keys.len(), 1 + MAX_FORMER);
        assert_eq!(keys[..2], [seed(40).keys().encryption, seed(39).keys().encryption]);
        assert_eq!(identity.clone().renewed().keys(), identity.keys());
    }
}
