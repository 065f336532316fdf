use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    record::{Id, Kind},
    unit::{Resources, Tokens},
};

/// What a farm offers. Its id is founded by the farm and the first version's content.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Terms {
    /// The farm whose nodes are offered.
    pub farm: Id,
    /// The asking prices, from which bots negotiate.
    pub prices: Prices,
    /// Fewest and most periods of an agreement.
    pub periods: (u32, u32),
    /// How each period is settled.
    pub rule: SettlementRule,
    /// Whether agreements may be made under them.
    pub open: bool,
}

impl Terms {
    /// The id that these terms have when this is their first version.
    #[must_use]
    pub fn founding_id(&self) -> Id {
        Id::found(Kind::Terms, self)
    }

    /// Checks the bounds of every field.
    ///
    /// # Errors
    /// [`TermsError`] names the first field that is out of bounds.
    pub fn check(&self) -> Result<(), TermsError> {
        if self.periods.0 == 0 || self.periods.0 > self.periods.1 || self.periods.1 > MAX_PERIODS {
            return Err(TermsError::Periods);
        }
        self.rule.check()
    }
}

/// Most periods of an agreement.
pub const MAX_PERIODS: u32 = 1_000_000;

/// Asking prices for an hour, in micro-tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Prices {
    /// A processor thread for an hour.
    pub cru_hour: Tokens,
    /// A GiB of memory for an hour.
    pub mru_gib_hour: Tokens,
    /// A GiB of solid-state storage for an hour.
    pub sru_gib_hour: Tokens,
    /// A GiB of rotating storage for an hour.
    pub hru_gib_hour: Tokens,
}

impl Prices {
    /// The price of `resources` for `millis` milliseconds, rounded up; `None` where it is not representable.
    #[must_use]
    pub fn of(&self, resources: &Resources, millis: u64) -> Option<Tokens> {
        const GIB: u128 = 1 << 30;
        const HOUR: u128 = 3_600_000;
        let part = |amount: u64, unit: u128, price: Tokens| {
            (u128::from(amount) * u128::from(price.micro()))
                .checked_mul(u128::from(millis))
                .map(|p| (p, unit * HOUR))
        };
        let parts = [
            part(resources.cru, 1, self.cru_hour)?,
            part(resources.mru, GIB, self.mru_gib_hour)?,
            part(resources.sru, GIB, self.sru_gib_hour)?,
            part(resources.hru, GIB, self.hru_gib_hour)?,
        ];
        let sum = parts
            .iter()
            .try_fold(0_u128, |sum, (product, unit)| sum.checked_add(product.div_ceil(*unit)))?;
        u64::try_from(sum).ok().map(Tokens::from_micro)
    }
}

/// How a period is settled. Both parties sign it with the agreement, so it also decides where they later differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SettlementRule {
    /// Length of a period in milliseconds.
    pub period_ms: u64,
    /// Time after a period's end in which report and receipt are waited for, in milliseconds.
    pub grace_ms: u64,
    /// Time in which the node must acknowledge an agreement, in milliseconds.
    pub acknowledge_ms: u64,
    /// Time from the acknowledgement in which the workload must run, in milliseconds.
    pub deploy_ms: u64,
    /// Time in which a suspended contract must be paid, in milliseconds.
    pub suspend_ms: u64,
    /// Most by which report and receipt may differ and still agree, in thousandths of a period.
    pub tolerance_permille: u16,
    /// Part of the reported time that the farmer is paid when the customer's receipt is missing, in thousandths.
    pub unconfirmed_permille: u16,
    /// Periods in a row without a report, or with one of no time up, after which the contract fails and the rest of the escrow
    /// returns.
    pub missed_limit: u32,
    /// Periods in which the node claimed more than the customer confirmed, in all, after which the contract fails: the cap on what
    /// either can make the other lose by it.
    pub dispute_limit: u32,
}

/// Terms that cannot be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The number of periods.
    #[error("terms: periods must be from 1 to {MAX_PERIODS}, fewest first")]
    Periods,
    /// A time of the rule.
    #[error("terms: {0} must be from 1 s to 366 days")]
    Time(&'static str),
    /// The grace.
    #[error("terms: grace_ms must be at most period_ms")]
    Grace,
    /// A part of the rule.
    #[error("terms: {0} must be at most 1000")]
    Permille(&'static str),
    /// A limit of periods.
    #[error("terms: {0} must be from 1 to 1000")]
    Limit(&'static str),
}

impl SettlementRule {
    fn check(&self) -> Result<(), TermsError> {
        let times = [
            ("period_ms", self.period_ms),
            ("grace_ms", self.grace_ms),
            ("acknowledge_ms", self.acknowledge_ms),
            ("deploy_ms", self.deploy_ms),
            ("suspend_ms", self.suspend_ms),
        ];
        for (name, millis) in times {
            if !(1_000..=366 * 86_400_000).contains(&millis) {
                return Err(TermsError::Time(name));
            }
        }
        // Later reports would wait for the settlement of periods long over.
        if self.grace_ms > self.period_ms {
            return Err(TermsError::Grace);
        }
        let parts = [
            ("tolerance_permille", self.tolerance_permille),
            ("unconfirmed_permille", self.unconfirmed_permille),
        ];
        for (name, permille) in parts {
            if permille > 1_000 {
                return Err(TermsError::Permille(name));
            }
        }
        let limits = [
            ("missed_limit", self.missed_limit),
            ("dispute_limit", self.dispute_limit),
        ];
        for (name, limit) in limits {
            if !(1..=1_000).contains(&limit) {
                return Err(TermsError::Limit(name));
            }
        }
        Ok(())
    }
}
