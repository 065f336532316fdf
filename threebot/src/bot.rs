//! The daemon's body: keys, chain, links, blobs and deployments of one 3bot, and what it does with them.
//!
//! | file | what the bot does |
//! |---|---|
//! | `wallet`, `farm`, `image`, `names`, `release` | puts its own records on the chain |
//! | `search` | collects proven listings for [`crate::market`] |
//! | `negotiate`, `answer`, `door` | drives the two sides of [`crate::negotiation`] over links |
//! | `place`, `watch` | brings a deployment onto a node and keeps it there |
//! | `amend` | changes what runs, with its farmer |
//! | `kept` | shows, cancels and forgets deployments |
//! | `node` | asks the node of a contract |

mod amend;
mod answer;
mod door;
mod error;
mod farm;
mod image;
mod kept;
mod names;
mod negotiate;
mod node;
mod place;
mod release;
mod search;
mod stages;
mod wallet;
mod watch;

pub use error::{BotError, joined as error_line};
pub use stages::Stages;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use chain_client::{Author, ChainClient};
use ledger::{Header, Height, Id, Operation, body::Entity};
use peer_link::{BlobStore, Connections, Endpoint, PeerAddress, PeerId, Protocols, protocol};
use tokio::{sync::Mutex, task::JoinHandle};
use tracing::info;
use workload::EncryptionKey;

use self::door::Door;
use crate::{
    control::StatusView,
    deployment::Deployments,
    home::{Config, Home},
    identity::Identity,
    keys,
};

/// One 3bot. Clones share it.
#[derive(Debug, Clone)]
pub struct Bot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    home: Home,
    config: Config,
    author: Author,
    /// The first is the one to seal to.
    encryption: Vec<EncryptionKey>,
    identity_keys: ledger::body::Keys,
    chain: ChainClient,
    endpoint: Endpoint,
    blobs: BlobStore,
    nodes: Connections,
    /// Negotiations that others have asked for.
    door: Door,
    /// Live contracts of the own farms, and the height at which they were counted.
    live_contracts: Mutex<Option<(Height, usize)>>,
    /// One transaction at a time, so that each takes the next nonce.
    sending: Mutex<()>,
    deployments: Mutex<Deployments>,
    keepers: std::sync::Mutex<BTreeMap<String, JoinHandle<()>>>,
}

/// What a bot is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its directory.
    pub home: Home,
    /// Its configuration.
    pub config: Config,
    /// Its keys.
    pub identity: Identity,
    /// The chain.
    pub chain: ChainClient,
    /// Its link.
    pub endpoint: Endpoint,
    /// Its images.
    pub blobs: BlobStore,
    /// Its deployments.
    pub deployments: Deployments,
}

impl Bot {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            home,
            config,
            identity,
            chain,
            endpoint,
            blobs,
            deployments,
        } = parts;
        let author = Author {
            id: identity.id(),
            key: identity.signing(),
        };
        let shared = Shared {
            home,
            config,
            author,
            encryption: identity.encryption(),
            identity_keys: identity.keys(),
            chain,
            nodes: Connections::new(endpoint.clone(), protocol::NODE),
            endpoint,
            blobs,
            door: Door::default(),
            live_contracts: Mutex::default(),
            sending: Mutex::new(()),
            deployments: Mutex::new(deployments),
            keepers: std::sync::Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Id {
        self.shared.author.id
    }

    fn chain(&self) -> &ChainClient {
        &self.shared.chain
    }

    /// Where others are told to reach it: as configured, otherwise as this machine is seen from the chain's peers.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if !self.shared.config.advertise.is_empty() {
            return self.shared.config.advertise.clone();
        }
        self.shared.endpoint.reached_at(&self.shared.config.peers)
    }

    /// Who it is and how far it sees.
    #[must_use]
    pub fn status(&self) -> StatusView {
        StatusView {
            id: self.id(),
            name: self.shared.config.name.to_string(),
            link: PeerAddress::new(self.shared.endpoint.id(), self.addresses()).ok(),
            height: self.chain().height(),
        }
    }

    /// Makes the chain say of it what is configured: creates its entity, or brings name and addresses up to date.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked or refuses.
    pub async fn register(&self) -> Result<(), BotError> {
        let name = self.shared.config.name.clone();
        let addresses = self.addresses();
        let operation = match self.chain().record::<Entity>(self.id()).await? {
            None => Operation::CreateEntity(Entity {
                keys: self.shared.identity_keys,
                name,
                addresses,
                recovery: None,
            }),
            Some(known) if known.body.keys != self.shared.identity_keys => return Err(keys::other_keys(self.id())),
            Some(known) if known.body.name == name && known.body.addresses == addresses => return Ok(()),
            Some(_) => Operation::UpdateEntity { name, addresses },
        };
        self.send(operation).await?;
        info!(id = %self.id(), "entity on the chain");
        Ok(())
    }

    /// Sends a transaction and waits until it is proven to stand on the chain.
    async fn send(&self, operation: Operation) -> Result<Header, BotError> {
        let _one_at_a_time = self.shared.sending.lock().await;
        Ok(self.chain().send(&self.shared.author, operation).await?)
    }

    /// What the bot answers to peers: negotiation and images.
    #[must_use]
    pub fn protocols(&self) -> Protocols {
        let (bot, blobs) = (self.clone(), self.shared.blobs.clone());
        Protocols::new()
            .with(protocol::BOT, move |connection| bot.clone().answer(connection))
            .with(protocol::BLOBS, move |connection| {
                // Images are named on a public chain and hold no secrets; those are sealed.
                blobs.clone().serve(connection, Arc::new(|_, _| true))
            })
    }

    /// Ends all work and writes the blob store out.
    pub async fn shut_down(&self) {
        {
            let mut keepers = self
                .shared
                .keepers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for keeper in std::mem::take(&mut *keepers).into_values() {
                keeper.abort();
            }
        }
        self.shared.blobs.clone().close().await;
        self.shared.endpoint.close().await;
    }
}

/// The link address of an entity or a node.
fn link_address(
    what: &str,
    id: Id,
    link: &ledger::PublicKey,
    addresses: &[SocketAddr],
) -> Result<PeerAddress, BotError> {
    let unreachable = |reason: String| BotError::Unreachable(format!("{what} {}: {reason}", id.short()));
    let peer = PeerId::from_bytes(link.as_bytes()).map_err(|error| unreachable(error.to_string()))?;
    PeerAddress::new(peer, addresses.to_vec()).map_err(|error| unreachable(error.to_string()))
}
