//! Farms, the right to join them, and what they offer.

use crate::{
    body::{Enrolment, Entity, Farm, Location, MAX_ENROLMENTS, Node, NodeState, Terms},
    machine::{Fault, Refusal, Session},
    record::Id,
    store::Store,
    text::Text,
};

/// The farm, if `author` owns it.
fn owned<S: Store + ?Sized>(session: &Session<'_, S>, author: Id, farm: Id) -> Result<Farm, Fault> {
    let farm = session.require::<Farm>(farm)?;
    if farm.owner == author {
        Ok(farm)
    } else {
        Err(Refusal::NotAllowed(author, "the farm belongs to another entity".into()).into())
    }
}

fn check(name: &Text<64>, location: Location) -> Result<(), Refusal> {
    if name.as_str().is_empty() || !location.is_valid() {
        return Err(Refusal::Invalid(
            "a farm has a name, a country of two capital letters and a place on earth".into(),
        ));
    }
    Ok(())
}

pub(super) fn create<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    name: &Text<64>,
    location: Location,
) -> Result<(), Fault> {
    session.require::<Entity>(author)?;
    check(name, location)?;
    let farm = Farm {
        owner: author,
        name: name.clone(),
        location,
        enrolments: Vec::new(),
    };
    session.create(farm.founding_id(), author, farm)
}

pub(super) fn update<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    name: &Text<64>,
    location: Location,
) -> Result<(), Fault> {
    let farm = owned(session, author, id)?;
    check(name, location)?;
    let name = name.clone();
    session.write(id, author, Farm { name, location, ..farm })
}

pub(super) fn set_enrolments<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    enrolments: &[Enrolment],
) -> Result<(), Fault> {
    let farm = owned(session, author, id)?;
    let keys: std::collections::BTreeSet<_> = enrolments.iter().map(|e| e.key).collect();
    if enrolments.len() > MAX_ENROLMENTS || keys.len() != enrolments.len() {
        return Err(Refusal::Invalid(format!("at most {MAX_ENROLMENTS} distinct enrolment keys")).into());
    }
    session.write(
        id,
        author,
        Farm {
            enrolments: enrolments.to_vec(),
            ..farm
        },
    )
}

pub(super) fn publish_terms<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    terms: &Terms,
) -> Result<(), Fault> {
    owned(session, author, terms.farm)?;
    terms.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
    session.create(terms.founding_id(), author, terms.clone())
}

pub(super) fn update_terms<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    terms: &Terms,
) -> Result<(), Fault> {
    let before = session.require::<Terms>(id)?;
    owned(session, author, before.farm)?;
    if terms.farm != before.farm {
        return Err(Refusal::Invalid("terms stay with their farm".into()).into());
    }
    terms.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
    session.write(id, author, terms.clone())
}

pub(super) fn expel<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, id: Id) -> Result<(), Fault> {
    let node = session.require::<Node>(id)?;
    owned(session, author, node.farm)?;
    session.write(
        id,
        author,
        Node {
            state: NodeState::Expelled,
            ..node
        },
    )
}

/// Uses up one join of the enrolment key that signed.
pub(super) fn use_enrolment<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    node: Id,
    farm_id: Id,
    signed_by: impl Fn(&Enrolment) -> bool,
) -> Result<(), Fault> {
    let mut farm = session.require::<Farm>(farm_id)?;
    let time = session.time;
    let enrolment = farm
        .enrolments
        .iter_mut()
        .find(|enrolment| signed_by(enrolment))
        .ok_or_else(|| Refusal::Enrolment("no enrolment key of the farm signed".into()))?;
    if enrolment.until < time {
        return Err(Refusal::Enrolment("the enrolment key has run out".into()).into());
    }
    enrolment.remaining = enrolment
        .remaining
        .checked_sub(1)
        .ok_or_else(|| Refusal::Enrolment("the enrolment key has joined all the nodes that it may".into()))?;
    session.write(farm_id, node, farm)
}
