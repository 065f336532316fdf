//! Money of a contract, period by period, by the rule that both parties signed.

use crate::{
    body::{Claim, Contract, ContractState, Escrow, Failure, SettlementRule},
    hash::Hash,
    machine::{
        Fault, Refusal, Session,
        contracts::{end, live, wrong_state},
    },
    record::Id,
    store::Store,
    unit::{Height, Timestamp, Tokens},
};

/// What is taken from the escrow for a time, and who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bill {
    /// What the farmer is paid.
    pay: Tokens,
    /// What the customer pays and nobody gets.
    withheld: Tokens,
    /// Whether report and receipt disagreed.
    disputed: bool,
}

impl Bill {
    /// What the customer pays.
    fn cost(self) -> Tokens {
        self.pay.saturating_add(self.withheld)
    }

    fn and(self, other: Self) -> Self {
        Self {
            pay: self.pay.saturating_add(other.pay),
            withheld: self.withheld.saturating_add(other.withheld),
            disputed: self.disputed || other.disputed,
        }
    }

    fn times(self, count: u32) -> Self {
        let times = |amount: Tokens| amount.checked_mul(count).unwrap_or(Tokens::MAX);
        Self {
            pay: times(self.pay),
            withheld: times(self.withheld),
            ..self
        }
    }
}

/// Decides what one period costs. Claims beyond the period count as the whole period.
///
/// The customer pays for what the node reports, and nothing where it reports nothing, for it may be down. The farmer is paid
/// what the customer's receipt confirms: all of it within the tolerance, the agreed part where there is no receipt. What lies
/// between goes to neither, so that where both speak nobody gains by claiming less or more than what is true, and a customer gains
/// nothing by silence.
fn decide(rule: &SettlementRule, price: Tokens, report: Option<Claim>, receipt: Option<Claim>) -> Bill {
    let period = rule.period_ms;
    let up = |claim: Claim| claim.up_ms.min(period);
    let Some(reported) = report.map(up) else {
        return Bill::default();
    };
    let cost = price.portion(reported, period);
    let (pay, disputed) = match receipt.map(up) {
        None => (cost.portion(rule.unconfirmed_permille.into(), 1_000), false),
        Some(received) => {
            let tolerated = u128::from(period) * u128::from(rule.tolerance_permille) / 1_000;
            // A customer who saw more than the node claims takes nothing from it.
            if u128::from(reported.saturating_sub(received)) <= tolerated {
                (cost, false)
            } else {
                (price.portion(received, period), true)
            }
        }
    };
    let withheld = cost.checked_sub(pay).unwrap_or_default();
    Bill {
        pay,
        withheld,
        disputed,
    }
}

/// Takes `amount` out of the escrow: what the bill says is paid or withheld, the rest returns to the customer.
fn charge<S: Store + ?Sized>(session: &mut Session<'_, S>, id: Id, amount: Tokens, bill: Bill) -> Result<(), Fault> {
    const HELD: &str = "an escrow holds the price of what is not settled";
    if amount == Tokens::ZERO {
        return Ok(());
    }
    let escrow = session.require::<Escrow>(id)?;
    let rest = amount.checked_sub(bill.cost()).expect(HELD);
    let shares = [
        (escrow.farmer, bill.pay),
        (escrow.customer, rest),
        (Id::CHAIN, bill.withheld),
    ];
    for (to, share) in shares {
        session.credit(to, Id::CHAIN, share)?;
    }
    let escrow = Escrow {
        held: escrow.held.checked_sub(amount).expect(HELD),
        paid: escrow.paid.saturating_add(bill.pay),
        returned: escrow.returned.saturating_add(rest),
        withheld: escrow.withheld.saturating_add(bill.withheld),
        ..escrow
    };
    session.write(id, Id::CHAIN, escrow)
}

/// The running period of an active contract.
struct Running {
    began: Timestamp,
    period: u32,
    price: Tokens,
    report: Option<Claim>,
    receipt: Option<Claim>,
    missed: u32,
}

impl Running {
    fn of(contract: &Contract) -> Option<Self> {
        match contract.state {
            ContractState::Active {
                began,
                period,
                price,
                report,
                receipt,
                missed,
            } => Some(Self {
                began,
                period,
                price,
                report,
                receipt,
                missed,
            }),
            _ => None,
        }
    }

