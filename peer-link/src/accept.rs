//! Answering peers: which protocol goes to which handler, and how many peers at once.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use iroh::endpoint::{Incoming, IncomingAddr};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    Connection, PeerId, Share, Shares,
    handshake::{Closed, Handshakes},
};

/// Most accepted connections at once; beyond it new ones are closed.
pub const MAX_CONNECTIONS: usize = 512;
/// Most accepted connections of one peer at once; beyond it its new ones are closed.
pub const MAX_CONNECTIONS_PER_PEER: usize = 8;
/// Most accepted connections from one address at once: keys cost nothing to make, addresses do. An IPv6 address counts with
/// all others of its /64, which one host may have.
pub const MAX_CONNECTIONS_PER_ADDRESS: usize = 128;
/// Longest handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Code with which a connection beyond the bounds is closed.
const CODE_BUSY: u32 = 2;

type Handler = Arc<dyn Fn(Connection) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Which protocols are answered, and by what.
#[derive(Clone, Default)]
pub struct Protocols {
    handlers: BTreeMap<Vec<u8>, Handler>,
}

impl Protocols {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `protocol` by `handler`, which gets each connection and has it until it returns.
    #[must_use]
    pub fn with<H, F>(mut self, protocol: &[u8], handler: H) -> Self
    where
        H: Fn(Connection) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.handlers.insert(
            protocol.to_vec(),
            Arc::new(move |connection| Box::pin(handler(connection))),
        );
        self
    }

    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        self.handlers.keys().cloned().collect()
    }
}

/// The task that answers peers; stops with all its handlers when dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Serving {
    /// Waits until peers are answered no more: the endpoint was closed, or it lost its socket for good. It may lose it when
    /// the network's interfaces change just while the process starts another, whose copy of the socket still holds the
    /// port. The endpoint is of no use then; a program whose work is this link ends itself to be started again.
    pub async fn ended(&mut self) {
        if !self.0.is_finished() {
            // Whether the task returned or was aborted, nobody answers.
            let _ = (&mut self.0).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts open connections: in all, of each peer and from each network.
#[derive(Debug)]
struct Census {
    all: Arc<Semaphore>,
    peers: Shares<PeerId>,
    networks: Shares<IpAddr>,
}

/// One open connection; counted until it is dropped.
#[derive(Debug)]
struct Counted {
    _one: OwnedSemaphorePermit,
    _of_peer: Share<PeerId>,
    _of_network: Option<Share<IpAddr>>,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            peers: Shares::new(MAX_CONNECTIONS_PER_PEER),
            networks: Shares::new(MAX_CONNECTIONS_PER_ADDRESS),
        }
    }
}

impl Census {
    fn admit(&self, peer: PeerId, network: Option<IpAddr>) -> Option<Counted> {
        Some(Counted {
            _one: Arc::clone(&self.all).try_acquire_owned().ok()?,
            _of_peer: self.peers.take(peer)?,
            _of_network: match network {
                Some(network) => Some(self.networks.take(network)?),
                None => None,
            },
        })
    }
}

/// What one host may have as its own.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

pub(crate) fn spawn(endpoint: iroh::Endpoint, protocols: Protocols) -> Serving {
    Serving(tokio::spawn(run(endpoint, protocols)))
}

async fn run(endpoint: iroh::Endpoint, protocols: Protocols) {
    let handshakes = Handshakes::default();
    let census = Arc::new(Census::default());
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let network = match incoming.remote_addr() {
                    IncomingAddr::Ip(address) => Some(network(address.ip())),
                    _ => None,
                };
                let handshake = match handshakes.begin(network, incoming.remote_addr_validated()) {
                    Ok(handshake) => handshake,
                    Err(Closed::Retry) => {
                        // It fails only for one that has shown its address, which this one has not.
                        let _ = incoming.retry();
                        continue;
                    }
                    Err(Closed::Full) => {
                        incoming.refuse();
                        continue;
                    }
                };
                let (endpoint, protocols, census) = (endpoint.clone(), protocols.clone(), Arc::clone(&census));
                running.spawn(async move {
                    let connection = shake_hands(incoming).await;
                    drop(handshake);
                    if let Some(connection) = connection {
                        answer(connection, network, endpoint, &protocols, &census).await;
                    }
                });
            }
            Some(_) = running.join_next() => {}
        }
    }
}

async fn shake_hands(incoming: Incoming) -> Option<iroh::endpoint::Connection> {
    let accepting = incoming.accept().ok()?;
    match timeout(HANDSHAKE_DEADLINE, accepting).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            debug!(%error, "handshake failed");
            None
        }
        Err(_) => {
            debug!("handshake took too long");
            None
        }
    }
}

async fn answer(
    connection: iroh::endpoint::Connection,
    network: Option<IpAddr>,
    endpoint: iroh::Endpoint,
    protocols: &Protocols,
    census: &Census,
) {
    let peer = connection.remote_id().into();
    let Some(handler) = protocols.handlers.get(connection.alpn()) else {
        return;
    };
    let Some(_counted) = census.admit(peer, network) else {
        warn!(%peer, "too many connections, new one refused");
        connection.close(CODE_BUSY.into(), b"too many connections");
        return;
    };
    handler(Connection::new(connection, endpoint)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkKey;

    fn peer(seed: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        LinkKey::from_seed(&bytes).id()
    }

    #[test]
    fn one_peer_cannot_take_all_connections_and_gets_its_own_back() {
        let census = Census::default();
        let (greedy, other) = (peer(1), peer(2));
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_PER_PEER)
            .map(|_| census.admit(greedy, None).unwrap())
            .collect();
        assert!(census.admit(greedy, None).is_none());
        assert!(census.admit(other, None).is_some());
        held.pop();
        assert!(census.admit(greedy, None).is_some());
        held.clear();
        let many: Vec<_> = (0..).map_while(|seed| census.admit(peer(seed), None)).collect();
        assert_eq!(many.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn one_address_cannot_take_all_connections_with_many_keys() {
        for (greedy, also, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"),
        ]
        .map(|(a, b, c)| (a.parse().unwrap(), b.parse().unwrap(), c.parse().unwrap()))
        {
            let census = Census::default();
            let held: Vec<_> = (0..MAX_CONNECTIONS_PER_ADDRESS)
                .map(|seed| census.admit(peer(seed), Some(network(greedy))).unwrap())
                .collect();
            assert!(census.admit(peer(9_999), Some(network(also))).is_none());
            assert!(census.admit(peer(9_999), Some(network(other))).is_some());
            drop(held);
            assert!(census.admit(peer(9_999), Some(network(also))).is_some());
        }
    }
}
