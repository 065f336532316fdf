//! An entity's keys: rotated by themselves, recovered by a key that does nothing else.

use crate::{
    body::Entity,
    key::{PublicKey, Purpose, Signature},
    machine::{Fault, Refusal, Session},
    record::{Id, Kind},
    store::Store,
    transaction::{NewKeys, RecoveryChange},
};

fn refused(reason: &str) -> Fault {
    Refusal::Keys(reason.to_owned()).into()
}

/// The entity with other keys, which somebody must have.
fn with_keys<S: Store + ?Sized>(
    session: &Session<'_, S>,
    id: Id,
    entity: Entity,
    new: &NewKeys,
) -> Result<Entity, Fault> {
    if new.keys == entity.keys {
        return Err(refused("these are its keys already"));
    }
    let proven = (id, new.keys);
    if !session.verifies(new.keys.signing, Purpose::Possession, &proven, new.proof) {
        return Err(refused("the new signing key does not prove that somebody has it"));
    }
    Ok(Entity {
        keys: new.keys,
        ..entity
    })
}

/// The entity with another recovery key. One that is its signing key too would save nothing.
fn with_recovery(entity: Entity, recovery: Option<PublicKey>) -> Result<Entity, Fault> {
    if recovery == Some(entity.keys.signing) {
        return Err(refused("a recovery key is another one than the signing key"));
    }
    Ok(Entity { recovery, ..entity })
}

pub(super) fn rotate<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, new: &NewKeys) -> Result<(), Fault> {
    let entity = session.require::<Entity>(author)?;
    let recovery = entity.recovery;
    let entity = with_recovery(with_keys(session, author, entity, new)?, recovery)?;
    session.write(author, author, entity)
}

pub(super) fn set_recovery<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    recovery: Option<PublicKey>,
    consent: Option<Signature>,
) -> Result<(), Fault> {
    let entity = session.require::<Entity>(author)?;
    if recovery == entity.recovery {
        return Err(refused("this is its recovery key already"));
    }
    // Whoever has stolen the other keys cannot shut the owner out.
    if let Some(before) = entity.recovery {
        let change = RecoveryChange {
            entity: author,
            version: session.record(Kind::Entity, author)?.hash(),
            recovery,
        };
        let consents = |consent| session.verifies(before, Purpose::Recovery, &change, consent);
        if !consent.is_some_and(consents) {
            return Err(refused(
                "the recovery key that it has does not consent, for this entity's latest version",
            ));
        }
    }
    session.write(author, author, with_recovery(entity, recovery)?)
}

pub(super) fn recover<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    id: Id,
    by: PublicKey,
    new: &NewKeys,
    recovery: Option<PublicKey>,
) -> Result<(), Fault> {
    let entity = session.require::<Entity>(id)?;
    if entity.recovery != Some(by) {
        return Err(refused("this is not the entity's recovery key"));
    }
    let entity = with_recovery(with_keys(session, id, entity, new)?, recovery)?;
    session.write(id, Entity::recovery_author(&by), entity)
}
