//! The chain as one validator has it: the database, what waits for a block, and the newest head.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ledger::{
    Block, Certificate, CertifiedHeader, Genesis, Hash, Height, Id, PublicKey, Refusal, Signatures, SignedTransaction,
    Timestamp, ValidatorSet,
    body::Blob,
    consensus::CertificateError,
    encoding::{MAX_BLOCK, MAX_TRANSACTION, decode, encode},
    machine::{BlockError, Fault, Outcome, Proposal, Session, apply_block, propose_block},
};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::{
    Clock,
    checked::Checked,
    database::{Database, DatabaseError, Snapshot},
    mempool::Mempool,
    metrics::Metrics,
};

/// Most by which a block's time may be ahead of a validator's clock, in milliseconds; also most by which the clock may be behind
/// the chain when a block is proposed.
const MAX_AHEAD_MS: u64 = 10_000;

/// What became of a submitted transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// It waits for a block from now on.
    Taken,
    /// It waits already.
    Waits,
    /// It breaks a rule.
    Refused(Refusal),
    /// There is no room, with one line that says what to do.
    Full(String),
}

/// Why a block is not committed or voted for.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bytes are no block.
    #[error("block")]
    Decode(#[source] ledger::encoding::DecodeError),
    /// It is not the next block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// Its time is ahead of this validator's clock.
    #[error("block {height}: its time is {ahead} ms ahead of this validator's clock, {MAX_AHEAD_MS} are allowed")]
    Ahead {
        /// Height of the block.
        height: Height,
        /// How far ahead in milliseconds.
        ahead: u64,
    },
    /// This validator's clock is behind the chain, so no block of its has a true time.
    #[error("this machine's clock is behind the chain by {} s; set it", behind_ms / 1_000)]
    Behind {
        /// How far behind in milliseconds.
        behind_ms: u64,
    },
}

