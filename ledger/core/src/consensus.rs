//! What validators sign and how a reader checks it: votes over our own bytes, commit certificates, validator sets.
//!
//! Nothing here belongs to a consensus engine, so that a light client needs none.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Domain, Hash},
    key::{PublicKey, Purpose, Signature, signing_bytes},
    unit::Height,
};

/// Most validators of a set.
pub const MAX_VALIDATORS: usize = 100;

/// One validator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Validator {
    /// Key that signs votes and proposals.
    pub key: PublicKey,
    /// Key of its peer link.
    pub link: PublicKey,
    /// Voting power, at least 1.
    pub power: u64,
}

/// The validators in force, in ascending order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
}

/// Why validators form no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// None, or more than [`MAX_VALIDATORS`].
    #[error("a validator set has 1 to {MAX_VALIDATORS} members")]
    Size,
    /// Two have the same key, or they are not in ascending order of it.
    #[error("validators are not in ascending order of distinct keys")]
    Order,
    /// Two have the same link key.
    #[error("two validators have the same link key")]
    Link,
    /// A power is zero, or the sum of powers is not representable.
    #[error("voting powers must be at least 1 and their sum below 2^63")]
    Power,
}

impl ValidatorSet {
    /// Makes a set, in whichever order the validators come.
    ///
    /// # Errors
    /// [`ValidatorSetError`] when they form none.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, ValidatorSetError> {
        validators.sort();
        let set = Self { validators };
        set.check()?;
        Ok(set)
    }

    /// Checks a set that was received.
    ///
    /// # Errors
    /// [`ValidatorSetError`] when it breaks a rule.
    pub fn check(&self) -> Result<(), ValidatorSetError> {
        if self.validators.is_empty() || self.validators.len() > MAX_VALIDATORS {
            return Err(ValidatorSetError::Size);
        }
        if !self.validators.is_sorted_by(|a, b| a.key < b.key) {
            return Err(ValidatorSetError::Order);
        }
        let links: BTreeSet<PublicKey> = self.validators.iter().map(|v| v.link).collect();
        if links.len() < self.validators.len() {
            return Err(ValidatorSetError::Link);
        }
        let sum = self
            .validators
            .iter()
            .try_fold(0_u64, |sum, v| sum.checked_add(v.power));
        match sum {
            Some(sum) if sum < 1 << 63 && self.validators.iter().all(|v| v.power > 0) => Ok(()),
            _ => Err(ValidatorSetError::Power),
        }
    }

    /// The validators, in ascending order of their keys.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// The validator with this key.
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<&Validator> {
        self.validators.iter().find(|v| v.key == *key)
    }

    /// Whether a link key is that of a validator.
    #[must_use]
    pub fn has_link(&self, link: &[u8; 32]) -> bool {
        self.validators.iter().any(|v| v.link.as_bytes() == link)
    }

    /// Sum of all voting powers.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.validators.iter().map(|v| v.power).sum()
    }

    /// Checks that more than two thirds of the power have signed `bytes`.
    ///
    /// # Errors
    /// [`CertificateError`] names the first check that failed.
    pub fn check_quorum(&self, bytes: &[u8], signatures: &[CommitSignature]) -> Result<(), CertificateError> {
        let mut seen = BTreeSet::new();
        let mut signed = 0_u64;
        for CommitSignature { validator, signature } in signatures {
            let member = self
                .get(validator)
                .ok_or(CertificateError::UnknownValidator(*validator))?;
            if !seen.insert(*validator) {
                return Err(CertificateError::Duplicate(*validator));
            }
            if !validator.verifies_bytes(bytes, signature) {
                return Err(CertificateError::Forged(*validator));
            }
            signed = signed.saturating_add(member.power);
        }
        let total = self.total_power();
        if u128::from(signed) * 3 > u128::from(total) * 2 {
            Ok(())
        } else {
            Err(CertificateError::Power { signed, total })
        }
    }

    /// The hash by which headers name the set.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Validators, self)
    }
}

/// Step of a round in which a vote is cast.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum VoteKind {
    /// First step.
    Prevote = 1,
    /// Second step; certificates consist of these.
    Precommit = 2,
}

#[derive(BorshSerialize)]
struct VoteBody {
    kind: VoteKind,
    height: Height,
    round: u32,
    block: Option<Hash>,
}

/// The bytes that a validator signs for a vote. `None` is a vote for no block.
#[must_use]
pub fn vote_bytes(chain: Hash, kind: VoteKind, height: Height, round: u32, block: Option<Hash>) -> Vec<u8> {
    signing_bytes(
        Purpose::Vote,
        chain,
        &VoteBody {
            kind,
            height,
            round,
            block,
        },
    )
}

/// The bytes that a proposer signs: the block that it proposes at a height and round, and the round in which two thirds
/// prevoted for that block before, if any.
#[must_use]
pub fn proposal_bytes(chain: Hash, height: Height, round: u32, block: Hash, valid_round: Option<u32>) -> Vec<u8> {
    signing_bytes(Purpose::Proposal, chain, &(height, round, block, valid_round))
}

