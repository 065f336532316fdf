//! The charter: changed by decrees of the validators and by upgrades that begin; and what is proven against validators.

use crate::{
    body::{Charter, Misconduct},
    decree::SignedDecree,
    machine::{Fault, Refusal, Session},
    record::{Id, Kind},
    store::Store,
    unit::Height,
};

/// Most blocks after which misconduct is still recorded.
const MAX_AGE: Height = 1_000;

pub(super) fn decree<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    signed: &SignedDecree,
) -> Result<(), Fault> {
    let charter = session.require::<Charter>(Charter::ID)?;
    let latest = session.record(Kind::Charter, Charter::ID)?.hash();
    let SignedDecree { decree, approvals } = signed;
    let refused = |reason: String| Refusal::Decree(reason);
    if decree.previous != latest {
        let reason = format!(
            "it changes version {} of the charter, the latest is {latest}",
            decree.previous
        );
        return Err(refused(reason).into());
    }
    charter
        .validators
        .check_quorum(&decree.bytes(session.chain), approvals)
        .map_err(|error| refused(error.to_string()))?;
    let amended = charter
        .amended(decree, session.height)
        .map_err(|error| refused(error.to_string()))?;
    session.write(Charter::ID, author, amended)
}

/// Records the first misconduct of a validator at a height that is proven.
pub(super) fn report_misconduct<S: Store + ?Sized>(
    session: &mut Session<'_, S>,
    author: Id,
    misconduct: &Misconduct,
) -> Result<(), Fault> {
    let refused = |reason: String| Fault::from(Refusal::Misconduct(reason));
    let charter = session.require::<Charter>(Charter::ID)?;
    if charter.validators.get(&misconduct.validator).is_none() {
        return Err(refused(format!("{} is no validator", misconduct.validator)));
    }
    // A liar could fill the chain with lies about heights that never come.
    if misconduct.height > session.height {
        return Err(refused(format!("block {} is not made yet", misconduct.height)));
    }
    // Nor with old ones: a thief of its key could sign for every height there ever was.
    if session.height - misconduct.height > MAX_AGE {
        return Err(refused(format!(
            "block {} is more than {MAX_AGE} blocks old",
            misconduct.height
        )));
    }
    misconduct
        .check(session.chain)
        .map_err(|error| refused(error.to_string()))?;
    session.create(misconduct.id(), author, misconduct.clone())
}

/// Lets an upgrade begin whose height has come.
pub(super) fn begin_upgrade<S: Store + ?Sized>(session: &mut Session<'_, S>) -> Result<(), Fault> {
    let charter = session.require::<Charter>(Charter::ID)?;
    match charter.upgraded(session.height) {
        Some(upgraded) => session.write(Charter::ID, Id::CHAIN, upgraded),
        None => Ok(()),
    }
}
