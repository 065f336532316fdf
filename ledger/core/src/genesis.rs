//! The genesis: the one thing that every member of a chain starts from.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{ATTEST_MS, Entity},
    consensus::{ValidatorSet, ValidatorSetError},
    hash::{Domain, Hash},
    text::Text,
    unit::{Height, Timestamp, Tokens},
};

/// Most entities that exist from the start.
pub const MAX_ENTITIES: usize = 256;

/// What a chain starts from. Its hash is the chain's id and part of everything signed on it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Genesis {
    /// A name for people.
    pub name: Text<64>,
    /// Time before the first block.
    pub time: Timestamp,
    /// Wanted time between two blocks in milliseconds, 100 to 60,000.
    pub block_interval_ms: u32,
    /// Longest time between two attestations of a node that counts as active, in milliseconds, 10,000 to 604,800,000.
    pub attest_ms: u64,
    /// What is deposited for a name.
    pub name_deposit: Tokens,
    /// The first validators.
    pub validators: ValidatorSet,
    /// Entities that exist from the start, with what they own: the whole supply.
    pub entities: Vec<GenesisEntity>,
    /// How more tokens come to be.
    pub issuance: Issuance,
}

/// An entity that exists from the start.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GenesisEntity {
    /// Its first record.
    pub entity: Entity,
    /// What it owns.
    pub balance: Tokens,
}

/// How more tokens come to be after the genesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Issuance {
    /// Never.
    Fixed,
    /// The same amount with each block, up to and including a height.
    Scheduled {
        /// Index in [`Genesis::entities`] of who receives it.
        beneficiary: u32,
        /// Amount with each block.
        per_block: Tokens,
        /// Last height at which it is issued.
        until: Height,
    },
}

/// Why a genesis starts no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The validators form no set.
    #[error("genesis: validators")]
    Validators(#[source] ValidatorSetError),
    /// The interval is out of bounds.
    #[error("genesis: block_interval_ms is {0}, it must be 100 to 60000")]
    Interval(u32),
    /// The time between attestations is out of bounds.
    #[error("genesis: attest_ms is {0}, it must be {min} to {max}", min = ATTEST_MS.start(), max = ATTEST_MS.end())]
    Attest(u64),
    /// Too many entities, or two with the same keys.
    #[error("genesis: at most {MAX_ENTITIES} entities with distinct keys")]
    Entities,
    /// The supply, now or after all issuance, is not representable.
    #[error("genesis: the supply does not fit in 2^63 micro-tokens")]
    Supply,
    /// The beneficiary of the issuance does not exist.
    #[error("genesis: issuance names entity {0}, which does not exist")]
    Beneficiary(u32),
}

impl Genesis {
    /// The chain's id.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Genesis, self)
    }

    /// Checks the rules of a genesis.
    ///
    /// # Errors
    /// [`GenesisError`] names the first rule that is broken.
    pub fn check(&self) -> Result<(), GenesisError> {
        self.validators.check().map_err(GenesisError::Validators)?;
        if !(100..=60_000).contains(&self.block_interval_ms) {
            return Err(GenesisError::Interval(self.block_interval_ms));
        }
        if !ATTEST_MS.contains(&self.attest_ms) {
            return Err(GenesisError::Attest(self.attest_ms));
        }
        let ids: std::collections::BTreeSet<_> = self.entities.iter().map(|e| e.entity.founding_id()).collect();
        if ids.len() != self.entities.len() || ids.len() > MAX_ENTITIES {
            return Err(GenesisError::Entities);
        }
        let mut supply = self
            .entities
            .iter()
            .map(|e| u128::from(e.balance.micro()))
            .sum::<u128>();
        if let Issuance::Scheduled {
            beneficiary,
            per_block,
            until,
        } = self.issuance
        {
            let known = usize::try_from(beneficiary).is_ok_and(|index| index < self.entities.len());
            if !known {
                return Err(GenesisError::Beneficiary(beneficiary));
            }
            supply += u128::from(per_block.micro()) * u128::from(until);
        }
        if supply < 1 << 63 {
            Ok(())
        } else {
            Err(GenesisError::Supply)
        }
    }
}