/// One validator's signature: its precommit in a certificate, its approval of a decree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitSignature {
    /// The validator's key.
    pub validator: PublicKey,
    /// Its signature; in a certificate over [`vote_bytes`] of a precommit for the block.
    pub signature: Signature,
}

/// Proof that more than two thirds of a validator set's power committed a block.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Certificate {
    /// Height of the block.
    pub height: Height,
    /// Round in which it was decided.
    pub round: u32,
    /// Id of the block.
    pub block: Hash,
    /// Precommits, at most one for each validator.
    pub signatures: Vec<CommitSignature>,
}

/// Why signatures of validators prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A signature is by a key outside the set.
    #[error("a signature is of {0}, which is no validator of the set")]
    UnknownValidator(PublicKey),
    /// A validator stands in it twice.
    #[error("two signatures are of {0}")]
    Duplicate(PublicKey),
    /// A signature does not verify.
    #[error("a signature of {0} is forged")]
    Forged(PublicKey),
    /// Two thirds or less of the power signed.
    #[error("{signed} of {total} voting power have signed, more than two thirds are needed")]
    Power {
        /// Power that signed.
        signed: u64,
        /// Power of the set.
        total: u64,
    },
}

impl Certificate {
    /// Verifies the certificate against the set in force at its height.
    ///
    /// # Errors
    /// [`CertificateError`] names the first check that failed.
    pub fn verify(&self, chain: Hash, set: &ValidatorSet) -> Result<(), CertificateError> {
        let bytes = vote_bytes(chain, VoteKind::Precommit, self.height, self.round, Some(self.block));
        set.check_quorum(&bytes, &self.signatures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    const CHAIN: Hash = Hash::from_bytes([7; 32]);

    fn keys(count: u8) -> Vec<SigningKey> {
        (1..=count).map(|seed| SigningKey::from_seed(&[seed; 32])).collect()
    }

    fn set(keys: &[SigningKey]) -> ValidatorSet {
        ValidatorSet::new(
            keys.iter()
                .map(|k| Validator {
                    key: k.public(),
                    link: k.public(),
                    power: 1,
                })
                .collect(),
        )
        .unwrap()
    }

    fn certificate(keys: &[SigningKey]) -> Certificate {
        let block = Hash::from_bytes([3; 32]);
        let bytes = vote_bytes(CHAIN, VoteKind::Precommit, 5, 0, Some(block));
        let sign = |key: &SigningKey| CommitSignature {
            validator: key.public(),
            signature: key.sign_bytes(&bytes),
        };
        Certificate {
            height: 5,
            round: 0,
            block,
            signatures: keys.iter().map(sign).collect(),
        }
    }

    #[test]
    fn more_than_two_thirds_are_enough_and_two_thirds_are_not() {
        let keys = keys(6);
        assert_eq!(certificate(&keys[..5]).verify(CHAIN, &set(&keys)), Ok(()));
        assert_eq!(
            certificate(&keys[..4]).verify(CHAIN, &set(&keys)),
            Err(CertificateError::Power { signed: 4, total: 6 })
        );
    }

    #[test]
    fn a_certificate_is_refused_by_name_of_the_check() {
        let keys = keys(4);
        let set = set(&keys[..3]);
        let good = certificate(&keys[..3]);
        assert_eq!(
            certificate(&keys).verify(CHAIN, &set),
            Err(CertificateError::UnknownValidator(keys[3].public()))
        );
        let mut twice = good.clone();
        twice.signatures[1] = twice.signatures[0];
        assert_eq!(
            twice.verify(CHAIN, &set),
            Err(CertificateError::Duplicate(keys[0].public()))
        );
        let forged = Certificate {
            round: 1,
            ..good.clone()
        };
        assert_eq!(
            forged.verify(CHAIN, &set),
            Err(CertificateError::Forged(keys[0].public()))
        );
        assert_eq!(
            good.verify(Hash::ZERO, &set),
            Err(CertificateError::Forged(keys[0].public()))
        );
    }

    #[test]
    fn sets_with_twins_no_power_or_no_member_are_refused() {
        let v = |seed: u8, power| Validator {
            key: SigningKey::from_seed(&[seed; 32]).public(),
            link: SigningKey::from_seed(&[seed; 32]).public(),
            power,
        };
        assert_eq!(ValidatorSet::new(vec![]), Err(ValidatorSetError::Size));
        assert_eq!(ValidatorSet::new(vec![v(1, 1), v(1, 2)]), Err(ValidatorSetError::Order));
        assert_eq!(ValidatorSet::new(vec![v(1, 0)]), Err(ValidatorSetError::Power));
        assert_eq!(
            ValidatorSet::new(vec![v(1, u64::MAX), v(2, 2)]),
            Err(ValidatorSetError::Power)
        );
    }
}
