//! Transactions that wait for a block.
//!
//! They cost nothing, so whoever wants can fill the room and the blocks. What a contract that runs needs in time has room
//! and comes into a block whatever else waits; identities, which everybody can make without end, come last.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::{Block, Hash, Id, Operation, SignedTransaction};

/// Most transactions that wait.
pub(crate) const MAX_WAITING: usize = 10_000;
/// Most of them that a contract does not need in time.
const MAX_ORDINARY: usize = 7_500;
/// Most of them that make an identity.
const MAX_NEWCOMERS: usize = 2_500;
/// Most transactions of one author that wait.
pub(crate) const MAX_WAITING_PER_AUTHOR: usize = 64;

/// How urgent a transaction is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// A running contract needs it in time, or the validators decreed it.
    Duty,
    /// Everything else of those who are known.
    Ordinary,
    /// The first of an author that the chain does not know yet.
    Newcomer,
}

impl Class {
    const fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Progress { .. }
            | Operation::Report { .. }
            | Operation::Receipt { .. }
            | Operation::Cancel { .. }
            | Operation::Decree(_) => Self::Duty,
            Operation::CreateEntity(_) | Operation::JoinNode(_) => Self::Newcomer,
            _ => Self::Ordinary,
        }
    }

    /// How many may wait before one of this class finds no room.
    const fn room(self) -> usize {
        match self {
            Self::Duty => MAX_WAITING,
            Self::Ordinary => MAX_ORDINARY,
            Self::Newcomer => MAX_NEWCOMERS,
        }
    }
}

/// Why a transaction may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// Too many wait.
    #[error("too many transactions wait already; try again after the next block")]
    All,
    /// Too many of this author wait.
    #[error("{MAX_WAITING_PER_AUTHOR} transactions of this author wait already; try again after the next block")]
    Author,
}

/// Transactions that wait for a block, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    /// By the number of their arrival.
    waiting: BTreeMap<u64, SignedTransaction>,
    arrivals: u64,
    by_hash: HashMap<Hash, u64>,
    by_author: HashMap<Id, BTreeSet<u64>>,
    /// What was passed on again since the last block.
    passed_again: BTreeSet<Hash>,
}

impl Mempool {
    /// Whether this transaction waits.
    pub(crate) fn contains(&self, hash: Hash) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// What waits: authors with a duty first, those that the chain does not know yet last, otherwise in order. The
    /// transactions of one author stay together in theirs.
    pub(crate) fn waiting(&self) -> Vec<SignedTransaction> {
        let mut ranks: HashMap<Id, Class> = HashMap::new();
        for transaction in self.waiting.values() {
            let class = Class::of(&transaction.transaction.operation);
            let rank = ranks.entry(transaction.transaction.author).or_insert(class);
            if class == Class::Duty {
                *rank = class;
            }
        }
        let mut waiting: Vec<SignedTransaction> = self.waiting.values().cloned().collect();
        waiting.sort_by_key(|transaction| ranks.get(&transaction.transaction.author).copied());
        waiting
    }

    /// What waits of one author, in order.
    pub(crate) fn of(&self, author: Id) -> impl Iterator<Item = &SignedTransaction> {
        let arrivals = self.by_author.get(&author).into_iter().flatten();
        arrivals.filter_map(|arrival| self.waiting.get(arrival))
    }

