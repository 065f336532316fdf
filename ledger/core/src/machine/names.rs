//! Names: claimed with a deposit, passed on, given up.

use crate::{
    body::{Charter, Entity, Label, Name},
    machine::{Fault, Refusal, Session},
    record::{Id, Kind, RecordKey},
    store::Store,
    unit::Tokens,
};

/// The name, if it is the author's.
fn owned<S: Store + ?Sized>(session: &Session<'_, S>, author: Id, label: &Label) -> Result<(Id, Name), Fault> {
    let id = Name::founding_id(label);
    let name = session.require::<Name>(id)?;
    if name.owner == Some(author) {
        Ok((id, name))
    } else {
        Err(Refusal::NotAllowed(author, "the name is another's or nobody's".into()).into())
    }
}

pub(super) fn claim<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, label: &Label) -> Result<(), Fault> {
    session.require::<Entity>(author)?;
    let id = Name::founding_id(label);
    if session.read::<Name>(id)?.is_some_and(|name| name.owner.is_some()) {
        return Err(Refusal::Exists(RecordKey::new(Kind::Name, id)).into());
    }
    let deposit = session.require::<Charter>(Charter::ID)?.name_deposit;
    if deposit > Tokens::ZERO {
        session.debit(author, author, deposit)?;
    }
    let name = Name {
        label: label.clone(),
        owner: Some(author),
        deposit,
    };
    session.write(id, author, name)
}

pub(super) fn pass_on<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    label: &Label,
    to: Id,
) -> Result<(), Fault> {
    let (id, name) = owned(session, author, label)?;
    session.require::<Entity>(to)?;
    let owner = Some(to);
    session.write(id, author, Name { owner, ..name })
}

pub(super) fn give_up<S: Store + ?Sized>(session: &mut Session<'_, S>, author: Id, label: &Label) -> Result<(), Fault> {
    let (id, name) = owned(session, author, label)?;
    session.credit(author, author, name.deposit)?;
    let given_up = Name {
        owner: None,
        deposit: Tokens::ZERO,
        ..name
    };
    session.write(id, author, given_up)
}