    fn state(self) -> ContractState {
        let Self {
            began,
            period,
            price,
            report,
            receipt,
            missed,
        } = self;
        ContractState::Active {
            began,
            period,
            price,
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
    if contract.open_period().is_none_or(|open| session.time < open.end) {
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
    let over = |time| contract.open_period().is_some_and(|open| time >= open.end);
    if !named.is_some_and(|header| header.id() == block && over(header.time)) {
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
        ContractState::Suspended { .. } => Failure::NotPaid,
        ContractState::Active { .. } => return settle_period(session, Id::CHAIN, id, contract),
        ContractState::Expired { .. } | ContractState::Cancelled { .. } | ContractState::Failed { .. } => return Ok(()),
    };
    end(session, Id::CHAIN, id, contract, ContractState::Failed { at, reason })
}

/// Settles the running period and goes on to the next, suspends the contract or ends it.
fn settle_period<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    contract: Contract,
) -> Result<(), Fault> {
    let running = Running::of(&contract).expect("only active contracts have a period to settle");
    let agreement = &contract.signed.agreement;
    let rule = &agreement.rule;
    let bill = decide(rule, running.price, running.report, running.receipt);
    let mut missed = if running.report.is_some_and(|claim| claim.up_ms > 0) {
        0
    } else {
        running.missed.saturating_add(1)
    };
    let mut period = running.period.saturating_add(1);
    let mut began = running.began.plus(rule.period_ms);
    // Later periods in which no report can come any more cost nothing and are passed over at once, so that a contract which
    // was settled is never due before those that wait behind it.
    while period < contract.funded
        && missed < rule.missed_limit
        && began.plus(rule.period_ms).plus(rule.grace_ms) <= session.time
    {
        began = began.plus(rule.period_ms);
        period = period.saturating_add(1);
        missed = missed.saturating_add(1);
    }
    let passed_over = agreement.price_of(period.saturating_sub(running.period).saturating_sub(1));
    let settled = passed_over.and_then(|later| running.price.checked_add(later));
    charge(session, id, settled.expect("it was deposited"), bill)?;
    let at = session.time;
    let disputes = contract.disputes.saturating_add(u32::from(bill.disputed));
    let failed = |reason| ContractState::Failed { at, reason };
    let state = if missed >= rule.missed_limit {
        failed(Failure::NotServed)
    } else if period >= agreement.periods {
        ContractState::Expired { at }
    } else if disputes >= rule.dispute_limit {
        failed(Failure::Disputed)
    } else if period >= contract.funded {
        ContractState::Suspended {
            since: began,
            until: at.plus(rule.suspend_ms),
            period,
            missed,
        }
    } else {
        ContractState::Active {
            began,
            period,
            price: agreement.price,
            report: None,
            receipt: None,
            missed,
        }
    };
    let contract = Contract { disputes, ..contract };
    match state {
        ContractState::Active { .. } | ContractState::Suspended { .. } => {
            session.write(id, author, Contract { state, ..contract })
        }
        ended => end(session, author, id, contract, ended),
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
    let unheard = |price, up_ms| decide(rule, price, presumed(up_ms), None);
    let elapsed = session.time.since(running.began);
    let over = elapsed.checked_div(rule.period_ms).unwrap_or(0);
    let left = contract.funded.saturating_sub(running.period);
    let over = u32::try_from(over).unwrap_or(u32::MAX).min(left);
    let mut owed = Bill::default();
    if let Some(others) = over.checked_sub(1) {
        let report = running.report.or(presumed(rule.period_ms));
        let first = decide(rule, running.price, report, running.receipt);
        owed = first.and(unheard(agreement.price, rule.period_ms).times(others));
    }
    if over < left {
        let price = if over == 0 { running.price } else { agreement.price };
        owed = owed.and(unheard(price, elapsed.checked_rem(rule.period_ms).unwrap_or(0)));
    }
    charge(session, id, owed.cost(), owed)?;
    Ok(owed.disputed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: SettlementRule = SettlementRule {
        period_ms: 10_000,
        grace_ms: 5_000,
        acknowledge_ms: 5_000,
        deploy_ms: 5_000,
        suspend_ms: 5_000,
        tolerance_permille: 50,
        unconfirmed_permille: 900,
        missed_limit: 2,
        dispute_limit: 2,
    };
    const PRICE: Tokens = Tokens::from_micro(1_000);

    fn bill(report: Option<u64>, receipt: Option<u64>) -> Bill {
        let claim = |up_ms| Claim { up_ms };
        decide(&RULE, PRICE, report.map(claim), receipt.map(claim))
    }

    fn check(report: Option<u64>, receipt: Option<u64>, pay: u64, withheld: u64, disputed: bool) {
        let expected = Bill {
            pay: Tokens::from_micro(pay),
            withheld: Tokens::from_micro(withheld),
            disputed,
        };
        assert_eq!(bill(report, receipt), expected, "{report:?} {receipt:?}");
    }

    #[test]
    fn a_period_is_paid_by_report_and_receipt_or_by_the_rule() {
        check(Some(10_000), Some(10_000), 1_000, 0, false);
        check(Some(5_000), Some(5_000), 500, 0, false);
        check(None, None, 0, 0, false);
        check(None, Some(10_000), 0, 0, false);
        check(Some(10_000), None, 900, 100, false);
        check(Some(10_000), Some(9_600), 1_000, 0, false);
        check(Some(10_000), Some(0), 0, 1_000, true);
        check(Some(10_000), Some(4_000), 400, 600, true);
        // A customer who claims more than the node loses nothing by it and gains nothing.
        check(Some(0), Some(10_000), 0, 0, false);
        check(Some(u64::MAX), Some(u64::MAX), 1_000, 0, false);
    }

    /// What is said of a period: a time, or nothing.
    fn claims() -> impl Strategy<Value = Option<u64>> {
        prop_oneof![Just(None), (0_u64..20_000).prop_map(Some)]
    }

    proptest! {
        #[test]
        fn who_lies_or_says_nothing_gains_no_more_than_the_tolerance(truth in 0_u64..=10_000, lie in claims()) {
            let tolerated = PRICE.portion(RULE.tolerance_permille.into(), 1_000).micro() + 1;
            let honest = bill(Some(truth), Some(truth));
            let node_lies = bill(lie, Some(truth));
            prop_assert!(node_lies.pay.micro() <= honest.pay.micro() + tolerated, "{:?}", node_lies);
            let customer_lies = bill(Some(truth), lie);
            prop_assert!(customer_lies.cost() >= honest.cost(), "{:?}", customer_lies);
        }
    }
}
