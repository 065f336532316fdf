//! Sending transactions: the next nonce, submission, and waiting until the change is proven.

use std::time::Duration;

use ledger::{Hash, Header, Id, Operation, Refusal, SignedTransaction, SigningKey, Transaction, body::Account};
use tokio::time::{Instant, timeout};

use crate::{
    ChainClient, ClientError,
    protocol::{Answer, Request},
};

/// Longest wait for a transaction to stand in a block.
const SEND_DEADLINE: Duration = Duration::from_secs(60);
/// Attempts when another transaction of the same author took the nonce.
const NONCE_ATTEMPTS: usize = 5;
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
    /// It breaks a rule of the chain and has changed nothing.
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
    fn sign(&self, chain: Hash, nonce: u64, operation: Operation) -> SignedTransaction {
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
    /// # Errors
    /// [`SendError::Refused`] with the rule that it breaks; otherwise what became of it is not known.
    pub async fn send(&self, author: &Author, operation: Operation) -> Result<Header, SendError> {
        let mut last = None;
        for _ in 0..NONCE_ATTEMPTS {
            let nonce = self.next_nonce(author.id).await?;
            let signed = author.sign(self.chain(), nonce, operation.clone());
            let request = Request::Submit(signed);
            match self.request(&request).await? {
                Answer::Taken => return self.wait_for(&request, author.id, nonce).await,
                Answer::Refused(refusal @ (Refusal::NonceUsed { .. } | Refusal::NonceAhead { .. })) => {
                    last = Some(refusal);
                    self.next_head().await;
                }
                Answer::Refused(refusal) => return Err(SendError::Refused(refusal)),
                _ => return Err(SendError::Late),
            }
        }
        Err(last.map_or(SendError::Late, SendError::Refused))
    }

    async fn next_nonce(&self, author: Id) -> Result<u64, ClientError> {
        Ok(self
            .record::<Account>(author)
            .await?
            .map_or(0, |account| account.body.nonce))
    }

    /// Waits until the author's nonce is proven to be used. What does not stand in the next block is submitted again, so that
    /// a transaction which another one made impossible is refused by its reason instead of being waited for.
    async fn wait_for(&self, request: &Request, author: Id, nonce: u64) -> Result<Header, SendError> {
        let deadline = Instant::now() + SEND_DEADLINE;
        loop {
            self.next_head().await;
            if self.next_nonce(author).await? > nonce
                && let Some(head) = self.head()
            {
                return Ok(head);
            }
            if Instant::now() >= deadline {
                return Err(SendError::Late);
            }
            match self.request(request).await? {
                Answer::Refused(Refusal::NonceUsed { .. }) | Answer::Taken => {}
                Answer::Refused(refusal) => return Err(SendError::Refused(refusal)),
                _ => return Err(SendError::Late),
            }
        }
    }

    /// Waits for the next head: announced where heads are followed, otherwise by asking after a block's time.
    async fn next_head(&self) {
        let interval = Duration::from_millis(u64::from(self.genesis().block_interval_ms)).min(HEAD_WAIT);
        let mut heads = self.heads();
        heads.mark_unchanged();
        // Whether a head came or the time is over, the caller asks again.
        let _ = timeout(interval, heads.changed()).await;
    }
}
