//! Sending many operations of one author: they wait for a block together and not one after the other.
//!
//! ```text
//! waiting ── fill: signed with consecutive nonces ──► sent ── the account names one of them ──► done, with those before it
//!    ▲                                                 │
//!    └────── those behind one that is refused ◄────────┘
//! ```

use std::collections::VecDeque;

use ledger::{Hash, Operation, Refusal, SignedTransaction, body::Account};
use tokio::time::Instant;

use crate::{
    Author, ChainClient, ClientError, SendError,
    author::{MAX_ROUNDS, SEND_DEADLINE},
};

/// Most transactions that wait for a block at a time. A peer lets 64 of one author wait.
const MAX_SENT: usize = 48;

/// What became of an operation of [`ChainClient::send_all`].
pub type Outcome = Result<(), SendError>;

impl ChainClient {
    /// Sends operations of one author, in this order, and waits until it is proven of each that it stands on the chain or a peer
    /// has refused it. What each came to is returned in the order of the operations.
    ///
    /// One that comes behind a refused one is signed again with the nonce before, and both may stand on the chain. So this is
    /// for operations of which the chain refuses the second, as it does a node's progress and reports. Nothing else of the author
    /// may be sent meanwhile.
    pub async fn send_all(&self, author: &Author, operations: Vec<Operation>) -> Vec<Outcome> {
        let mut batch = Batch::new(operations);
        let mut deadline = Instant::now() + SEND_DEADLINE;
        for _ in 0..MAX_ROUNDS {
            let account = match self.record::<Account>(author.id).await {
                Ok(account) => account.map(|account| account.body).unwrap_or_default(),
                Err(error) => return batch.give_up(Some(error)),
            };
            if batch.seen(&account) == Progress::Some {
                deadline = Instant::now() + SEND_DEADLINE;
            }
            batch.fill(account.nonce, |nonce, operation| {
                author.sign(self.chain(), nonce, operation)
            });
            if let Err(error) = self.give(author, &mut batch, account.nonce).await {
                return batch.give_up(Some(error));
            }
            if batch.is_over() || Instant::now() >= deadline {
                break;
            }
            self.next_head().await;
        }
        batch.give_up(None)
    }

