//! A deployment: what a customer runs, where it last stood, and what is to be done about it.

mod meter;
mod store;
mod watch;

pub use meter::Meter;
pub use store::{Deployments, StoreError};
pub use watch::{LEAVE_DISPUTES, LEAVE_MS, LEAVE_UNANSWERED, Next, Seen, decide};

use std::collections::BTreeMap;

use ledger::{Agreement, Hash, Id, Timestamp, Tokens};
use serde::{Deserialize, Serialize};

use crate::app::Plan;

/// Most earlier contracts that are remembered.
pub const MAX_PAST: usize = 64;
/// How long a node that failed is avoided, in milliseconds.
pub const AVOID_MS: u64 = 120_000;
/// How long a node is avoided that answered nothing, in milliseconds.
pub const AVOID_UNANSWERED_MS: u64 = 3_600_000;
/// How long a farmer is avoided whose nodes' reports were disputed, in milliseconds.
pub const AVOID_FARMER_MS: u64 = 86_400_000;
/// Most nodes and farmers that are remembered as failed; those whose time is over first are forgotten first.
pub const MAX_AVOIDED: usize = 1_024;

/// What a customer runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// What is looked for.
    pub plan: Plan,
    /// The workload, sealed to the customer itself, in hexadecimal digits.
    pub sealed: String,
    /// The contract that runs it or is to run it.
    pub placement: Option<Placement>,
    /// Contracts before, oldest first; at most [`MAX_PAST`].
    pub past: Vec<Id>,
    /// Periods that contracts before have settled.
    pub settled_before: u32,
    /// What contracts before have cost.
    pub paid_before: Tokens,
    /// What of that no farmer has: periods that were disputed or not confirmed.
    #[serde(default)]
    pub withheld_before: Tokens,
    /// Nodes and farmers that failed, and until when they are avoided, in the chain's time. Afterwards they are asked last.
    pub avoid: BTreeMap<Id, Timestamp>,
    /// What it is to become, while it is not known whether the chain took that.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Why it is over, once it is.
    pub ended: Option<String>,
}

/// What a deployment is to become once its contract was amended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// The contract.
    pub contract: Id,
    /// Hash of the agreement that is to be in force.
    pub agreement: Hash,
    /// Time after which the amendment can no longer be put on the chain.
    pub valid_until: Timestamp,
    /// What is looked for from then on.
    pub plan: Plan,
    /// The workload from then on, as [`Deployment::sealed`].
    pub sealed: String,
}

/// The contract of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// The contract.
    pub contract: Id,
    /// The node.
    pub node: Id,
    /// Time after which the agreement can no longer be put on the chain.
    pub valid_until: Timestamp,
    /// Price of one period.
    pub price: Tokens,
    /// Number of periods.
    pub periods: u32,
    /// Periods that are settled, as last seen.
    pub settled: u32,
    /// The owner of the node's farm.
    #[serde(default)]
    pub farmer: Option<Id>,
    /// Why the node is left before the contract's end, if it is.
    #[serde(default)]
    pub leaving: Option<Leaving>,
}

/// What a contract has cost its customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// What the farmer has.
    pub paid: Tokens,
    /// What neither has.
    pub withheld: Tokens,
}

impl Cost {
    /// Both together.
    #[must_use]
    pub const fn all(self) -> Tokens {
        self.paid.saturating_add(self.withheld)
    }
}

/// A node that is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaving {
    /// Why.
    pub reason: String,
    /// Who is avoided afterwards.
    pub blame: Blame,
}

/// Who is avoided after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The node, for a while.
    Node,
    /// The farmer with all its nodes, for longer.
    Farmer,
}

impl Deployment {
    /// A deployment that has not been placed.
    #[must_use]
    pub fn new(plan: Plan, sealed: String) -> Self {
        Self {
            plan,
            sealed,
            placement: None,
            past: Vec::new(),
            settled_before: 0,
            paid_before: Tokens::ZERO,
            withheld_before: Tokens::ZERO,
            avoid: BTreeMap::new(),
            pending: None,
            ended: None,
        }
    }

    /// Takes note of the agreement that is in force for the placement at `now`: what was to become is, or never will be. Returns
    /// whether it is now.
    pub fn settle_pending(&mut self, in_force: &Agreement, now: Timestamp) -> bool {
        let Some(pending) = self.pending.take() else {
            return false;
        };
        let placement = self.placement.as_mut();
        let Some(placement) = placement.filter(|placement| placement.contract == pending.contract) else {
            return false;
        };
        if in_force.hash() == pending.agreement {
            (placement.price, placement.periods) = (in_force.price, in_force.periods);
            (self.plan, self.sealed) = (pending.plan, pending.sealed);
            return true;
        }
        if now <= pending.valid_until {
            self.pending = Some(pending);
        }
        false
    }

    /// Periods that are still to run.
    #[must_use]
    pub fn periods_left(&self) -> u32 {
        self.plan.periods.saturating_sub(self.settled_before)
    }

