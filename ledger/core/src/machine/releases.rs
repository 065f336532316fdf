//! Releases of the node's system: ordered and staged here, made by their keys alone.

use crate::{
    body::{Channel, Entity, MAX_STAGED, Release},
    machine::{Fault, Refusal, Session},
    record::Id,
    release::{Judge, Pin, ReleaseError, SignedManifest, SignedOpening, SignedRotation},
    signatures::Claim,
    store::Store,
};

impl From<ReleaseError> for Fault {
    fn from(error: ReleaseError) -> Self {
        Refusal::Release(error.to_string()).into()
    }
}

fn owned<S: Store + ?Sized>(session: &Session<'_, S>, author: Id, id: Id) -> Result<Channel, Fault> {
    let channel = session.require::<Channel>(id)?;
    if channel.owner == author {
        Ok(channel)
    } else {
        Err(Refusal::NotAllowed(author, "the channel is another's".into()).into())
    }
}

fn judge<'a, S: Store + ?Sized>(session: &Session<'_, S>, holds: &'a dyn Fn(&Claim) -> bool) -> Judge<'a> {
    Judge {
        chain: session.chain,
        holds,
    }
}

fn pin(id: Id, channel: &Channel) -> Pin {
    Pin {
        channel: id,
        rotations: channel.rotations,
        keys: channel.keys.clone(),
    }
}

pub(super) fn open<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedOpening,
) -> Result<(), Fault> {
    let channel = signed.open(judge(session, &|claim| session.holds(claim)))?;
    session.require::<Entity>(channel.owner)?;
    session.create(Channel::founding_id(&channel.label, &channel.keys), author, channel)
}

pub(super) fn rotate<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedRotation,
) -> Result<(), Fault> {
    let id = signed.rotation.channel;
    let channel = session.require::<Channel>(id)?;
    let Pin { rotations, keys, .. } =
        pin(id, &channel).rotated(signed, judge(session, &|claim| session.holds(claim)))?;
    session.require::<Entity>(signed.rotation.owner)?;
    let rotated = Channel {
        owner: signed.rotation.owner,
        keys,
        rotations,
        rotation: Some(signed.clone()),
        ..channel
    };
    session.write(id, author, rotated)
}

pub(super) fn publish<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedManifest,
) -> Result<(), Fault> {
    let manifest = &signed.manifest;
    let channel = owned(session, author, manifest.channel)?;
    pin(manifest.channel, &channel).check(signed, judge(session, &|claim| session.holds(claim)))?;
    if manifest.number <= channel.newest {
        let text = format!("number {} is not above {}", manifest.number, channel.newest);
        return Err(Refusal::Release(text).into());
    }
    if manifest.name.as_str().is_empty() || manifest.image.size == 0 {
        return Err(Refusal::Invalid("a release has a name and an image".into()).into());
    }
    let release = Release {
        signed: signed.clone(),
        rotations: channel.rotations,
        permille: 0,
    };
    let newest = Channel {
        newest: manifest.number,
        ..channel
    };
    session.write(manifest.channel, author, newest)?;
    session.create(Release::founding_id(manifest.channel, manifest.number), author, release)
}

pub(super) fn stage<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    id: Id,
    permille: u16,
) -> Result<(), Fault> {
    let release = session.require::<Release>(id)?;
    let channel_id = release.signed.manifest.channel;
    let channel = owned(session, author, channel_id)?;
    if permille > 1_000 {
        return Err(Refusal::Invalid(format!("{permille} of a thousand nodes")).into());
    }
    let staged = match (release.permille, permille) {
        (0, 1..) => channel.staged + 1,
        (1.., 0) => channel.staged - 1,
        _ => channel.staged,
    };
    if staged > MAX_STAGED {
        let text = format!("{MAX_STAGED} releases are given to nodes already; give one to none first");
        return Err(Refusal::Release(text).into());
    }
    if staged != channel.staged {
        session.write(channel_id, author, Channel { staged, ..channel })?;
    }
    session.write(id, author, Release { permille, ..release })
}
