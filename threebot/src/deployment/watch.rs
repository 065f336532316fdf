//! What is to be done about a placed deployment.

use ledger::{
    Id, Timestamp,
    body::{Contract, ContractState, Failure},
};

use super::{Blame, Deployment, Placement};

/// A node is left only for what has gone on for at least this long, in milliseconds: short periods are no reason to hurry.
pub const LEAVE_MS: u64 = 900_000;
/// Disputed periods for which a farmer is left, if they are a quarter of all.
pub const LEAVE_DISPUTES: u32 = 3;
/// Periods for which a node may leave every question unanswered before it is left.
pub const LEAVE_UNANSWERED: u64 = 2;

/// What is known of a placement.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The contract's proven latest version and who made it; absent when the chain has none.
    pub contract: Option<(&'a Contract, Id)>,
    /// Time of the proven head.
    pub now: Timestamp,
    /// The customer.
    pub customer: Id,
    /// Period for which a receipt was sent.
    pub receipt_sent: Option<u32>,
    /// For how long the node has answered no question, while the chain was within reach; in milliseconds.
    pub unanswered_ms: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing now.
    Wait,
    /// Say for how long the workload was seen to run in a period that is over.
    Receipt {
        /// Index of the period.
        period: u32,
        /// When it began.
        from: Timestamp,
        /// When it ended.
        to: Timestamp,
    },
    /// Pay in further periods: the last one that is paid in has begun, or the contract is suspended for want of one.
    Fund {
        /// How many are paid in then, with those before.
        funded: u32,
    },
    /// Cancel the contract, and look for another node once that is proven.
    Leave {
        /// Why.
        reason: String,
        /// Who is avoided afterwards.
        blame: Blame,
    },
    /// Look for another node.
    Redeploy {
        /// Why.
        reason: String,
    },
    /// Leave it: it is over.
    Finish {
        /// Why.
        reason: String,
    },
}

/// Decides what is to be done about a placement.
#[must_use]
pub fn decide(deployment: &Deployment, placement: &Placement, seen: Seen<'_>) -> Next {
    let Some((contract, author)) = seen.contract else {
        if seen.now > placement.valid_until {
            return again(deployment, "the agreement never came on the chain");
        }
        return Next::Wait;
    };
    match &contract.state {
        ContractState::Agreed { .. } | ContractState::Deploying { .. } => Next::Wait,
        ContractState::Active { period, receipt, .. } => {
            let due = contract.open_period().filter(|running| running.end <= seen.now);
            if let Some(over) = due
                && receipt.is_none()
                && seen.receipt_sent != Some(*period)
            {
                return Next::Receipt {
                    period: over.index,
                    from: over.began,
                    to: over.end,
                };
            }
            match leave(deployment, placement, contract, *period, seen.unanswered_ms) {
                Next::Wait => fund(deployment, placement, contract, *period),
                left => left,
            }
        }
        ContractState::Suspended { period, .. } => {
            match leave(deployment, placement, contract, *period, seen.unanswered_ms) {
                Next::Wait => fund(deployment, placement, contract, *period),
                left => left,
            }
        }
        ContractState::Cancelled { .. } if author == seen.customer && placement.leaving.is_some() => {
            let reason = placement.leaving.as_ref().map(|leaving| leaving.reason.as_str());
            again(deployment, reason.unwrap_or_default())
        }
        ContractState::Expired { .. } => Next::Finish {
            reason: "all periods are over".into(),
        },
        ContractState::Cancelled { .. } if author == seen.customer => Next::Finish {
            reason: "cancelled".into(),
        },
        ContractState::Cancelled { .. } => again(deployment, "the farmer cancelled the contract"),
        ContractState::Failed { reason, .. } => again(deployment, &failure(reason)),
    }
}

/// Whether more is paid in: when no more than the running period is.
fn fund(deployment: &Deployment, placement: &Placement, contract: &Contract, settled: u32) -> Next {
    let open = contract.signed.agreement.periods.saturating_sub(contract.funded);
    let periods = deployment.deposit().min(open);
    let ahead = contract.funded.saturating_sub(settled);
    if periods == 0 || ahead > 1 || deployment.ended.is_some() || placement.leaving.is_some() {
        return Next::Wait;
    }
    let funded = contract.funded.saturating_add(periods);
    Next::Fund { funded }
}

