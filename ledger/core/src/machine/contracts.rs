//! Contracts: agreement, progress, cancellation.

use borsh::BorshSerialize;

use crate::{
    agreement::{Agreement, SignedAgreement},
    body::{
        Assignments, Contract, ContractState, Entity, Escrow, Failure, Farm, Image, MAX_CONTRACTS, MAX_PERIODS, Node,
        Terms,
    },
    key::{Purpose, Signature},
    machine::{Fault, Refusal, Session, settlement},
    record::{BodyOf, Id, Kind},
    store::Store,
    transaction::Step,
    unit::{Resources, Timestamp, Tokens},
};

pub(super) fn agree<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedAgreement,
) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    if author != agreement.customer {
        return Err(Refusal::NotAllowed(author, "the customer puts an agreement on the chain".into()).into());
    }
    let signatures = (&signed.customer, &signed.farmer);
    check_parties(session, agreement, (Purpose::Agreement, agreement), signatures)?;
    check_terms(session, signed)?;
    let id = agreement.contract_id();
    let acknowledge_by = session.time.plus(agreement.rule.acknowledge_ms);
    let state = ContractState::Agreed { acknowledge_by };
    session.create(
        id,
        author,
        Contract {
            signed: signed.clone(),
            replaces: None,
            amendments: 0,
            state,
            funded: agreement.deposit,
            disputes: 0,
        },
    )?;
    reserve(session, author, id, agreement, Resources::ZERO)?;
    deposit(session, author, id, signed)
}

/// Both signatures, by the keys that stand on the chain now.
pub(super) fn check_parties<S: Store + ?Sized>(
    session: &Session<'_, S>,
    agreement: &Agreement,
    (purpose, signed): (Purpose, &impl BorshSerialize),
    (customer, farmer): (&Signature, &Signature),
) -> Result<(), Fault> {
    let parties = [
        ("customer", agreement.customer, customer),
        ("farmer", agreement.farmer, farmer),
    ];
    for (role, id, signature) in parties {
        let key = session.require::<Entity>(id)?.keys.signing;
        if !session.verifies(key, purpose, signed, *signature) {
            return Err(Refusal::AgreementSignature(role.into()).into());
        }
    }
    Ok(())
}

/// Whether the agreement fits the terms, the farm, the node and the image that stand on the chain.
fn check_terms<S: Store + ?Sized>(session: &Session<'_, S>, signed: &SignedAgreement) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let terms_record = session.record(Kind::Terms, agreement.terms.0)?;
    let terms = Terms::of(&terms_record.body).expect("a record of kind terms has terms");
    if terms_record.hash() != agreement.terms.1 {
        return refuse("the terms have changed since the offer");
    }
    if !terms.open {
        return refuse("the terms are closed");
    }
    if agreement.rule != terms.rule {
        return refuse("the settlement rule is not that of the terms");
    }
    if !(terms.periods.0..=terms.periods.1).contains(&agreement.periods) {
        return refuse("the number of periods is outside the terms");
    }
    if !(1..=agreement.periods).contains(&agreement.deposit) {
        return refuse("the deposit is from one period to all of them");
    }
    let node = session.require::<Node>(agreement.node)?;
    if node.farm != terms.farm || session.require::<Farm>(terms.farm)?.owner != agreement.farmer {
        return refuse("node, terms and farmer do not belong together");
    }
    check_offer(session, agreement)?;
    check_image(session, agreement)
}

/// What every agreement that comes on the chain must have, a first one or another.
pub(super) fn check_offer<S: Store + ?Sized>(session: &Session<'_, S>, agreement: &Agreement) -> Result<(), Fault> {
    if agreement.valid_until < session.time {
        return refuse("its validity has run out");
    }
    let state = session.require::<Node>(agreement.node)?.state;
    if !state.is_rentable() {
        return refuse(&format!("the node is {}", state.name()));
    }
    if agreement.resources.cru == 0 || agreement.resources.mru == 0 {
        return refuse("a workload needs at least one thread and memory");
    }
    if agreement.periods > MAX_PERIODS {
        return refuse("it has more periods than an agreement may have");
    }
    if agreement.price_of(agreement.periods).is_none() {
        return refuse("the whole price is not representable");
    }
    Ok(())
}

