//! A validator or a follower running: database, consensus and the peer link put together.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ledger::Hash;
use peer_link::{BindError, Connections, Endpoint, PeerAddress, Protocols, Shares, protocol};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tracing::warn;

use crate::{
    Clock, Database, DatabaseError, Home, HomeError, Ledger,
    book::Book,
    engine::{EngineConfig, EngineError, Mesh, Timeouts},
    http::{self, HttpError, HttpOptions, Watched},
    member::Member,
    node::LedgerError,
    relay::Relay,
    serve::{Source, serve},
};

/// Answers with blocks that may be under way; each takes some megabytes until it is sent.
const BLOCK_ANSWERS: usize = 8;

/// Longest wait for the last reads of the database at a stop.
const CLOSING: Duration = Duration::from_secs(10);

/// What a validator runs with.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Its directory, made by [`Home::init`].
    pub directory: PathBuf,
    /// Where its peer link listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it; empty: where this machine is seen along its default route.
    pub advertise: Vec<SocketAddr>,
    /// Where other validators are reached, besides what its directory has; the address given here counts.
    pub peers: Vec<PeerAddress>,
    /// Where it takes the time from.
    pub clock: Clock,
    /// Where it answers readers over HTTP, if it does.
    pub http: Option<HttpOptions>,
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
            peers: Vec::new(),
            clock,
            http: None,
        }
    }
}

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
    /// The HTTP side cannot listen.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Consensus failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The chain could not be followed.
    #[error("follow the chain")]
    Follow(#[source] LedgerError),
    /// This machine has no vote and knows nobody who has the chain.
    #[error("not a validator of the chain, and no peer is known to follow it from; name one with --peer KEY@IP:PORT")]
    Alone,
    /// The peer link's socket is lost.
    #[error("the peer link lost its socket; start the validator again")]
    LinkLost,
    /// The task that votes or follows ended in a panic.
    #[error("the task that keeps the chain ended unexpectedly")]
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
    http: Option<http::Serving>,
    stop: watch::Sender<()>,
    keeping: JoinHandle<Result<(), RunError>>,
}

/// Starts a validator.
///
/// # Errors
/// [`RunError`] says what cannot be used.
pub async fn run(options: RunOptions) -> Result<Running, RunError> {
    let home = Home::open(&options.directory)?;
    let http = match options.http {
        None => None,
        Some(options) => match http::Bound::new(options).await {
            Err(error) if options.optional => {
                warn!("no answers over HTTP: {}", error_line::with_causes(&error));
                None
            }
            bound => Some(bound?),
        },
    };
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
    let links = Connections::new(endpoint.clone(), protocol::LEDGER);
    let configured = home.peers.iter().cloned().chain(options.peers).collect();
    let book = Arc::new(Book::new(address.clone(), configured));
    let source = Arc::new(Source {
        ledger: Arc::clone(&ledger),
        block_answers: (Semaphore::new(BLOCK_ANSWERS), Shares::new(1)),
        relay: Relay::new(links.clone(), Arc::clone(&book)),
        book: Arc::clone(&book),
    });
    let (mesh, door) = Mesh::new(endpoint.clone(), book.addresses());
    let watched = Watched {
        linked: mesh.linked(),
        database: home.database(),
    };
    let answered = Arc::clone(&source);
    let protocols = Protocols::new()
        .with(protocol::LEDGER, move |connection| {
            serve(Arc::clone(&source), connection)
        })
        .with(protocol::CONSENSUS, move |connection| door.clone().handle(connection));
    let serving = endpoint.serve(protocols);
    let config = EngineConfig {
        chain,
        key: home.consensus_key.clone(),
        directory: home.consensus(),
        block_interval: Duration::from_millis(u64::from(home.genesis.block_interval_ms)),
        timeouts: Timeouts::default(),
        moniker: endpoint.id().to_string(),
    };
    let member = Member {
        ledger: Arc::clone(&ledger),
        config,
        mesh,
        links,
        book,
    };
    if !member.votes(&ledger.validators()) && member.book.told().len() == 1 {
        return Err(RunError::Alone);
    }
    let http = http.map(|bound| bound.serve(answered, watched)).transpose()?;
    let (stop, stopped) = watch::channel(());
    Ok(Running {
        chain,
        address,
        ledger,
        endpoint,
        serving,
        http,
        stop,
        keeping: tokio::spawn(async move { member.keep(stopped).await }),
    })
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

    /// Where it answers readers over HTTP, if it does.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Serving::address)
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
            ended = &mut self.keeping => ended.map_err(|_| RunError::Lost)?,
            // A validator that nobody reaches is of no use; whoever supervises it starts another.
            () = self.serving.ended() => Err(RunError::LinkLost),
        }
    }

    /// Closes the link of a validator that has failed.
    pub async fn close(self) {
        self.endpoint.close().await;
    }

    /// Stops in order: consensus first, then the link, then the database, which can be opened again then.
    ///
    /// # Errors
    /// [`RunError`] when consensus had failed.
    pub async fn stop(self) -> Result<(), RunError> {
        // The receiver is gone only when it has ended already.
        let _ = self.stop.send(());
        drop(self.http);
        let ended = self.keeping.await.map_err(|_| RunError::Lost)?;
        self.endpoint.close().await;
        drop(self.serving);
        // The tasks of the link and the reads that they began let go of the ledger a little later.
        if tokio::time::timeout(CLOSING, self.ledger.closed()).await.is_err() {
            warn!(
                "the database is still being read {} s after the stop",
                CLOSING.as_secs()
            );
        }
        ended
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
            attest_ms: 3_600_000,
            name_deposit: ledger::Tokens::from_micro(5),
            entities: vec![],
            validators: vec![],
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
