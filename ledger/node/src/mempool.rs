//! Transactions that wait for a block.

use std::collections::{BTreeMap, VecDeque};

use ledger::{Hash, Id, SignedTransaction};

/// Most transactions that wait.
pub(crate) const MAX_WAITING: usize = 10_000;
/// Most transactions of one author that wait.
pub(crate) const MAX_WAITING_PER_AUTHOR: usize = 64;

/// Why a transaction may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// Too many wait.
    #[error("{MAX_WAITING} transactions wait already; try again after the next block")]
    All,
    /// Too many of this author wait.
    #[error("{MAX_WAITING_PER_AUTHOR} transactions of this author wait already; try again after the next block")]
    Author,
}

/// Transactions that wait for a block, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Mempool {
    waiting: VecDeque<(Hash, SignedTransaction)>,
    by_author: BTreeMap<Id, usize>,
}

impl Mempool {
    /// Whether this transaction waits.
    pub(crate) fn contains(&self, hash: Hash) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == hash)
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> Vec<SignedTransaction> {
        self.waiting
            .iter()
            .map(|(_, transaction)| transaction.clone())
            .collect()
    }

    /// What waits of one author, in order.
    pub(crate) fn of(&self, author: Id) -> Vec<SignedTransaction> {
        let of_author = |transaction: &&SignedTransaction| transaction.transaction.author == author;
        self.waiting
            .iter()
            .map(|(_, transaction)| transaction)
            .filter(of_author)
            .cloned()
            .collect()
    }

    /// Whether another transaction of this author may wait.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub(crate) fn room(&self, author: Id) -> Result<(), Full> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Full::All);
        }
        if self.waits_of(author) >= MAX_WAITING_PER_AUTHOR {
            return Err(Full::Author);
        }
        Ok(())
    }

    /// How many transactions of an author wait.
    pub(crate) fn waits_of(&self, author: Id) -> usize {
        self.by_author.get(&author).copied().unwrap_or(0)
    }

    /// Lets a transaction wait, which was checked to follow those of its author that wait.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub(crate) fn push(&mut self, transaction: SignedTransaction) -> Result<(), Full> {
        let author = transaction.transaction.author;
        self.room(author)?;
        *self.by_author.entry(author).or_default() += 1;
        self.waiting.push_back((transaction.hash(), transaction));
        Ok(())
    }

    /// Forgets transactions that stand in a block or are refused.
    pub(crate) fn remove(&mut self, hashes: &[Hash]) {
        self.waiting.retain(|(hash, _)| !hashes.contains(hash));
        self.by_author.clear();
        for (_, transaction) in &self.waiting {
            *self.by_author.entry(transaction.transaction.author).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Operation, SigningKey, Tokens, Transaction};

    use super::*;

    fn transaction(author: u8, nonce: u64) -> SignedTransaction {
        let author = Id::from_hash(Hash::from_bytes([author; 32]));
        let operation = Operation::Transfer {
            to: author,
            amount: Tokens::from_micro(1),
        };
        Transaction {
            author,
            nonce,
            operation,
        }
        .sign(Hash::ZERO, &SigningKey::from_seed(&[1; 32]))
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
        assert_eq!(pool.of(transaction(2, 0).transaction.author).len(), 1);
        assert!(!pool.contains(transaction(1, 0).hash()));
    }
}
