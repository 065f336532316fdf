//! A member of the chain: it votes while it is a validator, and follows while it is none.

use std::{sync::Arc, time::Duration};

use ledger::{
    Certificate, Operation, SigningKey, Transaction, ValidatorSet,
    body::{Charter, Misconduct},
};
use peer_link::Connections;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::{
    Ledger,
    book::{Book, acquaint},
    engine::{self, Application, EngineConfig, EngineError, Mesh, Proposed, Verdict},
    follow::{catch_up, follow, left_behind},
    ledgerd::RunError,
    node::LedgerError,
};

/// Pause between looks at a clock that is behind the chain.
const CLOCK_PAUSE: Duration = Duration::from_millis(500);

/// Least time that a block may be overdue before others are asked whether they have it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps one member's copy of the chain up.
pub(crate) struct Member {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) config: EngineConfig,
    pub(crate) mesh: Mesh,
    pub(crate) links: Connections,
    pub(crate) book: Arc<Book>,
}

impl Member {
    /// Whether it is one of these validators.
    pub(crate) fn votes(&self, set: &ValidatorSet) -> bool {
        set.get(&self.config.key.public()).is_some()
    }

    /// Keeps the copy up until it is told to stop, or the one who could tell is gone.
    pub(crate) async fn keep(self, stop: watch::Receiver<()>) -> Result<(), RunError> {
        tokio::select! {
            ended = self.vote_and_follow(&stop) => ended,
            () = acquaint(&self.book, &self.ledger, &self.links) => Ok(()),
        }
    }

    async fn vote_and_follow(&self, stop: &watch::Receiver<()>) -> Result<(), RunError> {
        while matches!(stop.has_changed(), Ok(false)) {
            if self.votes(&self.ledger.validators()) {
                if self.vote(stop).await? == Left::Behind {
                    tokio::select! {
                        ended = catch_up(&self.ledger, &self.links, &self.book) => ended.map_err(RunError::Follow)?,
                        () = stopped(stop) => {}
                    }
                }
            } else {
                let votes = |set: &ValidatorSet| self.votes(set);
                tokio::select! {
                    ended = follow(&self.ledger, &self.links, &self.book, votes) => ended.map_err(RunError::Follow)?,
                    () = stopped(stop) => {}
                }
            }
        }
        Ok(())
    }

    /// Takes part in consensus, once the clock is right, for as long as it is a validator and hears the others.
    async fn vote(&self, stop: &watch::Receiver<()>) -> Result<Left, EngineError> {
        tokio::select! {
            () = clock_is_right(&self.ledger) => {}
            () = stopped(stop) => return Ok(Left::Stopped),
        }
        let mut sets = self.ledger.validator_sets();
        let mut left = Left::Stopped;
        let until = async {
            left = tokio::select! {
                () = stopped(stop) => Left::Stopped,
                // The sender lives as long as the ledger.
                _ = sets.wait_for(|set| !self.votes(set)) => Left::Removed,
                () = left_behind(&self.ledger, &self.links, &self.book, self.patience()) => Left::Behind,
            };
        };
        let application = Consensus {
            ledger: Arc::clone(&self.ledger),
            key: self.config.key.clone(),
        };
        engine::run_among(self.config.clone(), self.mesh.clone(), application, until).await?;
        Ok(left)
    }

    /// How long a block may be overdue before others are asked whether they have it.
    fn patience(&self) -> Duration {
        PATIENCE.max(3 * self.config.block_interval)
    }
}

/// Why a validator left consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It was told to stop.
    Stopped,
    /// It is no validator any more.
    Removed,
    /// Others have blocks that it does not hear of.
    Behind,
}

/// Waits until it is told to stop.
async fn stopped(stop: &watch::Receiver<()>) {
    // A dropped sender is a request to stop as well.
    let _ = stop.clone().changed().await;
}

/// Waits until the clock is no longer behind the chain. Who asks is answered meanwhile; nothing is proposed or voted for.
async fn clock_is_right(ledger: &Ledger) {
    let mut said = false;
    // What the database cannot do the engine will say.
    while let Err(error @ LedgerError::Behind { .. }) = ledger.check_clock() {
        if !said {
            warn!("{error}; no block is made until it has caught up");
            said = true;
        }
        tokio::time::sleep(CLOCK_PAUSE).await;
    }
}

