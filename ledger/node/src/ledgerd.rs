//! One validator running: database, consensus and the peer link put together.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ledger::{Certificate, Hash, ValidatorSet};
use peer_link::{BindError, Endpoint, PeerAddress, Protocols, protocol};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::warn;

use crate::{
    Clock, Database, DatabaseError, Home, HomeError, Ledger,
    engine::{self, Application, EngineConfig, EngineError, Proposed, Timeouts, Verdict},
    node::LedgerError,
    serve::serve,
};

/// What a validator runs with.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Its directory, made by [`Home::init`].
    pub directory: PathBuf,
    /// Where its peer link listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it; empty: where this machine is seen along its default route.
    pub advertise: Vec<SocketAddr>,
    /// Where it takes the time from.
    pub clock: Clock,
}

impl RunOptions {
    /// The validator in `directory`, listening at `listen`, with this machine's clock.
    #[must_use]
    pub fn new(directory: PathBuf, listen: SocketAddr) -> Self {
        let clock = Clock::default();
        Self {
            directory,
            listen,
            advertise: Vec::new(),
            clock,
        }
    }
}

/// Pause between looks at a clock that is behind the chain.
const CLOCK_PAUSE: Duration = Duration::from_millis(500);

/// Why a validator did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The peer link cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Consensus failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The peer link's socket is lost.
    #[error("the peer link lost its socket; start the validator again")]
    LinkLost,
    /// The task of the engine ended in a panic.
    #[error("the consensus task ended unexpectedly")]
    Lost,
}

/// A validator that runs.
#[derive(Debug)]
#[must_use = "dropping it stops the validator"]
pub struct Running {
    chain: Hash,
    address: PeerAddress,
    ledger: Arc<Ledger>,
    endpoint: Endpoint,
    serving: peer_link::Serving,
    stop: oneshot::Sender<()>,
    engine: JoinHandle<Result<(), EngineError>>,
}

/// Starts a validator.
///
/// # Errors
/// [`RunError`] says what cannot be used.
pub async fn run(options: RunOptions) -> Result<Running, RunError> {
    let home = Home::open(&options.directory)?;
    let chain = home.genesis.hash();
    let database = Database::open(&home.database(), home.genesis.clone())?;
    let ledger = Arc::new(Ledger::new(database, home.consensus_key.public(), options.clock)?);
    let endpoint = Endpoint::bind(&home.link_key, options.listen).await?;
    let reached_at = if options.advertise.is_empty() {
        endpoint.reached_at(&[])
    } else {
        options.advertise
    };
    let address = PeerAddress::new(endpoint.id(), reached_at).map_err(|error| BindError::Setup(error.to_string()))?;
    let answering = Arc::clone(&ledger);
    let protocols = Protocols::new().with(protocol::LEDGER, move |connection| {
        serve(Arc::clone(&answering), connection)
    });
    let serving = endpoint.serve(protocols);
    let config = EngineConfig {
        chain,
        key: home.consensus_key.clone(),
        directory: home.consensus(),
        block_interval: Duration::from_millis(u64::from(home.genesis.block_interval_ms)),
        timeouts: Timeouts::default(),
        moniker: endpoint.id().to_string(),
    };
    let (stop, stopped) = oneshot::channel();
    let application = Consensus(Arc::clone(&ledger));
    let waiting = Arc::clone(&ledger);
    let engine = tokio::spawn(async move {
        let shutdown = async {
            // A dropped sender is a request to stop as well.
            let _ = stopped.await;
        };
        tokio::pin!(shutdown);
        tokio::select! {
            () = clock_is_right(&waiting) => {}
            () = &mut shutdown => return Ok(()),
        }
        engine::run(config, application, shutdown).await.map(|_| ())
    });
    Ok(Running {
        chain,
        address,
        ledger,
        endpoint,
        serving,
        stop,
        engine,
    })
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

impl Running {
    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.chain
    }

    /// Where the validator answers.
    #[must_use]
    pub fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// The chain as this validator has it.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Waits until the validator fails by itself.
    ///
    /// # Errors
    /// [`RunError`] with the reason.
    pub async fn failed(&mut self) -> Result<(), RunError> {
        tokio::select! {
            ended = &mut self.engine => ended.map_err(|_| RunError::Lost)?.map_err(RunError::from),
            // A validator that nobody reaches is of no use; whoever supervises it starts another.
            () = self.serving.ended() => Err(RunError::LinkLost),
        }
    }

    /// Closes the link of a validator that has failed.
    pub async fn close(self) {
        self.endpoint.close().await;
    }

    /// Stops in order: consensus first, then the link.
    ///
    /// # Errors
    /// [`RunError`] when consensus had failed.
    pub async fn stop(self) -> Result<(), RunError> {
        // The receiver is gone only when the engine has ended already.
        let _ = self.stop.send(());
        let ended = self.engine.await.map_err(|_| RunError::Lost)?;
        self.endpoint.close().await;
        ended.map_err(RunError::from)
    }
}

