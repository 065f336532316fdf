//! Names of the protocols that run over a link (TLS ALPN), one each.

/// Sync, queries, transactions and subscriptions of the ledger.
pub const LEDGER: &[u8] = b"zos/ledger/1";
/// Consensus among validators.
pub const CONSENSUS: &[u8] = b"zos/consensus/1";
/// Negotiation between bots.
pub const BOT: &[u8] = b"zos/bot/1";
/// A customer's bot to the node that runs its workload: status, log, tunnel.
pub const NODE: &[u8] = b"zos/node/1";
/// Content by its hash, as iroh-blobs speaks it.
pub const BLOBS: &[u8] = iroh_blobs::ALPN;
