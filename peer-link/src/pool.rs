//! Open connections to known peers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Backoff, Connection, DialError, Endpoint, PeerAddress, PeerId};

/// Most peers that [`Connections`] remembers; beyond it, those without an open connection are forgotten first.
pub const MAX_KNOWN_PEERS: usize = 256;
/// Pause after the first failed dial.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between dials.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Keeps one connection for each peer, for one protocol. A peer that cannot be reached is not dialled again before a
/// pause that grows with each failure.
#[derive(Debug, Clone)]
pub struct Connections {
    endpoint: Endpoint,
    protocol: &'static [u8],
    peers: Arc<Mutex<BTreeMap<PeerId, Arc<tokio::sync::Mutex<Slot>>>>>,
}

#[derive(Debug)]
struct Slot {
    connection: Option<Connection>,
    backoff: Backoff,
    not_before: Instant,
}

impl Connections {
    /// Connections of `endpoint` for `protocol`.
    #[must_use]
    pub fn new(endpoint: Endpoint, protocol: &'static [u8]) -> Self {
        Self {
            endpoint,
            protocol,
            peers: Arc::default(),
        }
    }

    /// The open connection to a peer, or a new one.
    ///
    /// # Errors
    /// [`DialError::BackingOff`] during the pause after a failure, otherwise as [`Endpoint::dial`].
    pub async fn get(&self, address: &PeerAddress) -> Result<Connection, DialError> {
        let slot = self.slot(address.id());
        let mut slot = slot.lock().await;
        if let Some(open) = slot.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(open.clone());
        }
        slot.connection = None;
        let retry_in = slot.not_before.saturating_duration_since(Instant::now());
        if !retry_in.is_zero() {
            return Err(DialError::BackingOff {
                peer: address.id(),
                retry_in,
            });
        }
        match self.endpoint.dial(address, self.protocol).await {
            Ok(connection) => {
                slot.backoff.succeeded();
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                slot.not_before = Instant::now() + slot.backoff.failed();
                Err(error)
            }
        }
    }

    fn slot(&self, peer: PeerId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_KNOWN_PEERS && !peers.contains_key(&peer) {
            peers.retain(|_, slot| {
                slot.try_lock()
                    .is_ok_and(|slot| slot.connection.as_ref().is_some_and(|open| !open.is_closed()))
            });
            if peers.len() >= MAX_KNOWN_PEERS {
                peers.pop_first();
            }
        }
        Arc::clone(peers.entry(peer).or_insert_with(|| {
            let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
            Arc::new(tokio::sync::Mutex::new(Slot {
                connection: None,
                backoff,
                not_before: Instant::now(),
            }))
        }))
    }
}
