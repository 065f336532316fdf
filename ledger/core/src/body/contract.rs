use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    agreement::SignedAgreement,
    hash::Hash,
    query::State,
    text::Text,
    unit::{Timestamp, Tokens},
};

/// What two parties agreed, and how far it is. Its id is the hash of the agreement, so one agreement is one contract.
/// An amendment puts another agreement in its place; the id stays.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Contract {
    /// What was agreed, with both signatures.
    pub signed: SignedAgreement,
    /// Hash of the agreement that this one took the place of, if it was amended; the signatures are those of the amendment.
    pub replaces: Option<Hash>,
    /// How often it was amended.
    pub amendments: u32,
    /// How far it is.
    pub state: ContractState,
    /// Periods that are paid in, the settled ones among them. The escrow holds the price of those that are not settled.
    pub funded: u32,
    /// Periods in which the node claimed more than the customer confirmed.
    pub disputes: u32,
}

/// How far a contract is.
///
/// ```text
///            acknowledged             runs                       last period settled
/// Agreed ───────────────► Deploying ──────► Active ───────────────────────────────► Expired
///    │ late or refused        │ late or failed │  ▲ │ reports missing, too many     ┌──► Failed
///    └────────────────────────┴────────────────┼──┼─┴ disputes ─────────────────────┤
///                         next period not paid │  │ paid                            │ not paid in time
///                                              ▼  │                                 │
///                                           Suspended ──────────────────────────────┘
///    any of the first three and Suspended, by the customer or the farmer ───────────────► Cancelled
/// ```
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ContractState {
    /// Capacity is reserved and the escrow is funded; the node has not answered.
    Agreed {
        /// Time by which the node must acknowledge.
        acknowledge_by: Timestamp,
    },
    /// The node prepares the workload.
    Deploying {
        /// Time by which it must run.
        run_by: Timestamp,
    },
    /// The workload runs.
    Active {
        /// When the period began that is settled next.
        began: Timestamp,
        /// Index of that period.
        period: u32,
        /// Its price, which an amendment in its course can only raise.
        price: Tokens,
        /// The node's report of that period.
        report: Option<Claim>,
        /// The customer's receipt of that period.
        receipt: Option<Claim>,
        /// Periods in a row in which it did not run: without a report, or with one of no time up.
        missed: u32,
    },
    /// The next period is not paid in: the workload is stopped and its data kept.
    Suspended {
        /// Since when.
        since: Timestamp,
        /// Time by which it must be paid.
        until: Timestamp,
        /// Index of the period that begins when it is.
        period: u32,
        /// Periods in a row in which it did not run.
        missed: u32,
    },
    /// All periods are settled.
    Expired {
        /// When it ended.
        at: Timestamp,
    },
    /// One of the parties ended it.
    Cancelled {
        /// When it ended.
        at: Timestamp,
    },
    /// It could not be kept.
    Failed {
        /// When it ended.
        at: Timestamp,
        /// Why.
        reason: Failure,
    },
}

impl ContractState {
    /// Active from `began` on, when a period of this index and price begins.
    #[must_use]
    pub const fn beginning(began: Timestamp, period: u32, price: Tokens) -> Self {
        Self::Active {
            began,
            period,
            price,
            report: None,
            receipt: None,
            missed: 0,
        }
    }
}

/// One period of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// Its index, from 0.
    pub index: u32,
    /// When it began.
    pub began: Timestamp,
    /// When it ends.
    pub end: Timestamp,
}

/// What one party says of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Claim {
    /// Milliseconds of the period during which the workload ran.
    pub up_ms: u64,
}

/// Why a contract failed.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "kebab-case")]
pub enum Failure {
    /// The node did not acknowledge in time.
    NotAcknowledged,
    /// The workload did not run in time.
    NotDeployed,
    /// The node reported nothing, or no time up, for too many periods in a row.
    NotServed,
    /// The node claimed more than the customer confirmed in too many periods.
    Disputed,
    /// It was suspended, and the next period was not paid in time.
    NotPaid,
    /// The node refused it, with its reason.
    Refused {
        /// The node's words.
        reason: Text<160>,
    },
}

impl Contract {
    /// The next time at which a rule changes the contract by itself, or `None` once it has ended.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self.state {
            ContractState::Agreed { acknowledge_by } => Some(acknowledge_by),
            ContractState::Deploying { run_by } => Some(run_by),
            ContractState::Active { .. } => {
                let grace_ms = self.signed.agreement.rule.grace_ms;
                self.open_period().map(|period| period.end.plus(grace_ms))
            }
            ContractState::Suspended { until, .. } => Some(until),
            ContractState::Expired { .. } | ContractState::Cancelled { .. } | ContractState::Failed { .. } => None,
        }
    }

    /// The period that is settled next, which runs or is over; `None` where none has begun.
    #[must_use]
    pub fn open_period(&self) -> Option<Period> {
        let ContractState::Active { began, period, .. } = self.state else {
            return None;
        };
        let end = began.plus(self.signed.agreement.rule.period_ms);
        Some(Period {
            index: period,
            began,
            end,
        })
    }

    /// How many periods are settled; `None` once it has ended.
    #[must_use]
    pub const fn settled(&self) -> Option<u32> {
        match self.state {
            ContractState::Agreed { .. } | ContractState::Deploying { .. } => Some(0),
            ContractState::Active { period, .. } | ContractState::Suspended { period, .. } => Some(period),
            ContractState::Expired { .. } | ContractState::Cancelled { .. } | ContractState::Failed { .. } => None,
        }
    }

    /// What the escrow holds: the price of the periods that are paid in and not settled. `None` where that is not representable.
    #[must_use]
    pub fn held(&self) -> Option<Tokens> {
        let Some(settled) = self.settled() else {
            return Some(Tokens::ZERO);
        };
        let open = self.funded.saturating_sub(settled);
        match self.state {
            ContractState::Active { price, .. } => {
                let later = self.signed.agreement.price_of(open.saturating_sub(1))?;
                price.checked_add(later)
            }
            _ => self.signed.agreement.price_of(open),
        }
    }

    /// When the workload is to stop unless more is paid in: the end of the last period that is, or since it is suspended.
    #[must_use]
    pub fn runs_until(&self) -> Option<Timestamp> {
        match self.state {
            ContractState::Active { began, period, .. } => {
                let left = u64::from(self.funded.saturating_sub(period));
                Some(began.plus(self.signed.agreement.rule.period_ms.saturating_mul(left)))
            }
            ContractState::Suspended { since, .. } => Some(since),
            _ => None,
        }
    }

    /// When it ended, if it has. An ended contract never changes again.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        match self.state {
            ContractState::Expired { at } | ContractState::Cancelled { at } | ContractState::Failed { at, .. } => {
                Some(at)
            }
            ContractState::Agreed { .. }
            | ContractState::Deploying { .. }
            | ContractState::Active { .. }
            | ContractState::Suspended { .. } => None,
        }
    }

    /// One word for the state.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        State::from(&self.state).name()
    }
}
