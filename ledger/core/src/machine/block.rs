//! Whole blocks: proposing one, and checking one that was received.

use crate::{
    block::{Block, Header, MAX_TRANSACTIONS},
    body::Charter,
    consensus::ValidatorSet,
    encoding::{MAX_BLOCK, MAX_TRANSACTION, encode},
    genesis::{Genesis, Issuance},
    hash::Hash,
    key::PublicKey,
    machine::{Fault, Outcome, Refusal, Session, check_signatures},
    signatures::Signatures,
    store::{Store, StoreError},
    transaction::SignedTransaction,
    tree::TreeError,
    unit::{Height, Timestamp},
};

/// Bytes of a block that the header takes at most.
const HEADER_BYTES: usize = 1_024;

/// The newest version of the rules that this program has; it has all before.
pub const PROTOCOL: u32 = 1;
/// The version that a chain begins with.
const FIRST_PROTOCOL: u32 = 1;

/// Where a chain stands: what the next block builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Height of the last block, 0 for the genesis.
    pub height: Height,
    /// Its id, [`Hash::ZERO`] for the genesis.
    pub id: Hash,
    /// Its time.
    pub time: Timestamp,
    /// Root of the state tree after it.
    pub state: Hash,
    /// The set that certifies the next block, as the charter has it.
    pub validators: ValidatorSet,
}

impl Head {
    /// The head of a chain without a block.
    #[must_use]
    pub fn genesis(genesis: &Genesis, outcome: &Outcome) -> Self {
        Self {
            height: 0,
            id: Hash::ZERO,
            time: genesis.time,
            state: outcome.root,
            validators: genesis.validators.clone(),
        }
    }

    /// The head after a block that [`apply_block`] accepted, and what it changed.
    #[must_use]
    pub fn after(&self, header: &Header, outcome: &Outcome) -> Self {
        Self {
            height: header.height,
            id: header.id(),
            time: header.time,
            state: header.state,
            validators: outcome.validators().unwrap_or(&self.validators).clone(),
        }
    }
}

/// Why a block is not the next one.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// A field of the header is not what it must be.
    #[error("block {height}: header's {field} is wrong")]
    Header {
        /// Height that the block claims.
        height: Height,
        /// The field.
        field: &'static str,
    },
    /// Too many transactions, or one is too large.
    #[error("block {0} is larger than allowed")]
    Size(Height),
    /// A transaction breaks a rule.
    #[error("block {height}: transaction {index}")]
    Transaction {
        /// Height of the block.
        height: Height,
        /// Position of the transaction.
        index: usize,
        /// The rule.
        #[source]
        refusal: Refusal,
    },
    /// The block is made by rules that this program does not have.
    #[error("block {height} is made by protocol {needed}, this program has {PROTOCOL}; install a later version of it")]
    Protocol {
        /// Height of the block.
        height: Height,
        /// Version of the rules.
        needed: u32,
    },
    /// The store failed; nothing is known about the block.
    #[error("block: state")]
    Store(#[source] StoreError),
    /// The state tree could not be read.
    #[error("block: state tree")]
    Tree(#[source] TreeError),
}

/// The records that exist from the start.
///
/// # Errors
/// [`BlockError::Tree`] never in practice: an empty tree has nothing to read.
pub fn genesis_outcome(genesis: &Genesis) -> Result<Outcome, BlockError> {
    let store = crate::store::MemoryStore::default();
    let signatures = Signatures::default();
    let mut session = Session::new(&store, &signatures, genesis.hash(), 0, genesis.time);
    for founder in &genesis.entities {
        session
            .found(&founder.entity, founder.balance)
            .map_err(BlockError::Store)?;
    }
    let charter = Charter {
        validators: genesis.validators.clone(),
        protocol: FIRST_PROTOCOL,
        upgrade: None,
        attest_ms: genesis.attest_ms,
        name_deposit: genesis.name_deposit,
    };
    session.found_charter(charter).map_err(BlockError::Store)?;
    session.finish(Hash::ZERO).map_err(BlockError::Tree)
}

fn begin<'a, S: Store + ?Sized>(
    store: &'a S,
    signatures: &'a Signatures,
    genesis: &Genesis,
    height: Height,
    time: Timestamp,
) -> Result<Session<'a, S>, BlockError> {
    let mut session = Session::new(store, signatures, genesis.hash(), height, time);
    session.begin_upgrade().map_err(BlockError::Store)?;
    let needed = session.protocol().map_err(BlockError::Store)?;
    if needed > PROTOCOL {
        return Err(BlockError::Protocol { height, needed });
    }
    if let Issuance::Scheduled {
        beneficiary,
        per_block,
        until,
    } = genesis.issuance
        && height <= until
    {
        let founder = usize::try_from(beneficiary)
            .ok()
            .and_then(|index| genesis.entities.get(index));
        let to = founder
            .expect("a checked genesis names its beneficiary")
            .entity
            .founding_id();
        session.issue(to, per_block).map_err(BlockError::Store)?;
    }
    session.settle_due().map_err(BlockError::Store)?;
    Ok(session)
}

