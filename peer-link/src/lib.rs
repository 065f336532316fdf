//! Encrypted links between peers: one endpoint a process, one protocol name for each kind of conversation.
//!
//! ```text
//!  LinkKey ── Endpoint::bind ──┬── dial(PeerAddress, protocol) ──► Connection ── call / open ──► Stream
//!                              └── serve(Protocols) ── handler(Connection) ── serve_requests ──► Stream
//!  Connections: open links to known peers, reopened with a growing pause
//!  BlobStore:   content by its blake3 hash, fetched from any peer, verified as it arrives and again at export
//! ```
//!
//! A peer is its ed25519 key: whoever answers a dial has proven that it holds the key of the dialled [`PeerId`]. Nothing
//! else is trusted. What a peer sends is hostile: every frame, stream, connection and wait has a bound, and a peer that
//! passes one is cut off with a typed error and one line in the log.
//!
//! Architecture invariant: no relay, no name lookup, no port mapping and no third party's server; addresses are given by
//! the caller. No type of iroh appears in the public interface.
#![forbid(unsafe_code)]

mod accept;
mod backoff;
mod blobs;
mod connection;
mod endpoint;
mod fetch;
mod frame;
mod handshake;
mod identity;
mod pool;
pub mod protocol;
mod reach;
mod shares;

pub use accept::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_CONNECTIONS_PER_PEER, Protocols, Serving};
pub use backoff::Backoff;
pub use blobs::{BlobError, BlobHash, BlobPolicy, BlobStore};
pub use connection::{Connection, Limits, ReadHalf, Stream, WriteHalf, serve_calls, serve_requests};
pub use endpoint::{BindError, DialError, Endpoint};
pub use fetch::{BlobSource, FetchFuture, Progress};
pub use frame::{LinkError, read_frame, write_frame};
pub use identity::{AddressError, LinkKey, MAX_ADDRESSES, PeerAddress, PeerId};
pub use pool::{Connections, MAX_KNOWN_PEERS};
pub use shares::{Share, Shares};
