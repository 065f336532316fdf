//! Amendments: another agreement in the place of a contract's.

use crate::{
    agreement::{Agreement, SignedAgreement, SignedAmendment},
    body::{Contract, ContractState, Escrow, Period},
    key::Purpose,
    machine::{
        Fault, Refusal, Session,
        contracts::{check_image, check_offer, check_parties, fill_up, live, refuse, reserve, resumed, wrong_state},
    },
    record::Id,
    store::Store,
    unit::Tokens,
};

pub(super) fn amend<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedAmendment,
) -> Result<(), Fault> {
    let amendment = &signed.amendment;
    let id = amendment.contract;
    let contract = live(session, id)?;
    let (before, after) = (&contract.signed.agreement, &amendment.agreement);
    if author != before.customer {
        return Err(Refusal::NotAllowed(author, "the customer puts an amendment on the chain".into()).into());
    }
    if (amendment.number, amendment.replaces) != (contract.amendments.saturating_add(1), before.hash()) {
        return refuse("it replaces another agreement than the one in force");
    }
    let is_over = |period: Period| period.end <= session.time;
    if contract.open_period().is_some_and(is_over) {
        return Err(wrong_state(&contract, "a period is over and not settled").into());
    }
    check_change(before, after)?;
    let signatures = (&signed.customer, &signed.farmer);
    check_parties(session, after, (Purpose::Amendment, amendment), signatures)?;
    check_offer(session, after)?;
    if after.image != before.image {
        check_image(session, after)?;
    }
    let settled = contract.settled().unwrap_or(0);
    if !(settled.saturating_add(1)..=after.periods).contains(&after.deposit) {
        return refuse("the deposit covers the periods that are settled and one more, and at most all");
    }
    reserve(session, author, id, after, before.resources)?;
    let mut state = resumed(contract.state.clone(), session.time, after.price);
    if let ContractState::Active { price, .. } = &mut state {
        // Whoever takes more for a part of a period and gives it back in time would pay for none of it.
        *price = after.price.max(*price);
    }
    let amended = Contract {
        signed: SignedAgreement {
            agreement: after.clone(),
            customer: signed.customer,
            farmer: signed.farmer,
        },
        replaces: Some(before.hash()),
        amendments: amendment.number,
        state,
        funded: after.deposit,
        disputes: contract.disputes,
    };
    adjust(session, author, id, &amended)?;
    session.write(id, author, amended)
}

/// What an amendment leaves as it is.
fn check_change(before: &Agreement, after: &Agreement) -> Result<(), Fault> {
    let fixed = |agreement: &Agreement| {
        let Agreement {
            customer,
            farmer,
            terms,
            node,
            rule,
            ..
        } = agreement;
        (*customer, *farmer, *terms, *node, *rule)
    };
    if fixed(before) != fixed(after) {
        return refuse("parties, terms, node and rule stay as they are");
    }
    let (had, gets) = (before.resources, after.resources);
    // Volumes do not shrink, and the image that is there already was found to fit.
    if gets.sru < had.sru || gets.hru < had.hru {
        return refuse("storage does not shrink");
    }
    Ok(())
}

/// Makes the escrow hold the price of what is paid in and not settled.
fn adjust<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    amended: &Contract,
) -> Result<(), Fault> {
    let escrow = session.require::<Escrow>(id)?;
    let Some(held) = amended.held() else {
        return refuse("the whole price is not representable");
    };
    if let Some(less) = escrow.held.checked_sub(held) {
        session.credit(escrow.customer, author, less)?;
        let returned = escrow.returned.saturating_add(less);
        return session.write(
            id,
            author,
            Escrow {
                held,
                returned,
                ..escrow
            },
        );
    }
    let more = held.checked_sub(escrow.held).unwrap_or(Tokens::ZERO);
    fill_up(session, id, author, more)
}
