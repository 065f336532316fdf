//! Entities, their money and their images.

use std::net::SocketAddr;

use crate::{
    body::{Blob, Entity, Image, MAX_ADDRESSES},
    machine::{Fault, Refusal, Session},
    record::{Id, Kind, RecordKey},
    store::Store,
    text::Text,
    unit::Tokens,
};

/// At most [`MAX_ADDRESSES`] addresses.
pub(super) fn check_addresses(addresses: &[SocketAddr]) -> Result<(), Refusal> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(Refusal::Invalid(format!(
            "{} addresses, at most {MAX_ADDRESSES} are allowed",
            addresses.len()
        )));
    }
    Ok(())
}

pub(super) fn create<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    entity: &Entity,
) -> Result<(), Fault> {
    check_addresses(&entity.addresses)?;
    session.create(author, author, entity.clone())
}

pub(super) fn update<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    name: &Text<64>,
    addresses: &[SocketAddr],
) -> Result<(), Fault> {
    check_addresses(addresses)?;
    let entity = session.require::<Entity>(author)?;
    session.write(
        author,
        author,
        Entity {
            name: name.clone(),
            addresses: addresses.to_vec(),
            ..entity
        },
    )
}

pub(super) fn transfer<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    to: Id,
    amount: Tokens,
) -> Result<(), Fault> {
    if amount == Tokens::ZERO {
        return Err(Refusal::Invalid("a transfer moves at least one micro-token".into()).into());
    }
    // An account of nobody could never spend: tokens go to entities that exist.
    if session.read::<Entity>(to)?.is_none() {
        return Err(Refusal::Missing(RecordKey::new(Kind::Entity, to)).into());
    }
    session.debit(author, author, amount)?;
    session.credit(to, author, amount)
}

pub(super) fn publish_image<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    name: &Text<128>,
    root: Blob,
    config: Blob,
) -> Result<(), Fault> {
    session.require::<Entity>(author)?;
    if name.as_str().is_empty() || root.size == 0 || config.size == 0 {
        return Err(Refusal::Invalid("an image has a name, a root file system and a configuration".into()).into());
    }
    let id = Image::founding_id(author, name);
    session.write(
        id,
        author,
        Image {
            owner: author,
            name: name.clone(),
            root,
            config,
        },
    )
}