/// Whether the image is the one that stands on the chain and fits.
pub(super) fn check_image<S: Store + ?Sized>(session: &Session<'_, S>, agreement: &Agreement) -> Result<(), Fault> {
    let image_record = session.record(Kind::Image, agreement.image.0)?;
    let image = Image::of(&image_record.body).expect("a record of kind image has an image");
    if image_record.hash() != agreement.image.1 {
        return refuse("the image has changed since the offer");
    }
    if image.root.size > agreement.resources.sru.saturating_add(agreement.resources.hru) {
        return refuse("the image is larger than the storage that is reserved");
    }
    Ok(())
}

pub(super) fn refuse<T>(reason: &str) -> Result<T, Fault> {
    Err(Refusal::Agreement(reason.into()).into())
}

/// Reserves the capacity, refusing an over-commitment. What `before` reserved for the same contract becomes free; whoever takes no
/// more than that is not refused where the node's capacity has shrunk.
pub(super) fn reserve<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    agreement: &Agreement,
    before: Resources,
) -> Result<(), Fault> {
    let capacity = session.require::<Node>(agreement.node)?.capacity;
    let mut assignments = session.require::<Assignments>(agreement.node)?;
    assignments.contracts.insert(id);
    if assignments.contracts.len() > MAX_CONTRACTS {
        return Err(Refusal::Capacity(format!("the node has {MAX_CONTRACTS} contracts already")).into());
    }
    assignments.reserved = assignments
        .reserved
        .saturating_sub(before)
        .checked_add(agreement.resources)
        .filter(|reserved| capacity.contains(*reserved) || before.contains(agreement.resources))
        .ok_or_else(|| Refusal::Capacity("the node has not that much free".into()))?;
    session.write(agreement.node, author, assignments)
}

/// Makes the escrow with the price of the periods that are deposited with the agreement.
fn deposit<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    signed: &SignedAgreement,
) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let deposited = agreement.price_of(agreement.deposit).unwrap_or(Tokens::MAX);
    session.debit(agreement.customer, author, deposited)?;
    let escrow = Escrow {
        customer: agreement.customer,
        farmer: agreement.farmer,
        deposited,
        held: deposited,
        paid: Tokens::ZERO,
        returned: Tokens::ZERO,
        withheld: Tokens::ZERO,
    };
    session.create(id, author, escrow)
}

/// Pays further periods into escrow, so that `funded` are. What is suspended goes on.
pub(super) fn fund<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    funded: u32,
) -> Result<(), Fault> {
    let contract = live(session, id)?;
    let agreement = &contract.signed.agreement;
    if author != agreement.customer {
        return Err(Refusal::NotAllowed(author, "the customer pays for a contract".into()).into());
    }
    if funded <= contract.funded || funded > agreement.periods {
        let (given, known, most) = (funded, contract.funded, agreement.periods);
        let reason = format!("{given} periods cannot be paid in: {known} are, and {most} were agreed");
        return Err(Refusal::Invalid(reason).into());
    }
    let more = agreement.price_of(funded - contract.funded);
    fill_up(session, id, author, more.expect("the whole price is representable"))?;
    let state = resumed(contract.state, session.time, agreement.price);
    session.write(
        id,
        author,
        Contract {
            state,
            funded,
            ..contract
        },
    )
}

