//! Money of a contract, period by period, by the rule that both parties signed.

use crate::{
    body::{Claim, Contract, ContractState, Escrow, Failure, Loss, SettlementRule},
    hash::Hash,
    machine::{
        Fault, Refusal, Session,
        contracts::{end, live, wrong_state},
    },
    record::Id,
    store::Store,
    unit::{Height, Timestamp, Tokens},
};

/// Decides what one period costs. Claims beyond the period count as the whole period.
///
/// - No report: nothing, for a node that does not report may be down.
/// - Report and receipt within the tolerance: the lower of the two.
/// - Report alone: the agreed part of it.
/// - Both, further apart: the lower, and the agreed part of the difference where the node claims more.
#[must_use]
pub(super) fn decide(rule: &SettlementRule, price: Tokens, report: Option<Claim>, receipt: Option<Claim>) -> Loss {
    let period = rule.period_ms;
    let up = |claim: Claim| claim.up_ms.min(period);
    let permille = |millis: u64, parts: u16| {
        let part = u128::from(millis) * u128::from(parts) / 1_000;
        u64::try_from(part).unwrap_or(millis)
    };
    let (paid_ms, disputed) = match (report.map(up), receipt.map(up)) {
        (None, _) => (0, false),
        (Some(reported), None) => (permille(reported, rule.unconfirmed_permille), false),
        (Some(reported), Some(received)) => {
            let difference = reported.abs_diff(received);
            if difference <= permille(period, rule.tolerance_permille) {
                (reported.min(received), false)
            } else {
                let claimed_more = reported.saturating_sub(received);
                (
                    reported.min(received) + permille(claimed_more, rule.disputed_permille),
                    true,
                )
            }
        }
    };
    Loss {
        pay: price.portion(paid_ms, period),
        disputed,
    }
}

/// Pays the farmer out of the escrow.
fn pay<S: Store + ?Sized>(session: &mut Session<'_, S>, id: Id, amount: Tokens) -> Result<(), Fault> {
    if amount == Tokens::ZERO {
        return Ok(());
    }
    let escrow = session.require::<Escrow>(id)?;
    let held = escrow
        .held
        .checked_sub(amount)
        .expect("no period costs more than was deposited for it");
    let paid = escrow
        .paid
        .checked_add(amount)
        .expect("no more is paid than was deposited");
    session.credit(escrow.farmer, Id::CHAIN, amount)?;
    session.write(id, Id::CHAIN, Escrow { held, paid, ..escrow })
}

/// The running period of an active contract.
struct Running {
    since: Timestamp,
    period: u32,
    report: Option<Claim>,
    receipt: Option<Claim>,
    missed: u32,
}

impl Running {
    fn of(contract: &Contract) -> Option<Self> {
        match contract.state {
            ContractState::Active {
                since,
                period,
                report,
                receipt,
                missed,
            } => Some(Self {
                since,
                period,
                report,
                receipt,
                missed,
            }),
            _ => None,
        }
    }

    fn state(self) -> ContractState {
        let Self {
            since,
            period,
            report,
            receipt,
            missed,
        } = self;
        ContractState::Active {
            since,
            period,
            report,
            receipt,
            missed,
        }
    }
}

/// The running period, if a claim about `period` by `author` may be made now.
fn claimable<S: Store + ?Sized>(
    session: &Session<'_, S>,
    author: Id,
    claimant: Id,
    contract: &Contract,
    period: u32,
) -> Result<Running, Fault> {
    if author != claimant {
        return Err(Refusal::NotAllowed(author, "this claim is another party's".into()).into());
    }
    let running = Running::of(contract).ok_or_else(|| wrong_state(contract, "no period runs"))?;
    if period != running.period {
        return Err(wrong_state(contract, &format!("period {} is settled next", running.period)).into());
    }
    if session.time < contract.period_end(running.since, period) {
        return Err(wrong_state(contract, "the period is not over").into());
    }
    Ok(running)
}

pub(super) fn report<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    period: u32,
    up_ms: u64,
    (height, block): (Height, Hash),
) -> Result<(), Fault> {
    let contract = live(session, id)?;
    let running = claimable(session, author, contract.signed.agreement.node, &contract, period)?;
    if running.report.is_some() {
        return Err(wrong_state(&contract, "the period is reported already").into());
    }
    let named = session.store.header(height)?;
    let end = contract.period_end(running.since, period);
    if !named.is_some_and(|header| header.id() == block && header.time >= end) {
        return Err(Refusal::Invalid("a report names a block from the period's end or later".into()).into());
    }
    claim(
        session,
        author,
        id,
        contract,
        Running {
            report: Some(Claim { up_ms }),
            ..running
        },
    )
}

pub(super) fn receipt<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    period: u32,
    up_ms: u64,
) -> Result<(), Fault> {
    let contract = live(session, id)?;
    let running = claimable(session, author, contract.signed.agreement.customer, &contract, period)?;
    if running.receipt.is_some() {
        return Err(wrong_state(&contract, "the period has a receipt already").into());
    }
    claim(
        session,
        author,
        id,
        contract,
        Running {
            receipt: Some(Claim { up_ms }),
            ..running
        },
    )
}

/// Records a claim, and settles the period at once when both parties have spoken.
fn claim<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    contract: Contract,
    running: Running,
) -> Result<(), Fault> {
    let complete = running.report.is_some() && running.receipt.is_some();
    let contract = Contract {
        state: running.state(),
        ..contract
    };
    if complete {
        settle_period(session, author, id, contract)
    } else {
        session.write(id, author, contract)
    }
}

