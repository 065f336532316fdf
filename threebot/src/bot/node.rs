//! Asking the node of a contract.

use std::time::Duration;

use ledger::{Id, body::Node};
use peer_link::{Connection, Stream};
use workload::node::{Answer, MAX_ANSWER, MAX_REQUEST, Request};

use super::{Bot, BotError, link_address};
use crate::deployment::Placement;

/// Longest wait for a node's answer.
const DEADLINE: Duration = Duration::from_secs(5);

impl Bot {
    async fn node_link(&self, id: Id) -> Result<Connection, BotError> {
        let node = self.chain().require::<Node>(id).await?.body;
        let address = link_address("node", id, &node.keys.link, &node.addresses)?;
        Ok(self.shared.nodes.get(&address).await?)
    }

    /// Asks a node one question. A refusal is an error.
    pub(super) async fn ask_node(&self, node: Id, request: &Request) -> Result<Answer, BotError> {
        let connection = self.node_link(node).await?;
        match connection.call(request, MAX_ANSWER, DEADLINE).await? {
            Answer::Refused { reason } => Err(BotError::Refused(format!("the node refused: {reason}"))),
            Answer::NotReady { reason } => Err(BotError::Unreachable(format!("not ready yet: {reason}"))),
            answer => Ok(answer),
        }
    }

    async fn placement(&self, name: &str) -> Result<Placement, BotError> {
        let placement = self.deployment(name).await?.placement;
        placement.ok_or_else(|| BotError::NotFound(format!("{name:?} runs on no node now; see `threebot ps`")))
    }

    /// A piece of a deployment's output from byte `from` on, with the offset of its first byte.
    ///
    /// # Errors
    /// [`BotError`] when there is no such deployment or its node does not answer.
    pub async fn log(&self, name: &str, from: u64) -> Result<(u64, Vec<u8>), BotError> {
        let Placement { contract, node, .. } = self.placement(name).await?;
        match self.ask_node(node, &Request::Log { contract, from }).await? {
            Answer::Log { from, bytes } => Ok((from, bytes)),
            _ => Err(BotError::Refused("the node answered something else".into())),
        }
    }

    /// A connection to a port of a deployment's guest, on which raw bytes follow.
    ///
    /// # Errors
    /// [`BotError`] when there is no such deployment or its node opens none.
    pub async fn tunnel(&self, name: &str, port: u16) -> Result<(Connection, Stream), BotError> {
        self.open_tunnel(&self.placement(name).await?, port).await
    }

    /// As [`Self::tunnel`], to the guest of a placement.
    pub(super) async fn open_tunnel(&self, placement: &Placement, port: u16) -> Result<(Connection, Stream), BotError> {
        let Placement { contract, node, .. } = *placement;
        let connection = self.node_link(node).await?;
        let mut stream = connection.open().await?;
        stream.send(&Request::Tunnel { contract, port }, MAX_REQUEST).await?;
        match stream.receive_within(MAX_ANSWER, DEADLINE).await? {
            Answer::Tunnel => Ok((connection, stream)),
            Answer::Refused { reason } => Err(BotError::Refused(format!("the node refused: {reason}"))),
            Answer::NotReady { reason } => Err(BotError::Unreachable(format!("not ready yet: {reason}"))),
            _ => Err(BotError::Refused("the node answered something else".into())),
        }
    }
}