    /// Whether another transaction of its author may wait.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub(crate) fn room(&self, transaction: &SignedTransaction) -> Result<(), Full> {
        let transaction = &transaction.transaction;
        if self.waiting.len() >= Class::of(&transaction.operation).room() {
            return Err(Full::All);
        }
        if self.waits_of(transaction.author) >= MAX_WAITING_PER_AUTHOR {
            return Err(Full::Author);
        }
        Ok(())
    }

    /// How many transactions wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How many transactions of an author wait.
    pub(crate) fn waits_of(&self, author: Id) -> usize {
        self.by_author.get(&author).map_or(0, BTreeSet::len)
    }

    /// Lets a transaction wait, which was checked to follow those of its author that wait.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub(crate) fn push(&mut self, transaction: SignedTransaction) -> Result<(), Full> {
        self.room(&transaction)?;
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.by_hash.insert(transaction.hash(), arrival);
        let author = transaction.transaction.author;
        self.by_author.entry(author).or_default().insert(arrival);
        self.waiting.insert(arrival, transaction);
        Ok(())
    }

    /// Whether a transaction that waits is to be passed on again: once until the next block.
    pub(crate) fn pass_again(&mut self, hash: Hash) -> bool {
        self.passed_again.insert(hash)
    }

    /// Forgets what a block has made void: what waits of its authors with nonces that they have used.
    pub(crate) fn committed(&mut self, block: &Block) {
        self.passed_again.clear();
        let mut used: HashMap<Id, u64> = HashMap::new();
        for signed in &block.transactions {
            let highest = used.entry(signed.transaction.author).or_default();
            *highest = (*highest).max(signed.transaction.nonce);
        }
        for (author, used) in used {
            let of_author = self.by_author.get(&author).into_iter().flatten();
            let is_void = |arrival: &&u64| {
                let waits = self.waiting.get(arrival);
                waits.is_some_and(|waits| waits.transaction.nonce <= used)
            };
            for arrival in Vec::from_iter(of_author.filter(is_void).copied()) {
                self.forget(arrival);
            }
        }
    }

    /// Forgets transactions that are refused.
    pub(crate) fn remove(&mut self, hashes: &[Hash]) {
        for hash in hashes {
            if let Some(arrival) = self.by_hash.get(hash).copied() {
                self.forget(arrival);
            }
        }
    }

    fn forget(&mut self, arrival: u64) {
        let Some(transaction) = self.waiting.remove(&arrival) else {
            return;
        };
        self.by_hash.remove(&transaction.hash());
        let author = transaction.transaction.author;
        if let Some(arrivals) = self.by_author.get_mut(&author) {
            arrivals.remove(&arrival);
            if arrivals.is_empty() {
                self.by_author.remove(&author);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::{
        SigningKey, Tokens, Transaction,
        body::{Entity, Keys},
        text::Text,
    };

    use super::*;

    fn author(number: usize) -> Id {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Id::from_hash(Hash::from_bytes(bytes))
    }

    fn of(number: usize, nonce: u64, operation: Operation) -> SignedTransaction {
        Transaction {
            author: author(number),
            nonce,
            operation,
        }
        .sign(Hash::ZERO, &SigningKey::from_seed(&[1; 32]))
    }

    fn transaction(number: usize, nonce: u64) -> SignedTransaction {
        let operation = Operation::Transfer {
            to: author(number),
            amount: Tokens::from_micro(1),
        };
        of(number, nonce, operation)
    }

    fn newcomer(number: usize) -> SignedTransaction {
        let keys = Keys {
            signing: SigningKey::from_seed(&[2; 32]).public(),
            link: SigningKey::from_seed(&[3; 32]).public(),
            encryption: SigningKey::from_seed(&[4; 32]).public(),
        };
        let entity = Entity {
            name: Text::lossy("n"),
            keys,
            addresses: Vec::new(),
            recovery: None,
        };
        of(number, 0, Operation::CreateEntity(entity))
    }

    fn cancel(number: usize, nonce: u64) -> SignedTransaction {
        let contract = author(7);
        of(number, nonce, Operation::Cancel { contract })
    }

    #[test]
    fn identities_without_end_leave_room_for_others_and_contracts_always_have_some() {
        let mut pool = Mempool::default();
        for number in 0..MAX_NEWCOMERS {
            pool.push(newcomer(number)).unwrap();
        }
        assert_eq!(pool.push(newcomer(MAX_NEWCOMERS)), Err(Full::All));
        for number in MAX_NEWCOMERS..MAX_ORDINARY {
            pool.push(transaction(number, 1)).unwrap();
        }
        assert_eq!(pool.push(transaction(MAX_ORDINARY, 1)), Err(Full::All));
        pool.push(cancel(MAX_ORDINARY, 1)).unwrap();
        assert_eq!(pool.waiting()[0], cancel(MAX_ORDINARY, 1));
    }

    #[test]
    fn duties_come_into_a_block_first_with_what_their_author_said_before() {
        let mut pool = Mempool::default();
        let came = [
            newcomer(1),
            transaction(2, 1),
            transaction(3, 1),
            transaction(1, 1),
            cancel(3, 2),
        ];
        for transaction in came {
            pool.push(transaction).unwrap();
        }
        let expected = [
            transaction(3, 1),
            cancel(3, 2),
            transaction(2, 1),
            newcomer(1),
            transaction(1, 1),
        ];
        assert_eq!(pool.waiting(), expected);
    }

    #[test]
    fn one_author_cannot_fill_the_room_of_others() {
        let mut pool = Mempool::default();
        for nonce in 0..64 {
            pool.push(transaction(1, nonce)).unwrap();
        }
        assert_eq!(pool.push(transaction(1, 64)), Err(Full::Author));
        pool.push(transaction(2, 0)).unwrap();
        pool.remove(&[transaction(1, 0).hash()]);
        pool.push(transaction(1, 64)).unwrap();
        assert_eq!(pool.of(transaction(2, 0).transaction.author).count(), 1);
        assert!(!pool.contains(transaction(1, 0).hash()));
    }
}
