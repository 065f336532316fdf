//! Nodes and what they say of themselves.

use std::net::SocketAddr;

use crate::{
    body::{Assignments, DiskRefusal, MAX_DISK_REFUSALS, Node, NodeState},
    key::Purpose,
    machine::{Fault, Refusal, Session, farms, people::check_addresses},
    record::Id,
    store::Store,
    text::Text,
    transaction::Join,
    unit::Resources,
};

fn check_refusals(refused: &[DiskRefusal]) -> Result<(), Refusal> {
    if refused.len() > MAX_DISK_REFUSALS {
        return Err(Refusal::Invalid(format!(
            "{} refused disks, at most {MAX_DISK_REFUSALS} are named",
            refused.len()
        )));
    }
    Ok(())
}

pub(super) fn join<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, join: &Join) -> Result<(), Fault> {
    check_addresses(&join.addresses)?;
    check_refusals(&join.refused_disks)?;
    let chain = session.chain;
    farms::use_enrolment(session, author, join.farm, |enrolment| {
        enrolment
            .key
            .verifies(Purpose::Enrolment, chain, &(join.farm, &join.keys), &join.enrolment)
    })?;
    let node = Node {
        farm: join.farm,
        keys: join.keys,
        capacity: join.capacity,
        addresses: join.addresses.clone(),
        hardware: join.hardware.clone(),
        refused_disks: join.refused_disks.clone(),
        state: NodeState::Joined,
    };
    session.create(author, author, node)?;
    session.create(author, author, Assignments::default())
}

pub(super) fn update<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    capacity: Resources,
    addresses: &[SocketAddr],
    hardware: &Text<128>,
    refused_disks: &[DiskRefusal],
) -> Result<(), Fault> {
    check_addresses(addresses)?;
    check_refusals(refused_disks)?;
    let node = session.require::<Node>(author)?;
    let node = Node {
        capacity,
        addresses: addresses.to_vec(),
        hardware: hardware.clone(),
        refused_disks: refused_disks.to_vec(),
        ..node
    };
    session.write(author, author, node)
}