/// Whether a node is left that runs a workload, or claims to. One that says itself that the workload does not run is not: it is
/// paid nothing, and what is on the volumes is worth waiting for.
fn leave(
    deployment: &Deployment,
    placement: &Placement,
    contract: &Contract,
    settled: u32,
    unanswered_ms: u64,
) -> Next {
    if let Some(leaving) = placement.leaving.clone() {
        let super::Leaving { reason, blame } = leaving;
        return Next::Leave { reason, blame };
    }
    if !deployment.plan.redeploy {
        return Next::Wait;
    }
    let period_ms = contract.signed.agreement.rule.period_ms;
    let disputes = contract.disputes;
    let disputed_ms = period_ms.saturating_mul(u64::from(disputes));
    if disputes >= LEAVE_DISPUTES && disputed_ms >= LEAVE_MS && disputes.saturating_mul(4) >= settled {
        let reason = format!("the node's reports differ from what was seen in {disputes} of {settled} periods");
        return Next::Leave {
            reason,
            blame: Blame::Farmer,
        };
    }
    if unanswered_ms >= LEAVE_MS.max(period_ms.saturating_mul(LEAVE_UNANSWERED)) {
        let reason = format!("the node has answered nothing for {} minutes", unanswered_ms / 60_000);
        return Next::Leave {
            reason,
            blame: Blame::Node,
        };
    }
    Next::Wait
}

fn again(deployment: &Deployment, reason: &str) -> Next {
    let reason = reason.to_owned();
    if deployment.plan.redeploy {
        Next::Redeploy { reason }
    } else {
        Next::Finish { reason }
    }
}