/// The ledger as consensus drives it.
struct Consensus {
    ledger: Arc<Ledger>,
    /// The validator's voting key, by which it is an author as well.
    key: SigningKey,
}

impl Application for Consensus {
    type Error = LedgerError;

    fn next_height(&self) -> Result<u64, LedgerError> {
        Ok(self.ledger.next_height()?)
    }

    fn validators(&self, _height: u64) -> ValidatorSet {
        self.ledger.validators()
    }

    fn propose(&mut self, _height: u64, _round: u32) -> Result<Proposed, LedgerError> {
        let block = self.ledger.propose()?;
        Ok(Proposed {
            block: block.header.id(),
            bytes: ledger::encoding::encode(&block),
        })
    }

    fn validate(&mut self, _height: u64, bytes: &[u8]) -> Result<Verdict, LedgerError> {
        match self.ledger.validate(bytes) {
            Ok(block) => Ok(Verdict::Valid(block)),
            Err(error @ LedgerError::Database(_)) => Err(error),
            Err(error) => Ok(Verdict::Refused(error.to_string())),
        }
    }

    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), LedgerError> {
        self.ledger.commit(bytes, certificate)
    }

    fn misbehaved(&mut self, proven: Vec<Misconduct>) -> Result<(), LedgerError> {
        for misconduct in proven {
            let (validator, height) = (misconduct.validator, misconduct.height);
            warn!(%validator, height, "validator signed twice; its keys may be in use elsewhere");
            let author = Charter::author_of(&self.key.public());
            let transaction = Transaction {
                author,
                nonce: self.ledger.next_nonce(author)?,
                operation: Operation::ReportMisconduct(misconduct),
            };
            // Others report it as well, and the first one is recorded.
            let submission = self
                .ledger
                .submit(transaction.sign(self.ledger.genesis().hash(), &self.key))?;
            debug!(%validator, height, ?submission, "misconduct reported");
        }
        Ok(())
    }

    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, LedgerError> {
        let snapshot = self.ledger.snapshot()?;
        let (block, certificate) = (snapshot.block(height)?, snapshot.certificate(height)?);
        Ok(block
            .zip(certificate)
            .map(|(block, certificate)| (ledger::encoding::encode(&block), certificate)))
    }
}

#[cfg(test)]
mod tests {
    use ledger::{
        Timestamp,
        body::Pair,
        consensus::{VoteKind, vote_bytes},
    };

    use super::*;
    use crate::{
        Clock, Database,
        database::tests::{append, genesis},
        metrics::Sample,
    };

    #[test]
    fn what_the_engine_saw_signed_twice_stands_in_the_next_block_once() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(&[9; 32]);
        let database = Database::open(&folder.path().join("chain.redb"), genesis()).unwrap();
        append(&database, Timestamp::from_millis(1_000));
        let ledger = Arc::new(Ledger::new(database, key.public(), Clock::default()).unwrap());
        let chain = ledger.genesis().hash();
        let vote = |block| {
            let bytes = vote_bytes(chain, VoteKind::Precommit, 1, 0, block);
            (block, key.sign_bytes(&bytes))
        };
        let misconduct = Misconduct {
            validator: key.public(),
            height: 1,
            round: 0,
            pair: Pair::Votes(VoteKind::Precommit, [None, Some(chain)].map(vote)),
        };
        let mut consensus = Consensus {
            ledger: Arc::clone(&ledger),
            key: key.clone(),
        };
        consensus
            .misbehaved(vec![misconduct.clone(), misconduct.clone()])
            .unwrap();
        let block = ledger.propose().unwrap();
        let operations: Vec<_> = block
            .transactions
            .iter()
            .map(|signed| &signed.transaction.operation)
            .collect();
        assert_eq!(operations, [&Operation::ReportMisconduct(misconduct)]);
        let (bytes, id) = (ledger::encoding::encode(&block), block.header.id());
        assert_eq!(ledger.validate(&bytes).unwrap(), id);
        let certificate = Certificate {
            height: 2,
            round: 0,
            block: id,
            signatures: vec![],
        };
        consensus.commit(&bytes, certificate).unwrap();
        let text = ledger.metrics().text(&Sample::default()).unwrap();
        assert!(text.contains("zos_ledger_evidence_recorded_total 1\n"), "{text}");
    }
}
