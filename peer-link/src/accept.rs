//! Answering peers: which protocol goes to which handler, and how many peers at once.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use iroh::endpoint::Incoming;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{Connection, PeerId};

/// Most handshakes under way at once; beyond it new ones are refused.
pub const MAX_HANDSHAKES: usize = 32;
/// Most accepted connections at once; beyond it new ones are closed.
pub const MAX_CONNECTIONS: usize = 512;
/// Most accepted connections of one peer at once; beyond it its new ones are closed.
pub const MAX_CONNECTIONS_PER_PEER: usize = 8;
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

/// How many connections are open, in all and for each peer.
#[derive(Default)]
struct Census(Mutex<BTreeMap<PeerId, usize>>);

/// One counted connection; uncounted when dropped.
struct Counted {
    census: Arc<Census>,
    peer: PeerId,
}

impl Census {
    fn admit(self: &Arc<Self>, peer: PeerId) -> Option<Counted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = open.values().sum();
        let of_peer = open.entry(peer).or_default();
        if total >= MAX_CONNECTIONS || *of_peer >= MAX_CONNECTIONS_PER_PEER {
            if *of_peer == 0 {
                open.remove(&peer);
            }
            return None;
        }
        *of_peer += 1;
        Some(Counted {
            census: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.census.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.peer);
            }
        }
    }
}

pub(crate) fn spawn(endpoint: iroh::Endpoint, protocols: Protocols) -> Serving {
    Serving(tokio::spawn(run(endpoint, protocols)))
}

async fn run(endpoint: iroh::Endpoint, protocols: Protocols) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let census = Arc::new(Census::default());
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    incoming.refuse();
                    continue;
                };
                let (endpoint, protocols, census) = (endpoint.clone(), protocols.clone(), Arc::clone(&census));
                running.spawn(async move {
                    let connection = shake_hands(incoming).await;
                    drop(permit);
                    if let Some(connection) = connection {
                        answer(connection, endpoint, &protocols, &census).await;
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
    endpoint: iroh::Endpoint,
    protocols: &Protocols,
    census: &Arc<Census>,
) {
    let peer = connection.remote_id().into();
    let Some(handler) = protocols.handlers.get(connection.alpn()) else {
        return;
    };
    let Some(_counted) = census.admit(peer) else {
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

    #[test]
    fn one_peer_cannot_take_all_connections_and_gets_its_own_back() {
        let census = Arc::new(Census::default());
        let [greedy, other] = [1, 2].map(|seed| LinkKey::from_seed(&[seed; 32]).id());
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_PER_PEER)
            .map(|_| census.admit(greedy).unwrap())
            .collect();
        assert!(census.admit(greedy).is_none());
        assert!(census.admit(other).is_some());
        held.pop();
        assert!(census.admit(greedy).is_some());
        held.clear();
        assert!(census.0.lock().unwrap().is_empty());
    }
}