/// A failure in words.
fn failure(failure: &Failure) -> String {
    match failure {
        Failure::NotAcknowledged => "the node did not acknowledge the contract in time".into(),
        Failure::NotDeployed => "the workload did not run in time".into(),
        Failure::NotServed => "the node did not run it for too long".into(),
        Failure::Disputed => "report and receipt disagreed too often".into(),
        Failure::NotPaid => "it was suspended and not paid in time".into(),
        Failure::Refused { reason } => format!("the node refused it: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::tests::{deployment, id, placement};
    use ledger::{
        Agreement, Hash, Resources, Signature, Tokens,
        agreement::SignedAgreement,
        body::{Blob, Claim, SettlementRule},
        text::Text,
    };

    const T: fn(u64) -> Timestamp = Timestamp::from_millis;

    fn contract(state: ContractState) -> Contract {
        let rule = SettlementRule {
            period_ms: 1_000,
            grace_ms: 1_000,
            acknowledge_ms: 1_000,
            deploy_ms: 1_000,
            suspend_ms: 1_000,
            tolerance_permille: 1,
            unconfirmed_permille: 1,
            missed_limit: 1,
            dispute_limit: 1,
        };
        let agreement = Agreement {
            customer: id(9),
            farmer: id(8),
            terms: (id(3), Hash::ZERO),
            node: id(2),
            resources: Resources::ZERO,
            price: Tokens::ZERO,
            periods: 10,
            deposit: 10,
            rule,
            image: (id(4), Hash::ZERO),
            sealed: Blob {
                hash: Hash::ZERO,
                size: 1,
            },
            valid_until: T(5_000),
            salt: [0; 16],
        };
        let none = Signature::from_bytes([0; 64]);
        let signed = SignedAgreement {
            agreement,
            customer: none,
            farmer: none,
        };
        Contract {
            signed,
            replaces: None,
            amendments: 0,
            state,
            funded: 10,
            disputes: 0,
        }
    }

    fn next(state: Option<(ContractState, Id)>, now: u64, receipt_sent: Option<u32>) -> Next {
        let contract = state.map(|(state, author)| (contract(state), author));
        let seen = Seen {
            contract: contract.as_ref().map(|(contract, author)| (contract, *author)),
            now: T(now),
            customer: id(9),
            receipt_sent,
            unanswered_ms: 0,
        };
        decide(&deployment(), &placement(), seen)
    }

    fn active(period: u32, receipt: Option<Claim>) -> Option<(ContractState, Id)> {
        let began = T(10_000 + 1_000 * u64::from(period));
        let state = ContractState::Active {
            began,
            period,
            price: Tokens::ZERO,
            report: None,
            receipt,
            missed: 0,
        };
        Some((state, id(2)))
    }

    #[test]
    fn a_period_that_is_over_gets_one_receipt() {
        assert_eq!(next(active(0, None), 10_999, None), Next::Wait);
        let (from, to) = (T(10_000), T(11_000));
        assert_eq!(
            next(active(0, None), 11_000, None),
            Next::Receipt { period: 0, from, to }
        );
        assert_eq!(next(active(0, None), 11_500, Some(0)), Next::Wait);
        assert_eq!(next(active(0, Some(Claim { up_ms: 1 })), 11_500, None), Next::Wait);
        let (from, to) = (T(11_000), T(12_000));
        assert_eq!(
            next(active(1, None), 12_500, Some(0)),
            Next::Receipt { period: 1, from, to }
        );
    }

    #[test]
    fn what_the_other_side_ended_is_deployed_again_and_what_the_customer_ended_is_not() {
        let at = T(1);
        let cancelled = |author| next(Some((ContractState::Cancelled { at }, author)), 2, None);
        assert!(matches!(cancelled(id(9)), Next::Finish { .. }));
        assert!(matches!(cancelled(id(8)), Next::Redeploy { .. }));
        let reason = Failure::Refused {
            reason: Text::lossy("no room"),
        };
        let failed = next(Some((ContractState::Failed { at, reason }, Id::CHAIN)), 2, None);
        assert_eq!(
            failed,
            Next::Redeploy {
                reason: "the node refused it: no room".into()
            }
        );
        assert!(matches!(
            next(Some((ContractState::Expired { at }, Id::CHAIN)), 2, None),
            Next::Finish { .. }
        ));
    }

    #[test]
    fn an_agreement_that_never_came_on_the_chain_is_given_up_when_it_no_longer_can() {
        assert_eq!(next(None, 5_000, None), Next::Wait);
        assert!(matches!(next(None, 5_001, None), Next::Redeploy { .. }));
    }

    #[test]
    fn without_redeploy_a_failure_is_the_end() {
        let mut deployment = deployment();
        deployment.plan.redeploy = false;
        let contract = contract(ContractState::Failed {
            at: T(1),
            reason: Failure::NotServed,
        });
        let seen = Seen {
            contract: Some((&contract, Id::CHAIN)),
            now: T(2),
            customer: id(9),
            receipt_sent: None,
            unanswered_ms: 0,
        };
        assert!(matches!(decide(&deployment, &placement(), seen), Next::Finish { .. }));
    }

    /// What is done in a running period of `period_ms`, after `settled` periods of which some were disputed.
    fn running(period_ms: u64, settled: u32, disputes: u32, unanswered_ms: u64, placement: &Placement) -> Next {
        let (state, author) = active(settled, Some(Claim { up_ms: 0 })).unwrap();
        let mut contract = contract(state);
        contract.signed.agreement.rule.period_ms = period_ms;
        contract.disputes = disputes;
        let seen = Seen {
            contract: Some((&contract, author)),
            now: T(10_000),
            customer: id(9),
            receipt_sent: None,
            unanswered_ms,
        };
        decide(&deployment(), placement, seen)
    }

    #[test]
    fn a_farmer_whose_reports_are_disputed_is_left_and_avoided() {
        const HOUR: u64 = 3_600_000;
        let next = |period_ms, settled, disputes| running(period_ms, settled, disputes, 0, &placement());
        assert!(matches!(
            next(HOUR, 3, 3),
            Next::Leave {
                blame: Blame::Farmer,
                ..
            }
        ));
        assert_eq!(next(HOUR, 3, 2), Next::Wait);
        assert!(matches!(next(HOUR, 12, 3), Next::Leave { .. }));
        assert_eq!(next(HOUR, 13, 3), Next::Wait);
        // Ten seconds each: what is at stake is little, and a look that comes late is much of a period.
        assert_eq!(next(10_000, 89, 89), Next::Wait);
        assert!(matches!(next(10_000, 90, 90), Next::Leave { .. }));
    }

    #[test]
    fn periods_are_paid_in_when_the_last_one_runs_or_the_contract_is_suspended() {
        let mut deployment = deployment();
        let next = |deployment: &Deployment, funded, state: Option<(ContractState, Id)>| {
            let (state, author) = state.unwrap();
            let contract = Contract {
                funded,
                ..contract(state)
            };
            let seen = Seen {
                contract: Some((&contract, author)),
                now: T(10_500),
                customer: id(9),
                receipt_sent: None,
                unanswered_ms: 0,
            };
            decide(deployment, &placement(), seen)
        };
        let suspended = || {
            let (since, until, period) = (T(1), T(2), 3);
            let missed = 0;
            let state = ContractState::Suspended {
                since,
                until,
                period,
                missed,
            };
            Some((state, Id::CHAIN))
        };
        assert_eq!(next(&deployment, 10, active(9, None)), Next::Wait, "all is paid in");
        deployment.plan.deposit = Some(2);
        assert_eq!(next(&deployment, 5, active(3, None)), Next::Wait);
        assert_eq!(next(&deployment, 5, active(4, None)), Next::Fund { funded: 7 });
        assert_eq!(next(&deployment, 9, active(8, None)), Next::Fund { funded: 10 });
        assert_eq!(next(&deployment, 3, suspended()), Next::Fund { funded: 5 });
        deployment.ended = Some("cancelled".into());
        assert_eq!(next(&deployment, 3, suspended()), Next::Wait);
    }

    #[test]
    fn without_redeploy_nothing_is_left() {
        let mut deployment = deployment();
        deployment.plan.redeploy = false;
        let (state, author) = active(3, Some(Claim { up_ms: 0 })).unwrap();
        let mut contract = contract(state);
        contract.signed.agreement.rule.period_ms = LEAVE_MS;
        contract.disputes = 3;
        let seen = Seen {
            contract: Some((&contract, author)),
            now: T(10_000),
            customer: id(9),
            receipt_sent: None,
            unanswered_ms: u64::MAX,
        };
        assert_eq!(decide(&deployment, &placement(), seen), Next::Wait);
    }

    #[test]
    fn a_node_that_answers_nothing_is_left() {
        const HOUR: u64 = 3_600_000;
        let next = |period_ms, unanswered_ms| running(period_ms, 1, 0, unanswered_ms, &placement());
        assert_eq!(next(HOUR, 2 * HOUR - 1), Next::Wait);
        assert!(matches!(next(HOUR, 2 * HOUR), Next::Leave { blame: Blame::Node, .. }));
        assert_eq!(next(10_000, LEAVE_MS - 1), Next::Wait);
        assert!(matches!(next(10_000, LEAVE_MS), Next::Leave { .. }));
    }

    #[test]
    fn what_is_left_is_cancelled_until_that_is_proven_and_then_placed_anew() {
        let mut placement = placement();
        placement.leaving = Some(super::super::Leaving {
            reason: "disputed".into(),
            blame: Blame::Farmer,
        });
        let again = running(10_000, 1, 0, 0, &placement);
        assert!(
            matches!(
                again,
                Next::Leave {
                    blame: Blame::Farmer,
                    ..
                }
            ),
            "{again:?}"
        );
        let contract = contract(ContractState::Cancelled { at: T(1) });
        let seen = Seen {
            contract: Some((&contract, id(9))),
            now: T(2),
            customer: id(9),
            receipt_sent: None,
            unanswered_ms: 0,
        };
        let reason = "disputed".to_owned();
        assert_eq!(decide(&deployment(), &placement, seen), Next::Redeploy { reason });
    }
}