/// Why a block of a peer is not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// It is not the next one, or is not whole, or its certificate is another block's.
    #[error("not the next block with its certificate")]
    NotNext,
    /// Nobody vouches for it.
    #[error("certificate")]
    Certificate(#[source] CertificateError),
    /// It is certified and cannot be appended: this machine fails, or more than a third of the validators lie.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// The chain as one validator has it.
#[derive(Debug)]
pub struct Ledger {
    database: Database,
    key: PublicKey,
    clock: Clock,
    metrics: Metrics,
    waiting: Mutex<Mempool>,
    signatures: Signatures,
    checked: Mutex<Checked>,
    /// After the database, so that its end says that the database is closed.
    heads: watch::Sender<Option<CertifiedHeader>>,
    validators: watch::Sender<ValidatorSet>,
}

impl Ledger {
    /// The chain in `database`, for the validator with this key and clock.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database cannot be read.
    pub fn new(database: Database, key: PublicKey, clock: Clock) -> Result<Self, DatabaseError> {
        let snapshot = database.snapshot()?;
        let (heads, _) = watch::channel(snapshot.certified_head()?);
        let (validators, _) = watch::channel(snapshot.head()?.validators);
        drop(snapshot);
        Ok(Self {
            database,
            key,
            clock,
            metrics: Metrics::new(),
            waiting: Mutex::default(),
            signatures: Signatures::default(),
            checked: Mutex::default(),
            heads,
            validators,
        })
    }

    /// Lets go of the ledger and waits until everybody else has, and the database is closed.
    pub async fn closed(self: Arc<Self>) {
        let mut heads = self.heads();
        drop(self);
        while heads.changed().await.is_ok() {}
    }

    /// The chain's genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        self.database.genesis()
    }

    /// The state after the last block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, DatabaseError> {
        self.database.snapshot()
    }

    /// Announces every new head.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Option<CertifiedHeader>> {
        self.heads.subscribe()
    }

    /// What is counted.
    pub(crate) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The time as this validator has it.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Its own voting power for the next block, 0 while it has no vote.
    pub(crate) fn own_power(&self) -> u64 {
        self.validators.borrow().get(&self.key).map_or(0, |own| own.power)
    }

    fn waiting(&self) -> MutexGuard<'_, Mempool> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self) -> MutexGuard<'_, Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a transaction against the state and its author's transactions that wait, and lets it wait for a block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database cannot be read.
    pub fn submit(&self, transaction: SignedTransaction) -> Result<Submission, DatabaseError> {
        let submission = self.consider(transaction)?;
        self.metrics.submitted(&submission);
        Ok(submission)
    }

    fn consider(&self, transaction: SignedTransaction) -> Result<Submission, DatabaseError> {
        let size = encode(&transaction).len();
        if size > MAX_TRANSACTION {
            let reason = format!("transaction has {size} bytes, at most {MAX_TRANSACTION} are allowed");
            return Ok(Submission::Refused(Refusal::Invalid(reason)));
        }
        if let Some(known) = self.known(&transaction) {
            return Ok(known);
        }
        // What costs little is checked first: whoever signs nothing makes nobody replay what waits.
        if let Some(refused) = self.forged(&transaction)? {
            return Ok(refused);
        }
        let mut waiting = self.waiting();
        if waiting.contains(transaction.hash()) {
            return Ok(Submission::Waits);
        }
        let snapshot = self.database.snapshot()?;
        let mut session = self.session(&snapshot)?;
        for earlier in waiting.of(transaction.transaction.author) {
            // What no longer holds is left out of the next block; the nonce of this one then says so.
            if let Err(Fault::Store(error)) = session.apply(earlier) {
                return Err(DatabaseError::Other(error.to_string()));
            }
        }
        match session.apply(&transaction) {
            Ok(()) => {}
            Err(Fault::Refused(refusal)) => return Ok(Submission::Refused(refusal)),
            Err(Fault::Store(error)) => return Err(DatabaseError::Other(error.to_string())),
        }
        Ok(waiting
            .push(transaction)
            .map_or_else(|full| Submission::Full(full.to_string()), |()| Submission::Taken))
    }

    /// What becomes of a transaction that waits already, or for which there is no room.
    fn known(&self, transaction: &SignedTransaction) -> Option<Submission> {
        let waiting = self.waiting();
        if waiting.contains(transaction.hash()) {
            return Some(Submission::Waits);
        }
        let full = waiting.room(transaction).err()?;
        Some(Submission::Full(full.to_string()))
    }

    /// What becomes of a transaction that its author did not sign. Others are not kept waiting while this is checked.
    fn forged(&self, transaction: &SignedTransaction) -> Result<Option<Submission>, DatabaseError> {
        let snapshot = self.database.snapshot()?;
        match self.session(&snapshot)?.check_signature(transaction) {
            Ok(()) => Ok(None),
            // One that waits may make its author known.
            Err(Fault::Refused(Refusal::UnknownAuthor(author))) if self.waiting().waits_of(author) > 0 => Ok(None),
            Err(Fault::Refused(refusal)) => Ok(Some(Submission::Refused(refusal))),
            Err(Fault::Store(error)) => Err(DatabaseError::Other(error.to_string())),
        }
    }

    /// The block that would come next, made now.
    fn session<'a>(&'a self, snapshot: &'a Snapshot<'a>) -> Result<Session<'a, Snapshot<'a>>, DatabaseError> {
        let head = snapshot.head()?;
        let time = self.clock.now().max(head.time.plus(1));
        let chain = self.genesis().hash();
        Ok(Session::new(snapshot, &self.signatures, chain, head.height + 1, time))
    }

    /// Holds a sealed text that `peer` brings until the contract that names it has ended.
    ///
    /// # Errors
    /// [`DatabaseError`] when it cannot be kept.
    pub fn hold(&self, sealed: &[u8], peer: [u8; 32]) -> Result<(), DatabaseError> {
        let (hash, snapshot) = (Blob::of(sealed).hash, self.database.snapshot()?);
        // Whoever brings the same again and again must not take the way of the blocks to the disk.
        if snapshot.sealed(hash)?.is_some() {
            return Ok(());
        }
        self.database.hold(hash, sealed, peer, snapshot.head()?.time)
    }

    /// Whether a transaction that waits is to be passed on to others again: once until the next block.
    pub(crate) fn pass_again(&self, transaction: Hash) -> bool {
        self.waiting().pass_again(transaction)
    }

    /// How many transactions wait for a block.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting().len()
    }

    /// The nonce of an author's next transaction, after those that wait.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database cannot be read.
    pub fn next_nonce(&self, author: Id) -> Result<u64, DatabaseError> {
        let waiting = u64::try_from(self.waiting().waits_of(author)).unwrap_or(u64::MAX);
        let account = self.database.snapshot()?.account(author)?;
        Ok(account.nonce.saturating_add(waiting))
    }

    /// The set in force for the next block.
    #[must_use]
    pub fn validators(&self) -> ValidatorSet {
        self.validators.borrow().clone()
    }

    /// Announces every other set that comes into force.
    #[must_use]
    pub fn validator_sets(&self) -> watch::Receiver<ValidatorSet> {
        self.validators.subscribe()
    }

    /// Height of the next block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the database cannot be read.
    pub fn next_height(&self) -> Result<Height, DatabaseError> {
        Ok(self.database.snapshot()?.height()? + 1)
    }

    /// Whether the clock is right as far as the chain can tell: not behind its newest block by more than is allowed.
    ///
    /// # Errors
    /// [`LedgerError::Behind`] by how much it is behind, or the database cannot be read.
    pub fn check_clock(&self) -> Result<(), LedgerError> {
        let behind_ms = self.database.snapshot()?.head()?.time.since(self.clock.now());
        if behind_ms > MAX_AHEAD_MS {
            return Err(LedgerError::Behind { behind_ms });
        }
        Ok(())
    }

    /// Makes the next block of what waits.
    ///
    /// # Errors
    /// [`LedgerError`] when the database cannot be read, or the clock is behind the chain: blocks a millisecond apart would
    /// stretch every time that was agreed on.
    pub fn propose(&self) -> Result<Block, LedgerError> {
        self.check_clock()?;
        let waiting = self.waiting().waiting();
        let began = Instant::now();
        let snapshot = self.database.snapshot()?;
        let head = snapshot.head()?;
        let state = (&snapshot, &self.signatures);
        let Proposal {
            block,
            outcome,
            refused,
        } = propose_block(state, self.genesis(), &head, self.key, self.clock.now(), &waiting)?;
        self.metrics.applied(began.elapsed());
        self.checked().keep(block.header.id(), outcome);
        for (hash, refusal) in &refused {
            debug!(transaction = %hash, %refusal, "a waiting transaction no longer holds");
            self.metrics.refused(refusal);
        }
        let refused: Vec<Hash> = refused.into_iter().map(|(hash, _)| hash).collect();
        self.waiting().remove(&refused);
        Ok(block)
    }

    /// Checks a proposed block completely. Returns its id.
    ///
    /// # Errors
    /// [`LedgerError`] says why it is not the next block.
    pub fn validate(&self, bytes: &[u8]) -> Result<Hash, LedgerError> {
        let block: Block = decode(bytes, MAX_BLOCK).map_err(LedgerError::Decode)?;
        let (height, ahead) = (block.header.height, block.header.time.since(self.clock.now()));
        if ahead > MAX_AHEAD_MS {
            return Err(LedgerError::Ahead { height, ahead });
        }
        let outcome = self.outcome(&block)?;
        let id = block.header.id();
        self.checked().keep(id, outcome);
        Ok(id)
    }

    /// Makes a decided block and its certificate durable, and announces it.
    ///
    /// # Errors
    /// [`LedgerError`] when it is not the next block or cannot be made durable.
    pub fn commit(&self, bytes: &[u8], certificate: Certificate) -> Result<(), LedgerError> {
        self.append(decode(bytes, MAX_BLOCK).map_err(LedgerError::Decode)?, certificate)
    }

    /// Makes a block that a peer has durable, if its certificate proves that it is the next one, and announces it.
    pub(crate) fn adopt(&self, block: Block, certificate: Certificate) -> Result<(), AdoptError> {
        self.check_next(&block, &certificate)?;
        Ok(self.append(block, certificate)?)
    }

    /// Checks that a certificate proves a block to be the next one.
    pub(crate) fn check_next(&self, block: &Block, certificate: &Certificate) -> Result<(), AdoptError> {
        let header = &block.header;
        let next = self.next_height().map_err(LedgerError::from)?;
        // The certificate vouches for the header, and the header for the transactions.
        let whole = header.transactions == Block::transactions_hash(&block.transactions);
        if !whole || (header.height, certificate.height, certificate.block) != (next, next, header.id()) {
            return Err(AdoptError::NotNext);
        }
        certificate
            .verify(self.genesis().hash(), &self.validators())
            .map_err(AdoptError::Certificate)
    }

    /// What a block changes, which must be the next one.
    fn outcome(&self, block: &Block) -> Result<Outcome, LedgerError> {
        let began = Instant::now();
        let snapshot = self.database.snapshot()?;
        let state = (&snapshot, &self.signatures);
        let outcome = apply_block(state, self.genesis(), &snapshot.head()?, block)?;
        self.metrics.applied(began.elapsed());
        Ok(outcome)
    }

    fn append(&self, block: Block, certificate: Certificate) -> Result<(), LedgerError> {
        let checked = self.checked().take(&block);
        let outcome = checked.map_or_else(|| self.outcome(&block), Ok)?;
        let began = Instant::now();
        self.database.commit(&block, &certificate, &outcome)?;
        self.metrics.block(&block, &certificate, &outcome, began.elapsed());
        self.waiting().committed(&block);
        if !block.transactions.is_empty() {
            info!(
                height = block.header.height,
                transactions = block.transactions.len(),
                records = outcome.records.len(),
                "block"
            );
        }
        let hands_over = block.header.next_validators != block.header.validators;
        let handover = outcome.validators().filter(|_| hands_over).cloned();
        if let Some(set) = &handover {
            info!(
                height = block.header.height,
                validators = set.validators().len(),
                "validator set"
            );
            self.validators.send_replace(set.clone());
        }
        let head = CertifiedHeader {
            header: block.header,
            certificate,
            handover,
        };
        self.heads.send_replace(Some(head));
        Ok(())
    }
}
