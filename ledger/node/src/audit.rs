//! Doing a member's whole chain over again, to see whether what it keeps is what its blocks make.
//!
//! ```text
//! chain.redb ── checksums ── block, certificate ── apply ──► a second database ── every table compared ──► Audit
//!  (never written)                                            (gone at the end)
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use ledger::{
    Hash, Height, Signatures,
    consensus::CertificateError,
    machine::{BlockError, Head, apply_block},
};
use serde::Serialize;

use crate::{
    Database, DatabaseError, HomeError,
    database::{Difference, Snapshot},
    home::Home,
};

/// Name of the second database while it is made; another program that looks finds none.
const SCRATCH: &str = "verify.redb";

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Hash of the genesis.
    pub chain: Hash,
    /// Height of the last block.
    pub height: Height,
    /// Its id.
    pub id: Hash,
    /// Root of the state tree after it.
    pub state: Hash,
    /// Transactions of all blocks.
    pub transactions: u64,
    /// Record versions that the genesis and all blocks wrote.
    pub versions: u64,
}

/// Why a chain was not verified, or what is wrong in it.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database cannot be read at all.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no room for the second database.
    #[error("{path}, as large as the chain while it is verified")]
    Scratch {
        /// Where it was to be.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Pages of the file are not what was written.
    #[error("{0} is damaged: its checksums do not match")]
    Checksums(PathBuf),
    /// A block, or what belongs to it, cannot be read.
    #[error("block {height}")]
    Unreadable {
        /// Its height.
        height: Height,
        /// The cause.
        #[source]
        source: DatabaseError,
    },
    /// A block, or what belongs to it, is not there.
    #[error("block {height}: its {what} is missing")]
    Missing {
        /// Its height.
        height: Height,
        /// What is missing.
        what: &'static str,
    },
    /// A certificate is that of another block.
    #[error("block {0}: its certificate is another block's")]
    OtherCertificate(Height),
    /// The validators did not decide on a block.
    #[error("block {height}: certificate")]
    Certificate {
        /// Its height.
        height: Height,
        /// The check that failed.
        #[source]
        source: CertificateError,
    },
    /// A block does not follow the one before, or breaks a rule, or its header tells another state.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The blocks are right, and what is kept of them is not.
    #[error("the blocks make something else than what is kept: {0}")]
    Differs(String),
}

/// Verifies the chain of a member that does not run, from its genesis on: checksums, every certificate, every block by doing
/// it again, and all that is kept and found by. Tells the height, and the last, after each block.
///
/// # Errors
/// [`AuditError`] names the first thing that is wrong.
pub fn audit(directory: &Path, progress: impl FnMut(Height, Height)) -> Result<Audit, AuditError> {
    let home = Home::open(directory)?;
    let path = home.database();
    let mut kept = Database::look_at(&path, home.genesis.clone())?;
    if !kept.is_sound()? {
        return Err(AuditError::Checksums(path));
    }
    let scratch = directory.join(SCRATCH);
    let again = Database::scratch(&scratch, home.genesis.clone());
    let again = again.map_err(|source| AuditError::Scratch { path: scratch, source })??;
    let audit = replay(&kept, &again, progress)?;
    match kept.difference(&again)? {
        None => Ok(audit),
        Some(difference) => Err(differs(&difference)),
    }
}

fn differs(difference: &Difference) -> AuditError {
    AuditError::Differs(difference.to_string())
}

/// Appends all blocks of one database to another that has none.
fn replay(kept: &Database, again: &Database, mut progress: impl FnMut(Height, Height)) -> Result<Audit, AuditError> {
    let snapshot = kept.snapshot()?;
    let last = snapshot.height()?;
    let mut head = again.snapshot()?.head()?;
    let mut transactions = 0_u64;
    let mut versions = count(again.snapshot()?.written_count(0)?);
    for height in 1..=last {
        let (next, made, wrote) = step(&snapshot, again, &head, height)?;
        head = next;
        transactions += made;
        versions += wrote;
        progress(height, last);
    }
    Ok(Audit {
        chain: kept.genesis().hash(),
        height: head.height,
        id: head.id,
        state: head.state,
        transactions,
        versions,
    })
}

/// Verifies and appends one block. Gives the head after it, its number of transactions and that of the versions it wrote.
fn step(kept: &Snapshot<'_>, again: &Database, head: &Head, height: Height) -> Result<(Head, u64, u64), AuditError> {
    let unreadable = |source| AuditError::Unreadable { height, source };
    let missing = |what| AuditError::Missing { height, what };
    let block = kept
        .block(height)
        .map_err(unreadable)?
        .ok_or_else(|| missing("block"))?;
    let certificate = kept.certificate(height).map_err(unreadable)?;
    let certificate = certificate.ok_or_else(|| missing("certificate"))?;
    if (certificate.height, certificate.block) != (height, block.header.id()) {
        return Err(AuditError::OtherCertificate(height));
    }
    certificate
        .verify(again.genesis().hash(), &head.validators)
        .map_err(|source| AuditError::Certificate { height, source })?;
    let outcome = apply_block(
        (&again.snapshot()?, &Signatures::default()),
        again.genesis(),
        head,
        &block,
    )?;
    again.commit(&block, &certificate, &outcome)?;
    let next = head.after(&block.header, &outcome);
    Ok((next, count(block.transactions.len()), count(outcome.records.len())))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
