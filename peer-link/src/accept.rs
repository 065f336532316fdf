//! Answering peers: which protocol goes to which handler, and how many peers at once.

use std::{
    collections::BTreeMap,
    future::Future,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use iroh::endpoint::{Incoming, IncomingAddr};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{Connection, PeerId};

/// Most handshakes under way at once; beyond it new ones are refused.
pub const MAX_HANDSHAKES: usize = 64;
/// Handshakes under way from which on whoever begins another must show first that it receives what is sent to its address
/// (RFC 9000, section 8.1.2). Until then whoever forges addresses can keep handshakes busy for their deadline.
const HANDSHAKES_ON_TRUST: usize = 16;
/// Most handshakes under way from one address, counted as with connections, once addresses have to be shown.
const MAX_HANDSHAKES_PER_ADDRESS: usize = 8;
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

/// How many connections are open, in all, for each peer and for each address.
#[derive(Default)]
struct Census(Mutex<Open>);

#[derive(Default)]
struct Open {
    total: usize,
    of_peers: BTreeMap<PeerId, usize>,
    of_addresses: BTreeMap<IpAddr, usize>,
}

/// One counted connection; uncounted when dropped.
struct Counted {
    census: Arc<Census>,
    peer: PeerId,
    address: Option<IpAddr>,
}

impl Census {
    fn admit(self: &Arc<Self>, peer: PeerId, address: Option<IpAddr>) -> Option<Counted> {
        let address = address.map(network);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.of_peers.get(&peer).copied().unwrap_or(0);
        let of_address = address.and_then(|address| open.of_addresses.get(&address).copied());
        if open.total >= MAX_CONNECTIONS
            || of_peer >= MAX_CONNECTIONS_PER_PEER
            || of_address.unwrap_or(0) >= MAX_CONNECTIONS_PER_ADDRESS
        {
            return None;
        }
        open.total += 1;
        *open.of_peers.entry(peer).or_default() += 1;
        if let Some(address) = address {
            *open.of_addresses.entry(address).or_default() += 1;
        }
        Some(Counted {
            census: Arc::clone(self),
            peer,
            address,
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

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.census.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        uncount(&mut open.of_peers, &self.peer);
        if let Some(address) = &self.address {
            uncount(&mut open.of_addresses, address);
        }
    }
}

fn uncount<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    match counts.get_mut(key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => _ = counts.remove(key),
    }
}

pub(crate) fn spawn(endpoint: iroh::Endpoint, protocols: Protocols) -> Serving {
    Serving(tokio::spawn(run(endpoint, protocols)))
}

/// What becomes of one who knocks.
#[derive(Debug, PartialEq, Eq)]
enum Door {
    /// The handshake begins.
    Open,
    /// It must show its address first.
    Retry,
    /// It is refused.
    Shut,
}

/// Handshakes under way, in all and for each network.
#[derive(Debug, Default)]
struct Handshakes {
    total: usize,
    of_networks: BTreeMap<IpAddr, usize>,
}

impl Handshakes {
    fn door(&self, network: Option<IpAddr>, is_shown: bool) -> Door {
        let of_network = network.and_then(|network| self.of_networks.get(&network).copied());
        match (self.total, is_shown) {
            (MAX_HANDSHAKES.., _) => Door::Shut,
            (..HANDSHAKES_ON_TRUST, _) => Door::Open,
            (_, false) => Door::Retry,
            (_, true) if of_network.unwrap_or(0) >= MAX_HANDSHAKES_PER_ADDRESS => Door::Shut,
            (_, true) => Door::Open,
        }
    }
}

/// One counted handshake; uncounted when dropped.
#[derive(Debug)]
struct Handshake {
    handshakes: Arc<Mutex<Handshakes>>,
    network: Option<IpAddr>,
}

impl Handshake {
    /// Lets one in, or says what it has to do.
    fn begin(handshakes: &Arc<Mutex<Handshakes>>, network: Option<IpAddr>, is_shown: bool) -> Result<Self, Door> {
        let mut under_way = handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.door(network, is_shown) {
            Door::Open => {}
            closed => return Err(closed),
        }
        under_way.total += 1;
        if let Some(network) = network {
            *under_way.of_networks.entry(network).or_default() += 1;
        }
        drop(under_way);
        Ok(Self {
            handshakes: Arc::clone(handshakes),
            network,
        })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut under_way = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.total = under_way.total.saturating_sub(1);
        if let Some(network) = &self.network {
            uncount(&mut under_way.of_networks, network);
        }
    }
}

async fn run(endpoint: iroh::Endpoint, protocols: Protocols) {
    let handshakes = Arc::new(Mutex::new(Handshakes::default()));
    let census = Arc::new(Census::default());
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                let address = match incoming.remote_addr() {
                    IncomingAddr::Ip(address) => Some(address.ip()),
                    _ => None,
                };
                let begun = Handshake::begin(&handshakes, address.map(network), incoming.remote_addr_validated());
                let handshake = match begun {
                    Ok(handshake) => handshake,
                    Err(Door::Retry) => {
                        // It fails only for one that has shown its address, which this one has not.
                        let _ = incoming.retry();
                        continue;
                    }
                    Err(_) => {
                        incoming.refuse();
                        continue;
                    }
                };
                let (endpoint, protocols, census) = (endpoint.clone(), protocols.clone(), Arc::clone(&census));
                running.spawn(async move {
                    let connection = shake_hands(incoming).await;
                    drop(handshake);
                    if let Some(connection) = connection {
                        answer(connection, address, endpoint, &protocols, &census).await;
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
    address: Option<IpAddr>,
    endpoint: iroh::Endpoint,
    protocols: &Protocols,
    census: &Arc<Census>,
) {
    let peer = connection.remote_id().into();
    let Some(handler) = protocols.handlers.get(connection.alpn()) else {
        return;
    };
    let Some(_counted) = census.admit(peer, address) else {
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
        let census = Arc::new(Census::default());
        let (greedy, other) = (peer(1), peer(2));
        let mut held: Vec<_> = (0..MAX_CONNECTIONS_PER_PEER)
            .map(|_| census.admit(greedy, None).unwrap())
            .collect();
        assert!(census.admit(greedy, None).is_none());
        assert!(census.admit(other, None).is_some());
        held.pop();
        assert!(census.admit(greedy, None).is_some());
        held.clear();
        let open = census.0.lock().unwrap();
        assert!(open.total == 0 && open.of_peers.is_empty());
    }

    #[test]
    fn forged_addresses_cannot_shut_the_door_to_those_who_show_theirs() {
        let handshakes = Arc::default();
        let forged = |number: u8| Some(IpAddr::from([192, 0, 2, number]));
        let mut held = Vec::new();
        for number in 0..=255 {
            match Handshake::begin(&handshakes, forged(number), false) {
                Ok(handshake) => held.push(handshake),
                Err(door) => assert_eq!(door, Door::Retry, "{number}"),
            }
        }
        assert_eq!(held.len(), HANDSHAKES_ON_TRUST);
        let honest: IpAddr = "198.51.100.1".parse().unwrap();
        for _ in 0..MAX_HANDSHAKES_PER_ADDRESS {
            held.push(Handshake::begin(&handshakes, Some(honest), true).unwrap());
        }
        assert_eq!(
            Handshake::begin(&handshakes, Some(honest), true).unwrap_err(),
            Door::Shut,
            "one address has its share"
        );
        held.push(Handshake::begin(&handshakes, forged(9), true).unwrap());
        held.clear();
        let left = handshakes.lock().unwrap();
        assert!(left.total == 0 && left.of_networks.is_empty());
    }

    #[test]
    fn one_address_cannot_take_all_connections_with_many_keys() {
        for (greedy, also, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"),
        ]
        .map(|(a, b, c)| (a.parse().unwrap(), b.parse().unwrap(), c.parse().unwrap()))
        {
            let census = Arc::new(Census::default());
            let held: Vec<_> = (0..MAX_CONNECTIONS_PER_ADDRESS)
                .map(|seed| census.admit(peer(seed), Some(greedy)).unwrap())
                .collect();
            assert!(census.admit(peer(9_999), Some(also)).is_none());
            assert!(census.admit(peer(9_999), Some(other)).is_some());
            drop(held);
            assert!(census.admit(peer(9_999), Some(also)).is_some());
            assert!(census.0.lock().unwrap().of_addresses.is_empty());
        }
    }
}
