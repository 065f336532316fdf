//! Contracts: agreement, progress, cancellation.

use crate::{
    agreement::SignedAgreement,
    body::{
        Assignments, Contract, ContractState, Entity, Escrow, Failure, Farm, Image, MAX_CONTRACTS, Node, NodeState,
        Terms,
    },
    key::Purpose,
    machine::{Fault, Refusal, Session, settlement},
    record::{BodyOf, Id, Kind},
    store::Store,
    transaction::Step,
    unit::{Resources, Tokens},
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
    check_parties(session, signed)?;
    check_terms(session, signed)?;
    let id = agreement.contract_id();
    let acknowledge_by = session.time.plus(agreement.rule.acknowledge_ms);
    let state = ContractState::Agreed { acknowledge_by };
    session.create(
        id,
        author,
        Contract {
            signed: signed.clone(),
            state,
            disputes: 0,
        },
    )?;
    reserve(session, author, id, signed)?;
    fund(session, author, id, signed)
}

/// Both signatures, by the keys that stand on the chain now.
fn check_parties<S: Store + ?Sized>(session: &Session<'_, S>, signed: &SignedAgreement) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let parties = [
        ("customer", agreement.customer, &signed.customer),
        ("farmer", agreement.farmer, &signed.farmer),
    ];
    for (role, id, signature) in parties {
        let key = session.require::<Entity>(id)?.keys.signing;
        if !key.verifies(Purpose::Agreement, session.chain, agreement, signature) {
            return Err(Refusal::AgreementSignature(role.into()).into());
        }
    }
    Ok(())
}

/// Whether the agreement fits the terms, the farm, the node and the image that stand on the chain.
fn check_terms<S: Store + ?Sized>(session: &Session<'_, S>, signed: &SignedAgreement) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let refuse = |reason: &str| Err(Refusal::Agreement(reason.into()).into());
    if agreement.valid_until < session.time {
        return refuse("its validity has run out");
    }
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
    let node = session.require::<Node>(agreement.node)?;
    if node.farm != terms.farm || session.require::<Farm>(terms.farm)?.owner != agreement.farmer {
        return refuse("node, terms and farmer do not belong together");
    }
    if node.state != NodeState::Joined {
        return refuse("the node was expelled by its farm");
    }
    if agreement.resources.cru == 0 || agreement.resources.mru == 0 {
        return refuse("a workload needs at least one thread and memory");
    }
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

/// Reserves the capacity, refusing an over-commitment.
fn reserve<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    signed: &SignedAgreement,
) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let capacity = session.require::<Node>(agreement.node)?.capacity;
    let mut assignments = session.require::<Assignments>(agreement.node)?;
    if assignments.contracts.len() >= MAX_CONTRACTS {
        return Err(Refusal::Capacity(format!("the node has {MAX_CONTRACTS} contracts already")).into());
    }
    assignments.reserved = assignments
        .reserved
        .checked_add(agreement.resources)
        .filter(|reserved| capacity.contains(*reserved))
        .ok_or_else(|| Refusal::Capacity("the node has not that much free".into()))?;
    assignments.contracts.insert(id);
    session.write(agreement.node, author, assignments)
}

/// Moves the whole price into escrow.
fn fund<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    signed: &SignedAgreement,
) -> Result<(), Fault> {
    let agreement = &signed.agreement;
    let deposited = agreement
        .total()
        .ok_or_else(|| Refusal::Agreement("the whole price is not representable".into()))?;
    session.debit(agreement.customer, author, deposited)?;
    let escrow = Escrow {
        customer: agreement.customer,
        farmer: agreement.farmer,
        deposited,
        held: deposited,
        paid: Tokens::ZERO,
        returned: Tokens::ZERO,
    };
    session.create(id, author, escrow)
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
        (Step::Running, ContractState::Deploying { .. }) => ContractState::Active {
            since: time,
            period: 0,
            report: None,
            receipt: None,
            missed: 0,
        },
        (Step::Refused(reason), ContractState::Agreed { .. } | ContractState::Deploying { .. }) => {
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
    let returned = escrow
        .returned
        .checked_add(rest)
        .expect("no more returns than was deposited");
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
