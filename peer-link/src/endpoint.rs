//! The process's one endpoint: its socket, its key, and dialling.

use std::{io, net::SocketAddr, time::Duration};

use iroh::{
    EndpointAddr, RelayMode, TransportAddr,
    endpoint::{ConnectError, ConnectionError, PortmapperConfig, QuicTransportConfig, VarInt, presets},
};
use tokio::time::timeout;

use crate::{Connection, LinkKey, PeerAddress, PeerId, Protocols, Serving, accept, reach};

/// A peer that says nothing for so long is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Longest wait for a dialled peer.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Most streams that a peer may have open on one connection before a protocol sets its own bound.
const MAX_STREAMS: u32 = 64;
/// Bytes a peer may send on one stream before they are read. Must stay below 1024 packets of 1200 bytes: a receiver gives
/// a stream up when it holds more pieces than that, which a burst of lost packets in a wider window brings about.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes a peer may send on one connection before they are read; also most bytes kept for sending to it.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process holds the port.
    #[error("bind {0}/udp: the port is taken by another program; stop it or choose another port")]
    PortTaken(SocketAddr),
    /// The socket could not be opened.
    #[error("bind {address}/udp")]
    Socket {
        /// Where it was to be bound.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The endpoint could not be set up.
    #[error("set up the link endpoint: {0}")]
    Setup(String),
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing answered in time.
    #[error("dial {0}: no answer within {DIAL_DEADLINE:?}")]
    NoAnswer(PeerAddress),
    /// What answered does not hold the dialled peer's key.
    #[error("dial {0}: another key answers there")]
    WrongKey(PeerAddress),
    /// The peer refused, or the link failed on the way.
    #[error("dial {peer}: {reason}")]
    Refused {
        /// Who was dialled.
        peer: PeerAddress,
        /// The reason, from the peer or the network.
        reason: String,
    },
    /// A dial failed a moment ago and the pause after it is not over.
    #[error("dial {peer}: next attempt in {retry_in:?}")]
    BackingOff {
        /// Who was to be dialled.
        peer: PeerId,
        /// When it will be tried again.
        retry_in: Duration,
    },
}

/// One UDP socket with a key. Clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    inner: iroh::Endpoint,
}

impl Endpoint {
    /// Opens the endpoint at `address` (port 0: any free one). Nothing but this socket listens, and nobody is contacted.
    ///
    /// # Errors
    /// [`BindError`] says why not, [`BindError::PortTaken`] when another process holds the port.
    pub async fn bind(key: &LinkKey, address: SocketAddr) -> Result<Self, BindError> {
        let inner = iroh::Endpoint::builder(presets::Minimal)
            .secret_key(key.inner().clone())
            .relay_mode(RelayMode::Disabled)
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .transport_config(transport())
            .clear_ip_transports()
            .bind_addr(address)
            .map_err(|error| BindError::Setup(error.to_string()))?
            .bind()
            .await
            .map_err(|error| bind_error(address, error))?;
        Ok(Self { inner })
    }

    /// Who this endpoint is.
    #[must_use]
    pub fn id(&self) -> PeerId {
        self.inner.id().into()
    }

    /// Where the socket is bound. An unspecified address stays unspecified.
    #[must_use]
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.inner.bound_sockets()
    }

    /// Where others reach it, as far as this machine can tell: where it is bound, and in place of an unspecified address the ones
    /// with which this machine sends to `peers` and along its default route. Never empty, never unspecified. Behind a router
    /// that is not the address which the outside sees.
    #[must_use]
    pub fn reached_at(&self, peers: &[PeerAddress]) -> Vec<SocketAddr> {
        let peers: Vec<SocketAddr> = peers.iter().flat_map(PeerAddress::addresses).copied().collect();
        reach::reached_at(&self.bound(), &peers)
    }

    /// Connects to a peer for one protocol of [`crate::protocol`].
    ///
    /// # Errors
    /// [`DialError`] when it does not answer within 5 s, refuses, or is not who was dialled.
    pub async fn dial(&self, peer: &PeerAddress, protocol: &[u8]) -> Result<Connection, DialError> {
        let addresses = peer.addresses().iter().copied().map(TransportAddr::Ip);
        let target = EndpointAddr::from_parts(peer.id().inner(), addresses);
        match timeout(DIAL_DEADLINE, self.inner.connect(target, protocol)).await {
            Ok(Ok(connection)) => Ok(Connection::new(connection, self.inner.clone())),
            Ok(Err(error)) => Err(dial_error(peer, &error)),
            Err(_) => Err(DialError::NoAnswer(peer.clone())),
        }
    }

    /// Starts to answer peers. To be called once.
    #[must_use = "dropping it stops serving"]
    pub fn serve(&self, protocols: Protocols) -> Serving {
        self.inner.set_alpns(protocols.names());
        accept::spawn(self.inner.clone(), protocols)
    }

    /// Tells all peers that this endpoint is going away, and closes it.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}

fn transport() -> QuicTransportConfig {
    let idle = VarInt::from_u32(u32::try_from(IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX));
    QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle.into()))
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        .max_concurrent_bidi_streams(MAX_STREAMS.into())
        // No protocol has any.
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .build()
}

fn bind_error(address: SocketAddr, error: iroh::endpoint::BindError) -> BindError {
    match error {
        iroh::endpoint::BindError::Sockets { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            BindError::PortTaken(address)
        }
        iroh::endpoint::BindError::Sockets { source, .. } => BindError::Socket { address, source },
        error => BindError::Setup(error.to_string()),
    }
}

/// TLS alerts as QUIC carries them: 0x0100 plus the alert (RFC 9001, section 4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x0100..0x0200;
/// The alert `no_application_protocol` (RFC 7301): the peer is who it should be and does not speak the protocol.
const NO_PROTOCOL: u64 = 0x0100 + 120;

fn dial_error(peer: &PeerAddress, error: &ConnectError) -> DialError {
    let refused = |reason: String| DialError::Refused {
        peer: peer.clone(),
        reason,
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut innermost = error.to_string();
    while let Some(current) = cause {
        innermost = current.to_string();
        match current.downcast_ref::<ConnectionError>() {
            Some(ConnectionError::TransportError(error)) => {
                let code = u64::from(error.code);
                if CRYPTO_ERRORS.contains(&code) && code != NO_PROTOCOL {
                    return DialError::WrongKey(peer.clone());
                }
            }
            Some(ConnectionError::TimedOut) => return DialError::NoAnswer(peer.clone()),
            _ => {}
        }
        cause = current.source();
    }
    refused(innermost)
}