    /// Gives peers what they do not have yet, and the first one again: that is how its refusal comes to be known.
    async fn give(&self, author: &Author, batch: &mut Batch, nonce: u64) -> Result<(), ClientError> {
        let mut at = 0;
        while let Some(sent) = batch.sent.get(at) {
            if at == 0 || !sent.given {
                match self.submit(&sent.transaction).await {
                    Ok(None | Some(Refusal::NonceUsed { .. } | Refusal::NonceAhead { .. })) => batch.given(at),
                    Ok(Some(refusal)) => {
                        batch.refused(at, refusal);
                        batch.fill(nonce, |nonce, operation| author.sign(self.chain(), nonce, operation));
                        continue;
                    }
                    // Those before it are on their way; it is tried again.
                    Err(_) if at > 0 => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            at += 1;
        }
        Ok(())
    }
}

/// Whether the chain has come further with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

/// A transaction that peers have or are to have.
#[derive(Debug)]
struct Sent {
    index: usize,
    transaction: SignedTransaction,
    given: bool,
}

/// Operations of one author on their way.
#[derive(Debug)]
struct Batch {
    waiting: VecDeque<(usize, Operation)>,
    /// With consecutive nonces.
    sent: VecDeque<Sent>,
    outcomes: Vec<Option<Outcome>>,
}

impl Batch {
    fn new(operations: Vec<Operation>) -> Self {
        Self {
            outcomes: operations.iter().map(|_| None).collect(),
            waiting: operations.into_iter().enumerate().collect(),
            sent: VecDeque::new(),
        }
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// Takes over what the account proves.
    fn seen(&mut self, account: &Account) -> Progress {
        let first = self.sent.front().map(|sent| sent.transaction.transaction.nonce);
        let used = first.and_then(|first| account.nonce.checked_sub(first));
        let Some(used) = used
            .and_then(|used| usize::try_from(used).ok())
            .filter(|used| *used > 0)
        else {
            return Progress::None;
        };
        let last: Option<Hash> = used
            .checked_sub(1)
            .and_then(|at| Some(self.sent.get(at)?.transaction.hash()));
        // Another transaction of the author took a nonce of these: which of them stand is not known.
        let stand = last == Some(account.last);
        for sent in self.sent.drain(..used.min(self.sent.len())) {
            self.outcomes[sent.index] = Some(if stand { Ok(()) } else { Err(SendError::Late) });
        }
        if !stand {
            self.sign_again(0);
        }
        Progress::Some
    }

    /// Signs as many as may wait; `next` is the author's next nonce where none is sent.
    fn fill(&mut self, next: u64, sign: impl Fn(u64, Operation) -> SignedTransaction) {
        while self.sent.len() < MAX_SENT {
            let Some((index, operation)) = self.waiting.pop_front() else {
                return;
            };
            let nonce = self
                .sent
                .back()
                .map_or(next, |sent| sent.transaction.transaction.nonce + 1);
            self.sent.push_back(Sent {
                index,
                transaction: sign(nonce, operation),
                given: false,
            });
        }
    }

    fn given(&mut self, at: usize) {
        if let Some(sent) = self.sent.get_mut(at) {
            sent.given = true;
        }
    }

    /// The one at `at` takes no nonce, so those behind it have the wrong one.
    fn refused(&mut self, at: usize, refusal: Refusal) {
        if let Some(sent) = self.sent.remove(at) {
            self.outcomes[sent.index] = Some(Err(SendError::Refused(refusal)));
        }
        self.sign_again(at);
    }

    fn sign_again(&mut self, from: usize) {
        for sent in self.sent.drain(from..).rev() {
            self.waiting
                .push_front((sent.index, sent.transaction.transaction.operation));
        }
    }

    /// What became of each; of those that are still on their way it is not known. The first of these has the reason.
    fn give_up(self, mut error: Option<ClientError>) -> Vec<Outcome> {
        let unknown = |outcome: Option<Outcome>| {
            outcome.unwrap_or_else(|| Err(error.take().map_or(SendError::Late, SendError::Chain)))
        };
        self.outcomes.into_iter().map(unknown).collect()
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Id, SigningKey, Tokens, Transaction};

    use super::*;

    fn operation(n: u64) -> Operation {
        Operation::Transfer {
            to: Id::from_hash(Hash::ZERO),
            amount: Tokens::from_micro(n),
        }
    }

    fn sign(nonce: u64, operation: Operation) -> SignedTransaction {
        let key = SigningKey::from_seed(&[1; 32]);
        Transaction {
            author: Id::from_hash(Hash::ZERO),
            nonce,
            operation,
        }
        .sign(Hash::ZERO, &key)
    }

    fn batch(count: u64) -> Batch {
        let mut batch = Batch::new((0..count).map(operation).collect());
        batch.fill(10, sign);
        batch
    }

    fn account(nonce: u64, last: Hash) -> Account {
        Account {
            nonce,
            last,
            ..Account::default()
        }
    }

    /// Index and nonce of those that are sent.
    fn sent(batch: &Batch) -> Vec<(usize, u64)> {
        let nonce = |sent: &Sent| sent.transaction.transaction.nonce;
        batch.sent.iter().map(|sent| (sent.index, nonce(sent))).collect()
    }

    #[test]
    fn those_up_to_the_one_that_the_account_names_stand_and_others_follow() {
        let mut batch = batch(100);
        assert_eq!(batch.sent.len(), MAX_SENT);
        let third = batch.sent[2].transaction.hash();
        assert_eq!(batch.seen(&account(10, Hash::ZERO)), Progress::None);
        assert_eq!(batch.seen(&account(13, third)), Progress::Some);
        batch.fill(13, sign);
        assert_eq!(batch.sent.len(), MAX_SENT);
        assert_eq!((sent(&batch)[0], sent(&batch)[MAX_SENT - 1]), ((3, 13), (50, 60)));
        let outcomes = batch.give_up(None);
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        assert_eq!(outcomes.len(), 100);
    }

    #[test]
    fn those_behind_a_refused_one_are_signed_again_with_the_nonces_that_are_free() {
        let mut batch = batch(4);
        (0..4).for_each(|at| batch.given(at));
        batch.refused(1, Refusal::Invalid("x".to_owned()));
        batch.fill(10, sign);
        assert_eq!(sent(&batch), [(0, 10), (2, 11), (3, 12)]);
        let given: Vec<bool> = batch.sent.iter().map(|sent| sent.given).collect();
        assert_eq!(given, [true, false, false]);
        let last = batch.sent[2].transaction.hash();
        assert_eq!(batch.seen(&account(13, last)), Progress::Some);
        assert!(batch.is_over());
        let outcomes = batch.give_up(None);
        assert!(matches!(&outcomes[1], Err(SendError::Refused(Refusal::Invalid(_)))));
        assert!([0, 2, 3].iter().all(|index| outcomes[*index].is_ok()));
    }

    #[test]
    fn nonce_that_another_transaction_took_leaves_it_open_what_stands() {
        let mut batch = batch(3);
        assert_eq!(batch.seen(&account(12, Hash::from_bytes([7; 32]))), Progress::Some);
        batch.fill(12, sign);
        assert_eq!(sent(&batch), [(2, 12)]);
        let outcomes = batch.give_up(None);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(SendError::Late))));
    }

    #[test]
    fn account_far_ahead_leaves_nothing_on_its_way() {
        let mut batch = batch(2);
        assert_eq!(batch.seen(&account(99, Hash::ZERO)), Progress::Some);
        assert!(batch.is_over());
    }
}