/// Takes `more` from the customer into the escrow.
pub(super) fn fill_up<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    id: Id,
    author: Id,
    more: Tokens,
) -> Result<(), Fault> {
    if more == Tokens::ZERO {
        return Ok(());
    }
    let escrow = session.require::<Escrow>(id)?;
    let deposited = escrow.deposited.checked_add(more);
    let deposited = deposited.ok_or_else(|| Refusal::Invalid("what was ever deposited is not representable".into()))?;
    session.debit(escrow.customer, author, more)?;
    let escrow = Escrow {
        deposited,
        held: escrow.held.saturating_add(more),
        ..escrow
    };
    session.write(id, author, escrow)
}

/// What is suspended goes on from `now`, with a period of this price.
pub(super) fn resumed(state: ContractState, now: Timestamp, price: Tokens) -> ContractState {
    match state {
        ContractState::Suspended { period, missed, .. } => ContractState::Active {
            began: now,
            period,
            price,
            report: None,
            receipt: None,
            missed,
        },
        state => state,
    }
}

/// The contract, if it has not ended.
pub(super) fn live<S: Store + ?Sized>(session: &Session<'_, S>, id: Id) -> Result<Contract, Fault> {
    let contract = session.require::<Contract>(id)?;
    if contract.ended().is_some() {
        return Err(wrong_state(&contract, "it has ended").into());
    }
    Ok(contract)
}

pub(super) fn wrong_state(contract: &Contract, reason: &str) -> Refusal {
    Refusal::State {
        state: contract.state_name().into(),
        reason: reason.into(),
    }
}

pub(super) fn progress<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    step: &Step,
) -> Result<(), Fault> {
    let contract = live(session, id)?;
    let agreement = &contract.signed.agreement;
    if author != agreement.node {
        return Err(Refusal::NotAllowed(author, "the contract is another node's".into()).into());
    }
    let time = session.time;
    let state = match (step, &contract.state) {
        (Step::Acknowledged, ContractState::Agreed { .. }) => ContractState::Deploying {
            run_by: time.plus(agreement.rule.deploy_ms),
        },
        (Step::Running, ContractState::Deploying { .. }) => ContractState::beginning(time, 0, agreement.price),
        (Step::Refused(reason), _) => {
            let reason = Failure::Refused { reason: reason.clone() };
            return end(
                session,
                author,
                id,
                contract,
                ContractState::Failed { at: time, reason },
            );
        }
        _ => return Err(wrong_state(&contract, "this step does not follow").into()),
    };
    session.write(id, author, Contract { state, ..contract })
}

pub(super) fn cancel<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, id: Id) -> Result<(), Fault> {
    let mut contract = live(session, id)?;
    let (customer, farmer) = (contract.signed.agreement.customer, contract.signed.agreement.farmer);
    if author != customer && author != farmer {
        return Err(Refusal::NotAllowed(author, "only the two parties may cancel".into()).into());
    }
    if author == customer {
        let disputed = settlement::settle_on_cancel(session, id, &contract)?;
        contract.disputes = contract.disputes.saturating_add(u32::from(disputed));
    }
    let at = session.time;
    end(session, author, id, contract, ContractState::Cancelled { at })
}

/// Ends a contract: returns what is left in escrow and frees the capacity.
pub(super) fn end<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    contract: Contract,
    state: ContractState,
) -> Result<(), Fault> {
    let agreement = &contract.signed.agreement;
    let escrow = session.require::<Escrow>(id)?;
    let rest = escrow.held;
    // It is no more than what was deposited.
    let returned = escrow.returned.saturating_add(rest);
    session.credit(escrow.customer, author, rest)?;
    session.write(
        id,
        author,
        Escrow {
            held: Tokens::ZERO,
            returned,
            ..escrow
        },
    )?;
    let mut assignments = session.require::<Assignments>(agreement.node)?;
    assignments.contracts.remove(&id);
    assignments.reserved = assignments
        .reserved
        .checked_sub(agreement.resources)
        .unwrap_or(Resources::ZERO);
    session.write(agreement.node, author, assignments)?;
    session.write(id, author, Contract { state, ..contract })
}