/// The ledger as consensus drives it.
struct Consensus(Arc<Ledger>);

impl Application for Consensus {
    type Error = LedgerError;

    fn next_height(&self) -> Result<u64, LedgerError> {
        Ok(self.0.next_height()?)
    }

    fn validators(&self, _height: u64) -> ValidatorSet {
        self.0.validators()
    }

    fn propose(&mut self, _height: u64, _round: u32) -> Result<Proposed, LedgerError> {
        let block = self.0.propose()?;
        Ok(Proposed {
            block: block.header.id(),
            bytes: ledger::encoding::encode(&block),
        })
    }

    fn validate(&mut self, _height: u64, bytes: &[u8]) -> Result<Verdict, LedgerError> {
        match self.0.validate(bytes) {
            Ok(block) => Ok(Verdict::Valid(block)),
            Err(error @ LedgerError::Database(_)) => Err(error),
            Err(error) => Ok(Verdict::Refused(error.to_string())),
        }
    }

    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), LedgerError> {
        self.0.commit(bytes, certificate)
    }

    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, LedgerError> {
        let snapshot = self.0.snapshot()?;
        let (block, certificate) = (snapshot.block(height)?, snapshot.certificate(height)?);
        Ok(block
            .zip(certificate)
            .map(|(block, certificate)| (ledger::encoding::encode(&block), certificate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InitOptions;

    /// A chain of its own, of one validator.
    fn home(interval_ms: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let init = InitOptions {
            name: "test".into(),
            interval_ms,
            entities: vec![],
        };
        Home::init(folder.path(), &init).unwrap();
        folder
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_validator_whose_link_is_lost_fails_by_itself() {
        let folder = home(200);
        let loopback = ([127, 0, 0, 1], 0).into();
        let mut running = run(RunOptions::new(folder.path().to_owned(), loopback)).await.unwrap();
        running.endpoint.close().await;
        let failed = tokio::time::timeout(Duration::from_secs(20), running.failed()).await;
        assert!(matches!(failed, Ok(Err(RunError::LinkLost))), "{failed:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_clock_that_is_behind_the_chain_is_waited_for_and_makes_no_block() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let folder = home(100);
        let behind_ms = Arc::new(AtomicU64::new(0));
        let start = || {
            let behind_ms = Arc::clone(&behind_ms);
            let read = move || {
                let right = Clock::default().now().millis();
                ledger::Timestamp::from_millis(right - behind_ms.load(Ordering::SeqCst))
            };
            run(RunOptions {
                clock: Clock::new(read),
                ..RunOptions::new(folder.path().to_owned(), ([127, 0, 0, 1], 0).into())
            })
        };
        let above = async |running: &Running, height: u64| {
            let mut heads = running.ledger().heads();
            let higher = heads.wait_for(|head| head.as_ref().is_some_and(|head| head.header.height > height));
            higher.await.unwrap().as_ref().unwrap().header.height
        };
        let running = start().await.unwrap();
        above(&running, 0).await;
        running.stop().await.unwrap();
        behind_ms.store(3_600_000, Ordering::SeqCst);
        let running = start().await.unwrap();
        let height = running.ledger().next_height().unwrap() - 1;
        let early = tokio::time::timeout(Duration::from_secs(2), above(&running, height)).await;
        assert!(early.is_err(), "a block was made: {early:?}");
        let refused = running.ledger().propose().unwrap_err().to_string();
        assert!(
            refused.starts_with("this machine's clock is behind the chain by 3"),
            "{refused}"
        );
        behind_ms.store(0, Ordering::SeqCst);
        let caught_up = tokio::time::timeout(Duration::from_secs(20), above(&running, height)).await;
        assert!(caught_up.is_ok());
        running.stop().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_printed_address_is_one_that_others_can_dial_or_the_advertised_one() {
        let folder = home(200);
        let everywhere = RunOptions::new(folder.path().to_owned(), ([0, 0, 0, 0], 0).into());
        let running = run(everywhere.clone()).await.unwrap();
        let addresses = running.address().addresses();
        assert!(addresses.iter().all(|at| !at.ip().is_unspecified()), "{addresses:?}");
        let link = peer_link::LinkKey::generate().unwrap();
        let other = Endpoint::bind(&link, ([0, 0, 0, 0], 0).into()).await.unwrap();
        let connection = other.dial(running.address(), protocol::LEDGER).await;
        assert!(connection.is_ok(), "{}: {connection:?}", running.address());
        running.stop().await.unwrap();
        let router: SocketAddr = ([203, 0, 113, 7], 7771).into();
        let running = run(RunOptions {
            advertise: vec![router],
            ..everywhere
        })
        .await
        .unwrap();
        assert_eq!(running.address().addresses(), [router]);
        running.stop().await.unwrap();
    }
}
