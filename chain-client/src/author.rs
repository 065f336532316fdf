//! Sending transactions: the next nonce, submission, and waiting until the change is proven.

use std::time::Duration;

use ledger::{Hash, Header, Id, Operation, Refusal, SignedTransaction, SigningKey, Transaction, body::Account};
use tokio::time::{Instant, timeout};

use crate::{
    ChainClient, ClientError,
    client::unexpected,
    protocol::{Answer, Request},
};

/// Longest wait for a transaction to stand in a block.
pub(crate) const SEND_DEADLINE: Duration = Duration::from_secs(60);
/// Most submissions of one operation.
pub(crate) const MAX_ROUNDS: usize = 1_000;
/// Longest wait for a new head before the account is asked for again.
const HEAD_WAIT: Duration = Duration::from_secs(2);

/// Who sends: an entity or a node, with its signing key.
#[derive(Debug, Clone)]
pub struct Author {
    /// Its id.
    pub id: Id,
    /// Its signing key.
    pub key: SigningKey,
}

/// Why a transaction does not stand on the chain.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A peer says that it breaks a rule of the chain. That is not proven: the peer may lie and others have taken it.
    #[error("the chain refused: {0}")]
    Refused(#[source] Refusal),
    /// The chain could not be asked; it may stand there later.
    #[error("{0}")]
    Chain(#[from] ClientError),
    /// It was taken and did not stand in a block in time; it may later.
    #[error("the chain took the transaction and did not put it into a block within {SEND_DEADLINE:?}")]
    Late,
}

impl Author {
    pub(crate) fn sign(&self, chain: Hash, nonce: u64, operation: Operation) -> SignedTransaction {
        Transaction {
            author: self.id,
            nonce,
            operation,
        }
        .sign(chain, &self.key)
    }
}

impl ChainClient {
    /// Sends an operation and waits until it is proven that it stands on the chain. Returns the head that proves it.
    ///
    /// The operation is signed again only when it is proven that another transaction used the nonce: the account names the
    /// transaction that used its last one, so a lost or false answer never makes anything happen twice.
    ///
    /// # Errors
    /// [`SendError::Refused`] with the rule that a peer says it breaks. What became of it is known for certain only once another
    /// transaction of the author stands on the chain: that took the nonce, or this one did before.
    pub async fn send(&self, author: &Author, operation: Operation) -> Result<Header, SendError> {
        let deadline = Instant::now() + SEND_DEADLINE;
        let mut signed: Option<SignedTransaction> = None;
        let mut rounds = 0;
        loop {
            let account = self
                .record::<Account>(author.id)
                .await?
                .map(|account| account.body)
                .unwrap_or_default();
            if let Some(sent) = &signed {
                let used = account.nonce.checked_sub(sent.transaction.nonce);
                match (used, self.head()) {
                    (Some(1), Some(head)) if account.last == sent.hash() => return Ok(head),
                    // Another transaction of this author took the nonce.
                    (Some(1), _) => signed = None,
                    (Some(0) | None, _) => {}
                    (Some(_), _) => return Err(SendError::Late),
                }
            }
            let sent = signed.get_or_insert_with(|| author.sign(self.chain(), account.nonce, operation.clone()));
            match self.submit(sent).await? {
                None | Some(Refusal::NonceUsed { .. } | Refusal::NonceAhead { .. }) => {}
                Some(refusal) => return Err(SendError::Refused(refusal)),
            }
            rounds += 1;
            if Instant::now() >= deadline || rounds > MAX_ROUNDS {
                return Err(SendError::Late);
            }
            self.next_head().await;
        }
    }

    /// Gives a transaction to every peer that can be reached, so that none of them can hold it back. `None` when one took it,
    /// otherwise why it was refused.
    pub(crate) async fn submit(&self, transaction: &SignedTransaction) -> Result<Option<Refusal>, ClientError> {
        let mut answers = self.request_each(&Request::Submit(transaction.clone()));
        let (mut refused, mut failures) = (None, Vec::new());
        while let Some((peer, answer)) = answers.recv().await {
            match answer {
                Ok(Answer::Taken) => return Ok(None),
                Ok(Answer::Refused(refusal)) => refused = refused.or(Some(refusal)),
                Ok(answer) => failures.push(self.failed(peer, unexpected(answer))),
                Err(reason) => failures.push(self.failed(peer, reason)),
            }
        }
        match refused {
            Some(refusal) => Ok(Some(refusal)),
            None => Err(ClientError::AllFailed(failures)),
        }
    }

    /// Waits for the next head: announced where heads are followed, otherwise by asking after a block's time.
    pub(crate) async fn next_head(&self) {
        let interval = Duration::from_millis(u64::from(self.genesis().block_interval_ms)).min(HEAD_WAIT);
        let mut heads = self.heads();
        heads.mark_unchanged();
        // Whether a head came or the time is over, the caller asks again.
        let _ = timeout(interval, heads.changed()).await;
    }
}