/// What a rule does to a contract whose time has come.
pub(super) fn on_due<S: Store + ?Sized>(session: &mut Session<'_, S>, id: Id) -> Result<(), Fault> {
    let contract = session.require::<Contract>(id)?;
    let at = session.time;
    let reason = match contract.state {
        ContractState::Agreed { .. } => Failure::NotAcknowledged,
        ContractState::Deploying { .. } => Failure::NotDeployed,
        ContractState::Active { .. } => return settle_period(session, Id::CHAIN, id, contract),
        ContractState::Expired { .. } | ContractState::Cancelled { .. } | ContractState::Failed { .. } => return Ok(()),
    };
    end(session, Id::CHAIN, id, contract, ContractState::Failed { at, reason })
}

/// Settles the running period and goes on to the next, or ends the contract.
fn settle_period<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    contract: Contract,
) -> Result<(), Fault> {
    let running = Running::of(&contract).expect("only active contracts have a period to settle");
    let agreement = &contract.signed.agreement;
    let loss = decide(&agreement.rule, agreement.price, running.report, running.receipt);
    pay(session, id, loss.pay)?;
    let rule = &agreement.rule;
    let mut missed = if running.report.is_some() {
        0
    } else {
        running.missed.saturating_add(1)
    };
    let mut period = running.period.saturating_add(1);
    // Later periods in which no report can come any more cost nothing and are passed over at once, so that a contract which
    // was settled is never due before those that wait behind it.
    while period < agreement.periods
        && missed < rule.missed_limit
        && contract.period_end(running.since, period).plus(rule.grace_ms) <= session.time
    {
        period = period.saturating_add(1);
        missed = missed.saturating_add(1);
    }
    let silent = missed >= rule.missed_limit;
    let last = period >= agreement.periods;
    let at = session.time;
    let disputes = contract.disputes.saturating_add(u32::from(loss.disputed));
    let state = Running {
        period,
        report: None,
        receipt: None,
        missed,
        ..running
    }
    .state();
    let contract = Contract { disputes, ..contract };
    if silent {
        end(
            session,
            author,
            id,
            contract,
            ContractState::Failed {
                at,
                reason: Failure::NodeSilent,
            },
        )
    } else if last {
        end(session, author, id, contract, ContractState::Expired { at })
    } else {
        session.write(id, author, Contract { state, ..contract })
    }
}

/// What the customer still owes when it cancels: periods that are over, and the begun part of the running one. Where the node
/// has reported all periods before and may still report these, it counts as having run; without the customer's receipt that is
/// paid by the rule's share. Returns whether report and receipt disagreed.
pub(super) fn settle_on_cancel<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    id: Id,
    contract: &Contract,
) -> Result<bool, Fault> {
    let Some(running) = Running::of(contract) else {
        return Ok(false);
    };
    let agreement = &contract.signed.agreement;
    let rule = &agreement.rule;
    let presumed = |up_ms| (running.missed == 0).then_some(Claim { up_ms });
    let unheard = |up_ms| decide(rule, agreement.price, presumed(up_ms), None).pay.micro();
    let elapsed = session.time.since(running.since);
    let over = elapsed
        .checked_div(rule.period_ms)
        .unwrap_or(0)
        .min(u64::from(agreement.periods));
    let unsettled = over.saturating_sub(u64::from(running.period));
    let (mut owed, mut disputed) = (0_u64, false);
    if unsettled > 0 {
        let report = running.report.or(presumed(rule.period_ms));
        let first = decide(rule, agreement.price, report, running.receipt);
        let others = unheard(rule.period_ms).saturating_mul(unsettled - 1);
        owed = first.pay.micro().saturating_add(others);
        disputed = first.disputed;
    }
    if over < u64::from(agreement.periods) {
        owed = owed.saturating_add(unheard(elapsed.checked_rem(rule.period_ms).unwrap_or(0)));
    }
    let held = session.require::<Escrow>(id)?.held;
    pay(session, id, Tokens::from_micro(owed).min(held))?;
    Ok(disputed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SettlementRule = SettlementRule {
        period_ms: 10_000,
        grace_ms: 5_000,
        acknowledge_ms: 5_000,
        deploy_ms: 5_000,
        tolerance_permille: 50,
        unconfirmed_permille: 900,
        disputed_permille: 500,
        missed_limit: 2,
    };
    const PRICE: Tokens = Tokens::from_micro(1_000);

    fn check(report: Option<u64>, receipt: Option<u64>, pay: u64, disputed: bool) {
        let claim = |up_ms| Claim { up_ms };
        let loss = decide(&RULE, PRICE, report.map(claim), receipt.map(claim));
        assert_eq!(
            loss,
            Loss {
                pay: Tokens::from_micro(pay),
                disputed
            },
            "{report:?} {receipt:?}"
        );
    }

    #[test]
    fn a_period_is_paid_by_report_and_receipt_or_by_the_rule() {
        check(Some(10_000), Some(10_000), 1_000, false);
        check(Some(5_000), Some(5_000), 500, false);
        check(None, None, 0, false);
        check(None, Some(10_000), 0, false);
        check(Some(10_000), None, 900, false);
        check(Some(10_000), Some(9_600), 960, false);
        check(Some(10_000), Some(0), 500, true);
        // A customer who claims more than the node loses nothing by it and gains nothing.
        check(Some(0), Some(10_000), 0, true);
        check(Some(u64::MAX), Some(u64::MAX), 1_000, false);
    }
}