    /// How many of the periods left are paid in with an agreement, and again each time when the last of them has begun.
    #[must_use]
    pub fn deposit(&self) -> u32 {
        let left = self.periods_left();
        self.plan.deposit.map_or(left, |deposit| deposit.min(left))
    }

    /// Most that one of the periods left may cost.
    #[must_use]
    pub fn limit(&self) -> Tokens {
        let left = self.plan.budget.checked_sub(self.paid_before).unwrap_or(Tokens::ZERO);
        left.portion(1, u64::from(self.periods_left()))
    }

    /// Takes note that the placement is over and what it has cost; the node is avoided for a while from `now` on.
    pub fn displace(&mut self, cost: Cost, now: Timestamp) {
        if let Some(placement) = self.placement.take() {
            self.settled_before = self.settled_before.saturating_add(placement.settled);
            self.paid_before = self.paid_before.saturating_add(cost.all());
            self.withheld_before = self.withheld_before.saturating_add(cost.withheld);
            let (who, for_ms) = match (placement.leaving.map(|leaving| leaving.blame), placement.farmer) {
                (None, _) => (placement.node, AVOID_MS),
                (Some(Blame::Farmer), Some(farmer)) => (farmer, AVOID_FARMER_MS),
                (Some(Blame::Farmer), None) => (placement.node, AVOID_FARMER_MS),
                (Some(Blame::Node), _) => (placement.node, AVOID_UNANSWERED_MS),
            };
            self.shun(who, now, for_ms);
            self.past.push(placement.contract);
            if self.past.len() > MAX_PAST {
                self.past.remove(0);
            }
        }
    }

    /// Avoids a node or a farmer for `for_ms` milliseconds from `now` on.
    pub fn shun(&mut self, who: Id, now: Timestamp, for_ms: u64) {
        self.avoid.insert(who, now.plus(for_ms));
        while self.avoid.len() > MAX_AVOIDED {
            let next = self.avoid.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            let Some(next) = next else { return };
            self.avoid.remove(&next);
        }
    }

    /// Nodes and farmers that are avoided now.
    #[must_use]
    pub fn avoided(&self, now: Timestamp) -> std::collections::BTreeSet<Id> {
        let avoided = self.avoid.iter().filter(|(_, until)| **until > now);
        avoided.map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ledger::{Hash, Resources};

    pub(crate) fn id(seed: u8) -> Id {
        Id::from_hash(Hash::from_bytes([seed; 32]))
    }

    pub(crate) fn deployment() -> Deployment {
        let plan = Plan {
            name: "web".into(),
            image: "nginx".parse().unwrap(),
            resources: Resources::ZERO,
            periods: 10,
            deposit: None,
            budget: Tokens::from_micro(1_000),
            country: None,
            redeploy: true,
            volumes: 0,
        };
        Deployment::new(plan, data_encoding::HEXLOWER.encode(b"sealed"))
    }

    pub(crate) fn placement() -> Placement {
        Placement {
            contract: id(1),
            node: id(2),
            valid_until: Timestamp::from_millis(5_000),
            price: Tokens::from_micro(100),
            periods: 10,
            settled: 4,
            farmer: Some(id(8)),
            leaving: None,
        }
    }

    #[test]
    fn what_is_left_after_a_failure_is_less_by_what_was_had_and_paid() {
        let now = Timestamp::from_millis(1_000);
        let mut deployment = deployment();
        assert_eq!((deployment.periods_left(), deployment.limit().micro()), (10, 100));
        deployment.placement = Some(placement());
        let cost = Cost {
            paid: Tokens::from_micro(300),
            withheld: Tokens::from_micro(40),
        };
        deployment.displace(cost, now);
        assert_eq!(deployment.withheld_before, cost.withheld);
        assert_eq!((deployment.periods_left(), deployment.limit().micro()), (6, 110));
        assert_eq!(deployment.past, [id(1)]);
        assert!(deployment.avoided(now).contains(&id(2)));
        assert!(deployment.avoided(now.plus(AVOID_MS)).is_empty());
    }

    #[test]
    fn a_disputed_farmer_is_avoided_for_a_day_and_the_list_has_an_end() {
        let now = Timestamp::from_millis(1_000);
        let mut deployment = deployment();
        deployment.placement = Some(Placement {
            leaving: Some(Leaving {
                reason: "disputed".into(),
                blame: Blame::Farmer,
            }),
            ..placement()
        });
        deployment.displace(Cost::default(), now);
        assert!(deployment.avoided(now.plus(AVOID_FARMER_MS - 1)).contains(&id(8)));
        for seed in 0..1_100_u16 {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&seed.to_be_bytes());
            deployment.shun(Id::from_hash(Hash::from_bytes(bytes)), now, 1_000);
        }
        assert_eq!(deployment.avoid.len(), MAX_AVOIDED);
        assert!(deployment.avoid.contains_key(&id(8)));
    }
}
