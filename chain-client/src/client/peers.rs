//! Asking peers: one after the other until one helps, or all at once.

use std::{
    pin::Pin,
    sync::{MutexGuard, PoisonError},
    time::Instant,
};

use peer_link::{Connection, PeerAddress, PeerId};
use tokio::sync::mpsc;

use super::ChainClient;
use crate::{
    ClientError, PeerFailure, Reason,
    protocol::{Answer, DEADLINE, MAX_ANSWER, Request},
    standing::Standing,
};

/// What one peer makes of a question.
pub(super) type Asked<'q, T> = Pin<Box<dyn Future<Output = Result<T, Reason>> + Send + 'q>>;

impl ChainClient {
    /// Puts a question to one peer after the other until one answers it.
    pub(super) async fn ask<'q, T>(
        &self,
        question: impl Fn(Connection) -> Asked<'q, T> + Send,
    ) -> Result<T, ClientError> {
        let mut failures = Vec::new();
        let order = self.standing().order(&self.shared.peers, Instant::now());
        for peer in order {
            let asked = match self.connect(&peer).await {
                Ok(connection) => question(connection).await,
                Err(reason) => Err(reason),
            };
            match asked {
                Ok(answer) => {
                    self.standing().helped(peer.id());
                    return Ok(answer);
                }
                // Asking another one would not help.
                Err(Reason::Disk { path, source }) => return Err(ClientError::Trust { path, source }),
                Err(reason) => failures.push(self.failed(peer.id(), reason)),
            }
        }
        Err(ClientError::AllFailed(failures))
    }

    /// Puts a request to all peers at once, which get it even if nobody waits for the answers: each has its deadline.
    pub(crate) fn request_each(&self, request: &Request) -> mpsc::Receiver<(PeerId, Result<Answer, Reason>)> {
        let peers = &self.shared.peers;
        let (sender, answers) = mpsc::channel(peers.len().max(1));
        for peer in peers.clone() {
            let (client, request, sender) = (self.clone(), request.clone(), sender.clone());
            tokio::spawn(async move {
                let answer = client.call_peer(&peer, &request).await;
                // The channel has room for all; it is closed when nobody waits any more.
                let _ = sender.send((peer.id(), answer)).await;
            });
        }
        answers
    }

    /// A peer was no help: that is said, and others are asked before it for a time.
    pub(crate) fn failed(&self, peer: PeerId, reason: Reason) -> PeerFailure {
        let failure = PeerFailure { peer, reason };
        self.shared.complaints.complain(&failure);
        // Not to have one thing is no fault.
        if !matches!(failure.reason, Reason::Unable(_) | Reason::Disk { .. }) {
            self.standing().failed(peer, Instant::now());
        }
        failure
    }

    pub(super) async fn connect(&self, peer: &PeerAddress) -> Result<Connection, Reason> {
        self.shared.links.get(peer).await.map_err(Reason::Dial)
    }

    async fn call_peer(&self, peer: &PeerAddress, request: &Request) -> Result<Answer, Reason> {
        call(&self.connect(peer).await?, request).await
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.shared.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) async fn call(connection: &Connection, request: &Request) -> Result<Answer, Reason> {
    connection
        .call(request, MAX_ANSWER, DEADLINE)
        .await
        .map_err(Reason::of_link)
}

pub(crate) fn unexpected(answer: Answer) -> Reason {
    match answer {
        Answer::Unable(reason) => Reason::Unable(reason),
        _ => Reason::OffTopic,
    }
}