/// A block that was made.
#[derive(Debug)]
pub struct Proposal {
    /// The block.
    pub block: Block,
    /// What it changes.
    pub outcome: Outcome,
    /// What was refused and is left out, with the reason.
    pub refused: Vec<(Hash, Refusal)>,
}

/// Makes the next block of `waiting` transactions, in their order. Those that are refused are left out and given back with
/// the reason; those that no longer fit are neither.
///
/// # Errors
/// [`BlockError`] when the store fails.
pub fn propose_block<S: Store + ?Sized>(
    (store, signatures): (&S, &Signatures),
    genesis: &Genesis,
    head: &Head,
    proposer: PublicKey,
    now: Timestamp,
    waiting: &[SignedTransaction],
) -> Result<Proposal, BlockError> {
    let height = head.height + 1;
    let time = now.max(head.time.plus(1));
    let mut session = begin(store, signatures, genesis, height, time)?;
    let mut transactions = Vec::new();
    let mut refused = Vec::new();
    let mut room = MAX_BLOCK - HEADER_BYTES;
    for transaction in waiting {
        let size = encode(transaction).len();
        if size > room || transactions.len() >= MAX_TRANSACTIONS {
            break;
        }
        match session.apply(transaction) {
            Ok(()) => {
                room -= size;
                transactions.push(transaction.clone());
            }
            Err(Fault::Refused(refusal)) => refused.push((transaction.hash(), refusal)),
            Err(Fault::Store(error)) => return Err(BlockError::Store(error)),
        }
    }
    let outcome = session.finish(head.state).map_err(BlockError::Tree)?;
    let header = Header {
        chain: genesis.hash(),
        height,
        time,
        previous: head.id,
        transactions: Block::transactions_hash(&transactions),
        state: outcome.root,
        validators: head.validators.hash(),
        next_validators: outcome.validators().unwrap_or(&head.validators).hash(),
        proposer,
    };
    Ok(Proposal {
        block: Block { header, transactions },
        outcome,
        refused,
    })
}

/// Checks that `block` is the next one after `head` and gives what it changes.
///
/// The block time's bound against a validator's clock is checked by validators when they vote, not here: a block that was
/// committed stays valid for ever.
///
/// # Errors
/// [`BlockError`] names the first check that failed.
pub fn apply_block<S: Store + Sync + ?Sized>(
    (store, signatures): (&S, &Signatures),
    genesis: &Genesis,
    head: &Head,
    block: &Block,
) -> Result<Outcome, BlockError> {
    let header = &block.header;
    let height = header.height;
    let checks = [
        ("chain", header.chain == genesis.hash()),
        ("height", height == head.height + 1),
        ("time", header.time > head.time),
        ("previous", header.previous == head.id),
        (
            "transactions",
            header.transactions == Block::transactions_hash(&block.transactions),
        ),
        ("validators", header.validators == head.validators.hash()),
        ("proposer", head.validators.get(&header.proposer).is_some()),
    ];
    for (field, holds) in checks {
        if !holds {
            return Err(BlockError::Header { height, field });
        }
    }
    let too_large = block
        .transactions
        .iter()
        .any(|transaction| encode(transaction).len() > MAX_TRANSACTION);
    if too_large || block.transactions.len() > MAX_TRANSACTIONS {
        return Err(BlockError::Size(height));
    }
    check_signatures((store, signatures), genesis.hash(), &block.transactions);
    let mut session = begin(store, signatures, genesis, height, header.time)?;
    for (index, transaction) in block.transactions.iter().enumerate() {
        match session.apply(transaction) {
            Ok(()) => {}
            Err(Fault::Refused(refusal)) => return Err(BlockError::Transaction { height, index, refusal }),
            Err(Fault::Store(error)) => return Err(BlockError::Store(error)),
        }
    }
    let outcome = session.finish(head.state).map_err(BlockError::Tree)?;
    if outcome.root != header.state {
        return Err(BlockError::Header { height, field: "state" });
    }
    if header.next_validators != outcome.validators().unwrap_or(&head.validators).hash() {
        let field = "next_validators";
        return Err(BlockError::Header { height, field });
    }
    Ok(outcome)
}
