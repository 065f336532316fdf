use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    agreement::SignedAgreement,
    text::Text,
    unit::{Timestamp, Tokens},
};

/// What two parties agreed, and how far it is. Its id is the hash of the agreement, so one agreement is one contract.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Contract {
    /// What was agreed, with both signatures.
    pub signed: SignedAgreement,
    /// How far it is.
    pub state: ContractState,
    /// Periods that were settled by the rule because report and receipt disagreed.
    pub disputes: u32,
}

/// How far a contract is.
///
/// ```text
///            acknowledged             runs                       last period settled
/// Agreed ───────────────► Deploying ──────► Active ───────────────────────────────► Expired
///    │ late or refused        │ late or failed │ reports missing                ┌──► Failed
///    └────────────────────────┴────────────────┴────────────────────────────────┘
///    any of the first three, by the customer or the farmer ─────────────────────────► Cancelled
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
        /// When the first period began.
        since: Timestamp,
        /// Index of the period that is settled next.
        period: u32,
        /// The node's report of that period.
        report: Option<Claim>,
        /// The customer's receipt of that period.
        receipt: Option<Claim>,
        /// Periods in a row that had no report.
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
    /// The node stopped reporting.
    NodeSilent,
    /// The node refused it, with its reason.
    Refused {
        /// The node's words.
        reason: Text<160>,
    },
}

/// What a settlement decided for one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// What the farmer is paid.
    pub pay: Tokens,
    /// Whether report and receipt disagreed.
    pub disputed: bool,
}

impl Contract {
    /// The next time at which a rule changes the contract by itself, or `None` once it has ended.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self.state {
            ContractState::Agreed { acknowledge_by } => Some(acknowledge_by),
            ContractState::Deploying { run_by } => Some(run_by),
            ContractState::Active { since, period, .. } => {
                Some(self.period_end(since, period).plus(self.signed.agreement.rule.grace_ms))
            }
            ContractState::Expired { .. } | ContractState::Cancelled { .. } | ContractState::Failed { .. } => None,
        }
    }

    /// When a period ends.
    #[must_use]
    pub fn period_end(&self, since: Timestamp, period: u32) -> Timestamp {
        let periods = u64::from(period).saturating_add(1);
        since.plus(self.signed.agreement.rule.period_ms.saturating_mul(periods))
    }

    /// When the workload is to stop, once it has begun to run: the end of the last period.
    #[must_use]
    pub fn runs_until(&self) -> Option<Timestamp> {
        match self.state {
            ContractState::Active { since, .. } => {
                Some(self.period_end(since, self.signed.agreement.periods.saturating_sub(1)))
            }
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
            ContractState::Agreed { .. } | ContractState::Deploying { .. } | ContractState::Active { .. } => None,
        }
    }

    /// One word for the state.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            ContractState::Agreed { .. } => "agreed",
            ContractState::Deploying { .. } => "deploying",
            ContractState::Active { .. } => "active",
            ContractState::Expired { .. } => "expired",
            ContractState::Cancelled { .. } => "cancelled",
            ContractState::Failed { .. } => "failed",
        }
    }
}
