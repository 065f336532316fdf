//! Units: money, time, height, resources. Integers only.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Money in micro-tokens: 1,000,000 are one token.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Tokens(u64);

impl Tokens {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The most that is representable.
    pub const MAX: Self = Self(u64::MAX);
    /// Micro-tokens in one token.
    pub const PER_TOKEN: u64 = 1_000_000;

    /// An amount in micro-tokens.
    #[must_use]
    pub const fn from_micro(micro: u64) -> Self {
        Self(micro)
    }

    /// The amount in micro-tokens.
    #[must_use]
    pub const fn micro(self) -> u64 {
        self.0
    }

    /// The sum, or `None` where it is no longer representable.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The sum, or [`Self::MAX`] where it is no longer representable.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product with a count, or `None` where it is no longer representable.
    #[must_use]
    pub fn checked_mul(self, count: u32) -> Option<Self> {
        self.0.checked_mul(u64::from(count)).map(Self)
    }

    /// The part `numerator / denominator` of the amount, at most the amount, rounded down. A zero denominator gives nothing.
    #[must_use]
    pub fn portion(self, numerator: u64, denominator: u64) -> Self {
        let numerator = numerator.min(denominator);
        let part = (u128::from(self.0) * u128::from(numerator))
            .checked_div(u128::from(denominator))
            .unwrap_or(0);
        Self(u64::try_from(part).unwrap_or(self.0))
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / Self::PER_TOKEN, self.0 % Self::PER_TOKEN)
    }
}

/// A block's height; the genesis is 0, the first block 1.
pub type Height = u64;

/// Block time in milliseconds since 1970-01-01 00:00 UTC. Strictly rising from block to block.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time in milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The time `millis` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`, or 0 if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An amount of capacity. The units are those that farmers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Resources {
    /// Processor threads.
    pub cru: u64,
    /// Memory in bytes.
    pub mru: u64,
    /// Solid-state storage in bytes.
    pub sru: u64,
    /// Rotating storage in bytes.
    pub hru: u64,
}

impl Resources {
    /// Nothing.
    pub const ZERO: Self = Self {
        cru: 0,
        mru: 0,
        sru: 0,
        hru: 0,
    };

    fn zip(self, other: Self, each: impl Fn(u64, u64) -> Option<u64>) -> Option<Self> {
        Some(Self {
            cru: each(self.cru, other.cru)?,
            mru: each(self.mru, other.mru)?,
            sru: each(self.sru, other.sru)?,
            hru: each(self.hru, other.hru)?,
        })
    }

    /// The sum, or `None` where it is no longer representable.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.zip(other, u64::checked_add)
    }

    /// The difference, or `None` where `other` is not contained.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.zip(other, u64::checked_sub)
    }

    /// The difference, zero where `other` is larger.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        self.zip(other, |a, b| Some(a.saturating_sub(b))).unwrap_or(Self::ZERO)
    }

    /// Whether all of `other` fits in.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.checked_sub(other).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_rounded_down_and_never_more_than_the_whole() {
        let amount = Tokens::from_micro(10);
        assert_eq!(amount.portion(1, 3), Tokens::from_micro(3));
        assert_eq!(amount.portion(7, 3), amount);
        assert_eq!(amount.portion(1, 0), Tokens::ZERO);
        assert_eq!(
            Tokens::from_micro(u64::MAX).portion(u64::MAX, u64::MAX),
            Tokens::from_micro(u64::MAX)
        );
    }

    #[test]
    fn tokens_print_with_six_decimals() {
        assert_eq!(Tokens::from_micro(1_050_000).to_string(), "1.050000");
    }

    #[test]
    fn resources_fit_only_when_every_unit_does() {
        let has = Resources {
            cru: 2,
            mru: 10,
            sru: 10,
            hru: 0,
        };
        assert!(has.contains(Resources {
            cru: 2,
            mru: 1,
            sru: 0,
            hru: 0
        }));
        assert!(!has.contains(Resources {
            cru: 1,
            mru: 1,
            sru: 0,
            hru: 1
        }));
    }
}
