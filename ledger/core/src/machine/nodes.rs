//! Nodes and what they say of themselves.

use std::net::SocketAddr;

use crate::{
    body::{Assignments, Charter, DiskRefusal, MAX_DISK_REFUSALS, Node, NodeState},
    hash::Hash,
    key::Purpose,
    machine::{Fault, Refusal, Session, farms, people::check_addresses},
    record::Id,
    store::{Store, StoreError},
    text::Text,
    transaction::Join,
    unit::{Height, Resources},
};

/// A node that was degraded for so many times between two attestations is gone.
const GONE_AFTER: u64 = 24;
/// An active node attests at most so many times as often as it must.
const OFTEN: u64 = 8;

/// Longest time between two attestations.
fn attest_ms<S: Store + ?Sized>(session: &Session<'_, S>) -> Result<u64, StoreError> {
    let charter = session.read::<Charter>(Charter::ID)?;
    Ok(charter.expect("a chain has a charter from its genesis on").attest_ms)
}

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
        state: NodeState::Joined {
            until: session.time.plus(attest_ms(session)?),
        },
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

pub(super) fn attest<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    (height, block): (Height, Hash),
) -> Result<(), Fault> {
    let node = session.require::<Node>(author)?;
    let (now, every) = (session.time, attest_ms(session)?);
    match node.state {
        NodeState::Expelled => {
            return Err(Refusal::NotAllowed(author, "its farm has expelled the node".into()).into());
        }
        NodeState::Active { seen, until } if now.since(seen) < until.since(seen) / OFTEN => {
            return Err(Refusal::Invalid("the node has attested a short while ago".into()).into());
        }
        _ => {}
    }
    let named = session.store.header(height)?;
    if !named.is_some_and(|header| header.id() == block && now.since(header.time) <= every) {
        return Err(Refusal::Invalid("an attestation names a recent block".into()).into());
    }
    let state = NodeState::Active {
        seen: now,
        until: now.plus(every),
    };
    session.write(author, author, Node { state, ..node })
}

/// What a rule does to a node that did not attest in time.
pub(super) fn on_due<S: Store + ?Sized>(session: &mut Session<'_, S>, id: Id) -> Result<(), Fault> {
    let node = session.require::<Node>(id)?;
    let since = session.time;
    let state = match node.state {
        NodeState::Joined { .. } | NodeState::Active { .. } => {
            let until = since.plus(attest_ms(session)?.saturating_mul(GONE_AFTER));
            NodeState::Degraded { since, until }
        }
        NodeState::Degraded { .. } => NodeState::Gone { since },
        NodeState::Gone { .. } | NodeState::Expelled => return Ok(()),
    };
    session.write(id, Id::CHAIN, Node { state, ..node })
}
