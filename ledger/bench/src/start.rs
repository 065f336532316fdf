//! What a node's start from nothing costs: from the genesis hash alone to its own record and all its contracts, proven.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chain_client::{ChainClient, Complaints};
use ledger::{Hash, Id, body::Node};
use peer_link::{Endpoint, LinkKey, PeerAddress};

use crate::machine::loopback_bytes;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Bytes over the network in both directions, with the heads of their packets.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Starts a node that knows the chain's id, a peer and its own id.
///
/// # Errors
/// When the peer does not prove what it says, or the node has another number of contracts.
pub async fn measure(chain: Hash, peer: &PeerAddress, node: Id, contracts: usize) -> Result<Start> {
    let endpoint = Endpoint::bind(&LinkKey::generate()?, ([127, 0, 0, 1], 0).into()).await?;
    let (before, begin) = (loopback_bytes()?, Instant::now());
    let complaints = Complaints::to(|_| {});
    let client = ChainClient::open(endpoint.clone(), chain, vec![peer.clone()], None, complaints).await?;
    client.sync().await?;
    client.require::<Node>(node).await?;
    let assigned = client.assigned(node).await?;
    ensure!(
        assigned.len() == contracts,
        "{} contracts instead of {contracts}",
        assigned.len()
    );
    let start = Start {
        took: begin.elapsed(),
        bytes: loopback_bytes()? - before,
    };
    endpoint.close().await;
    Ok(start)
}
