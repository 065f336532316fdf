//! Signatures that were found valid, so that each is checked once however often it is met: when it is submitted, in the block
//! that proposes it, and when that is committed.
//!
//! What is kept is the hash of key, signed bytes and signature together, so nothing else is ever taken for checked; what was
//! forgotten or is not valid is checked again. The predicate is that of [`PublicKey::verifies_bytes`] alone.

use std::{
    collections::HashSet,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use borsh::BorshSerialize;

use crate::{
    hash::{Domain, Hash},
    key::{PublicKey, Purpose, Signature, signing_bytes},
};

/// Signatures that are kept before the older half is forgotten: those of several blocks and of what waits.
const KEPT: usize = 65_536;
/// Fewest signatures that are worth a thread.
const WORTH_A_THREAD: usize = 16;

/// Signatures that were found valid.
#[derive(Debug, Default)]
pub struct Signatures {
    valid: Mutex<Valid>,
}

#[derive(Debug, Default)]
struct Valid {
    newer: HashSet<Hash>,
    older: HashSet<Hash>,
}

/// What is claimed to be a key's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The key.
    pub key: PublicKey,
    /// The signed bytes, as [`signing_bytes`] makes them.
    pub bytes: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

impl Claim {
    /// That `signature` is the key's over `value`, for this purpose and chain.
    #[must_use]
    pub fn new(
        key: PublicKey,
        (purpose, chain): (Purpose, Hash),
        value: &impl BorshSerialize,
        signature: Signature,
    ) -> Self {
        Self {
            key,
            bytes: signing_bytes(purpose, chain, value),
            signature,
        }
    }

    fn name(&self) -> Hash {
        let fixed = (self.key, self.signature);
        Hash::of_parts(Domain::Signature, &[&crate::encoding::encode(&fixed), &self.bytes])
    }

    fn holds(&self) -> bool {
        self.key.verifies_bytes(&self.bytes, &self.signature)
    }
}

impl Signatures {
    /// Whether what is claimed holds.
    #[must_use]
    pub fn verify(&self, claim: &Claim) -> bool {
        let name = claim.name();
        if self.valid().contains(&name) {
            return true;
        }
        let holds = claim.holds();
        if holds {
            self.valid().insert(name);
        }
        holds
    }

    /// Checks what `claims_of` finds in each of `items` on all processors, so that [`Signatures::verify`] finds it checked.
    /// What does not hold is left for it to refuse.
    pub fn check_ahead<T: Sync>(&self, items: &[T], claims_of: impl Fn(&T) -> Vec<Claim> + Sync) {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let share = items.len().div_ceil(threads).max(WORTH_A_THREAD);
        let check = |items: &[T]| {
            for item in items {
                for claim in claims_of(item) {
                    let _ = self.verify(&claim);
                }
            }
        };
        thread::scope(|scope| {
            let mut shares = items.chunks(share);
            let own = shares.next();
            for others in shares {
                scope.spawn(|| check(others));
            }
            own.map(check);
        });
    }

    fn valid(&self) -> MutexGuard<'_, Valid> {
        self.valid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Valid {
    fn contains(&self, name: &Hash) -> bool {
        self.newer.contains(name) || self.older.contains(name)
    }

    fn insert(&mut self, name: Hash) {
        if self.newer.len() >= KEPT / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn claim(seed: u8, value: u64) -> Claim {
        let key = SigningKey::from_seed(&[seed; 32]);
        let signature = key.sign(Purpose::Transaction, Hash::ZERO, &value);
        Claim::new(key.public(), (Purpose::Transaction, Hash::ZERO), &value, signature)
    }

    #[test]
    fn nothing_but_the_very_same_claim_counts_as_checked() {
        let signatures = Signatures::default();
        let (one, two) = (claim(1, 1), claim(2, 2));
        assert!(signatures.verify(&one) && signatures.verify(&one) && signatures.verify(&two));
        let others = [
            Claim {
                key: two.key,
                ..one.clone()
            },
            Claim {
                bytes: two.bytes.clone(),
                ..one.clone()
            },
            Claim {
                signature: two.signature,
                ..one.clone()
            },
        ];
        for other in others {
            assert!(!signatures.verify(&other) && !signatures.verify(&other));
        }
    }

    #[test]
    fn what_is_checked_ahead_is_known_and_what_does_not_hold_is_not() {
        let signatures = Signatures::default();
        let claims: Vec<Claim> = (0..100).map(|value| claim(1, value)).collect();
        let forged = Claim {
            key: claim(2, 0).key,
            ..claims[50].clone()
        };
        let items: Vec<Claim> = claims.iter().cloned().chain([forged.clone()]).collect();
        signatures.check_ahead(&items, |item| vec![item.clone()]);
        let known = |claim: &Claim| signatures.valid().contains(&claim.name());
        assert!(claims.iter().all(known) && !known(&forged));
        signatures.check_ahead(&Vec::<Claim>::new(), |item| vec![item.clone()]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_newest_stays() {
        let mut valid = Valid::default();
        let name = |number: usize| Hash::of(Domain::Signature, &u64::try_from(number).unwrap());
        for number in 0..2 * KEPT {
            valid.insert(name(number));
            assert!(valid.contains(&name(number)));
        }
        assert!(valid.newer.len() + valid.older.len() <= KEPT);
        assert!(valid.contains(&name(2 * KEPT - KEPT / 2)) && !valid.contains(&name(0)));
    }
}
