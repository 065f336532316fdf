//! The charter: who validates the chain, and by which rules.

use std::ops::RangeInclusive;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    consensus::{ValidatorSet, ValidatorSetError},
    decree::{Change, Decree, MAX_CHANGES},
    key::PublicKey,
    record::{Id, Kind},
    unit::{Height, Tokens},
};

/// What stands once on a chain, from its genesis on. Only decrees and the upgrades that they schedule change it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Charter {
    /// The validators of the next block.
    pub validators: ValidatorSet,
    /// Version of the state machine's rules for the next block.
    pub protocol: u32,
    /// A later version that is to come.
    pub upgrade: Option<Upgrade>,
    /// Longest time between two attestations of a node that counts as active, in milliseconds.
    pub attest_ms: u64,
    /// What is deposited for a name that is claimed from now on.
    pub name_deposit: Tokens,
}

/// Bounds of [`Charter::attest_ms`]: ten seconds and a week.
pub const ATTEST_MS: RangeInclusive<u64> = 10_000..=604_800_000;

/// Another version of the rules, and when it begins to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Upgrade {
    /// The version.
    pub protocol: u32,
    /// First block that is made by it.
    pub from: Height,
}

/// Why a decree does not fit the charter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// It changes nothing, or too much at once.
    #[error("a decree makes 1 to {MAX_CHANGES} changes")]
    Changes,
    /// A validator is to go that is not there.
    #[error("{0} is no validator")]
    NoValidator(PublicKey),
    /// What is left is no set of validators.
    #[error(transparent)]
    Set(#[from] ValidatorSetError),
    /// The version is not a later one.
    #[error("protocol {given} is not later than {now}, which holds")]
    Version {
        /// What is to hold.
        given: u32,
        /// What holds.
        now: u32,
    },
    /// The time between attestations is out of bounds.
    #[error("nodes attest every {0} ms, it must be {min} to {max}", min = ATTEST_MS.start(), max = ATTEST_MS.end())]
    Attest(u64),
    /// It is to hold for a block that is made already.
    #[error("an upgrade begins after block {height}, not at {from}")]
    Past {
        /// When it is to begin.
        from: Height,
        /// The block that the decree stands in.
        height: Height,
    },
}

impl Charter {
    /// The id under which the one charter stands.
    pub const ID: Id = Id::CHAIN;

    /// The id by which a validator is the author of transactions.
    #[must_use]
    pub fn author_of(validator: &PublicKey) -> Id {
        Id::found(Kind::Charter, validator)
    }

    /// The key of the validator that is this author.
    #[must_use]
    pub fn key_of(&self, author: Id) -> Option<PublicKey> {
        let keys = self.validators.validators().iter().map(|validator| validator.key);
        keys.into_iter().find(|key| Self::author_of(key) == author)
    }

    /// The charter that a decree in block `height` makes of this one.
    ///
    /// # Errors
    /// [`CharterError`] when a change does not fit.
    pub fn amended(&self, decree: &Decree, height: Height) -> Result<Self, CharterError> {
        if decree.changes.is_empty() || decree.changes.len() > MAX_CHANGES {
            return Err(CharterError::Changes);
        }
        let mut validators = self.validators.validators().to_vec();
        let (mut upgrade, mut attest_ms, mut name_deposit) = (self.upgrade, self.attest_ms, self.name_deposit);
        for change in &decree.changes {
            match change {
                Change::PutValidator(put) => {
                    validators.retain(|validator| validator.key != put.key);
                    validators.push(put.clone());
                }
                Change::RemoveValidator(key) => {
                    let before = validators.len();
                    validators.retain(|validator| validator.key != *key);
                    if validators.len() == before {
                        return Err(CharterError::NoValidator(*key));
                    }
                }
                Change::ScheduleUpgrade(next) if next.protocol <= self.protocol => {
                    let (given, now) = (next.protocol, self.protocol);
                    return Err(CharterError::Version { given, now });
                }
                Change::ScheduleUpgrade(next) if next.from <= height => {
                    let from = next.from;
                    return Err(CharterError::Past { from, height });
                }
                Change::ScheduleUpgrade(next) => upgrade = Some(*next),
                Change::CancelUpgrade => upgrade = None,
                Change::AttestEvery(millis) if !ATTEST_MS.contains(millis) => {
                    return Err(CharterError::Attest(*millis));
                }
                Change::AttestEvery(millis) => attest_ms = *millis,
                Change::NameDeposit(deposit) => name_deposit = *deposit,
            }
        }
        Ok(Self {
            validators: ValidatorSet::new(validators)?,
            protocol: self.protocol,
            upgrade,
            attest_ms,
            name_deposit,
        })
    }

    /// The charter that block `height` is made by, if it is another one than this, because an upgrade begins.
    #[must_use]
    pub fn upgraded(&self, height: Height) -> Option<Self> {
        let begun = self.upgrade.filter(|upgrade| upgrade.from <= height)?;
        Some(Self {
            validators: self.validators.clone(),
            protocol: begun.protocol,
            upgrade: None,
            attest_ms: self.attest_ms,
            name_deposit: self.name_deposit,
        })
    }
}
