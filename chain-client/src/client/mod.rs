//! The client: asks any of several peers and believes none. Here it is opened and says what it knows without asking.

mod heads;
mod past;
mod peers;
mod records;
mod sealed;
mod search;
mod sets;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ledger::{Genesis, Hash, Header, Height, LightClient, Timestamp};
use peer_link::{Connections, Endpoint, PeerAddress, protocol as link_protocol};
use tokio::sync::watch;

use self::peers::call;
pub(crate) use self::peers::unexpected;
pub use self::{
    heads::Following,
    records::Proven,
    search::{Found, Offered, Reach, Surroundings},
};
use crate::{
    ClientError, Complaints, PeerFailure, Reason,
    clock::ChainClock,
    protocol::{Answer, Request},
    standing::Standing,
    trust::TrustFile,
};

/// A client of one chain. Clones share the verified head and the links.
#[derive(Debug, Clone)]
pub struct ChainClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    chain: Hash,
    genesis: Genesis,
    peers: Vec<PeerAddress>,
    links: Connections,
    light: Mutex<LightClient>,
    trust: TrustFile,
    heads: watch::Sender<Option<Header>>,
    clock: Mutex<ChainClock>,
    standing: Mutex<Standing>,
    complaints: Complaints,
}

impl ChainClient {
    /// Opens the chain with this genesis hash: fetches the genesis from any peer and checks it, or goes on from what
    /// `trust_file` kept. Why a peer is no help is said to `complaints`, by name of the check that failed.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the genesis or the file cannot be used.
    pub async fn open(
        endpoint: Endpoint,
        chain: Hash,
        peers: Vec<PeerAddress>,
        trust_file: Option<PathBuf>,
        complaints: Complaints,
    ) -> Result<Self, ClientError> {
        if peers.is_empty() {
            return Err(ClientError::NoPeers);
        }
        let links = Connections::new(endpoint, link_protocol::LEDGER);
        let trust = TrustFile::new(trust_file);
        let genesis = fetch_genesis(&links, &peers, chain, &complaints).await?;
        let fresh = LightClient::new(chain, &genesis).expect("the genesis was checked when it was fetched");
        let light = trust.load()?.filter(|kept| kept.chain() == chain).unwrap_or(fresh);
        let (heads, _) = watch::channel(light.head().cloned());
        let shared = Shared {
            chain,
            genesis,
            peers,
            links,
            light: Mutex::new(light),
            trust,
            heads,
            clock: Mutex::default(),
            standing: Mutex::default(),
            complaints,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The chain's id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.shared.chain
    }

    /// The chain's genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.shared.genesis
    }

    /// The newest verified header, as far as is known without asking.
    #[must_use]
    pub fn head(&self) -> Option<Header> {
        self.light().head().cloned()
    }

    /// Announces every newer verified header.
    #[must_use]
    pub fn heads(&self) -> watch::Receiver<Option<Header>> {
        self.shared.heads.subscribe()
    }

    /// The chain's time now: that of the newest header that was verified since the client was opened, and what has passed since
    /// it came. Nothing before the first.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.clock().read(Instant::now())
    }

    /// The chain's time now; asks for the newest header where none has told it yet.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub async fn time(&self) -> Result<Timestamp, ClientError> {
        match self.now() {
            Some(now) => Ok(now),
            None => Ok(self.sync().await?.time),
        }
    }

    /// Height of the newest verified header.
    #[must_use]
    pub fn height(&self) -> Height {
        self.light().height()
    }

    fn clock(&self) -> MutexGuard<'_, ChainClock> {
        self.shared.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn light(&self) -> MutexGuard<'_, LightClient> {
        self.shared.light.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch_genesis(
    links: &Connections,
    peers: &[PeerAddress],
    chain: Hash,
    complaints: &Complaints,
) -> Result<Genesis, ClientError> {
    let mut failures = Vec::new();
    for peer in peers {
        match genesis_of(links, peer, chain).await {
            Ok(genesis) => return Ok(genesis),
            Err(reason) => {
                let failure = PeerFailure {
                    peer: peer.id(),
                    reason,
                };
                complaints.complain(&failure);
                failures.push(failure);
            }
        }
    }
    Err(ClientError::AllFailed(failures))
}

async fn genesis_of(links: &Connections, peer: &PeerAddress, chain: Hash) -> Result<Genesis, Reason> {
    let connection = links.get(peer).await.map_err(Reason::Dial)?;
    let answer = call(&connection, &Request::Genesis).await?;
    let Answer::Genesis(genesis) = answer else {
        return Err(unexpected(answer));
    };
    LightClient::new(chain, &genesis).map_err(Reason::Lied)?;
    Ok(genesis)
}
