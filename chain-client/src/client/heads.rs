//! The verified head: asked for, taken from what peers announce, and moved on by the light client alone.

use std::time::{Duration, Instant};

use ledger::{CertifiedHeader, Header, LightError};
use peer_link::Connection;

use super::{
    ChainClient,
    peers::{call, unexpected},
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, MAX_ANSWER, Request},
};

/// Pause after every peer failed, while heads are followed.
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);
/// A followed peer that announces no head for this long is left for another one.
const FOLLOW_SILENCE: Duration = Duration::from_secs(90);

impl ChainClient {
    /// Asks peers for the newest header and verifies it.
    ///
    /// # Errors
    /// [`ClientError::AllFailed`] names for each peer the check that failed or why it was not reached.
    pub async fn sync(&self) -> Result<Header, ClientError> {
        self.ask(move |connection| Box::pin(async move { self.sync_with(&connection).await }))
            .await
    }

    pub(super) async fn sync_with(&self, connection: &Connection) -> Result<Header, Reason> {
        loop {
            let after = self.light().height();
            let answer = call(connection, &Request::Head { after }).await?;
            let Answer::Head { handovers, head } = answer else {
                return Err(unexpected(answer));
            };
            // A page that is full ends with its last handover as the head.
            let more = handovers.last().is_some_and(|last| last.header == head.header);
            for handover in handovers.iter().filter(|handover| handover.header.height > after) {
                self.advance(handover)?;
            }
            self.advance(&head)?;
            if !more {
                return Ok(head.header);
            }
            // Nobody can forge a handover, so whoever has no new one has no more.
            if head.header.height <= after {
                return Err(Reason::OffTopic);
            }
        }
    }

    /// Verifies a header; what is verified is on stable storage before anything is done by it.
    pub(super) fn advance(&self, certified: &CertifiedHeader) -> Result<(), Reason> {
        let mut light = self.light();
        let before = light.height();
        let mut next = light.clone();
        next.advance(certified).map_err(Reason::Lied)?;
        self.clock().verified(certified.header.time, Instant::now());
        if next.height() > before {
            self.shared.trust.store(&next)?;
            *light = next;
            self.shared.heads.send_replace(Some(certified.header.clone()));
        }
        Ok(())
    }

    /// Follows new heads until the returned task is dropped: verifies each that a peer announces, leaves a peer that lies or
    /// falls silent for the next one, and never gives up.
    pub fn follow(&self) -> Following {
        let client = self.clone();
        Following(tokio::spawn(async move { client.follow_forever().await }))
    }

    /// All peers at once: the newest head wins, and one that holds back holds up nobody.
    async fn follow_forever(&self) {
        let mut all = tokio::task::JoinSet::new();
        for peer in self.shared.peers.clone() {
            let client = self.clone();
            all.spawn(async move {
                loop {
                    let result = match client.connect(&peer).await {
                        Ok(connection) => client.follow_one(&connection).await,
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = result {
                        client.failed(peer.id(), reason);
                    }
                    tokio::time::sleep(FOLLOW_PAUSE).await;
                }
            });
        }
        // None of them ends by itself.
        while all.join_next().await.is_some() {}
    }

    async fn follow_one(&self, connection: &Connection) -> Result<(), Reason> {
        self.sync_with(connection).await?;
        let mut stream = connection.open().await.map_err(Reason::of_link)?;
        stream
            .send(&Request::Watch, MAX_ANSWER)
            .await
            .map_err(Reason::of_link)?;
        let mut announced = 0;
        loop {
            let answer = stream
                .receive_within(MAX_ANSWER, FOLLOW_SILENCE)
                .await
                .map_err(Reason::of_link)?;
            let Answer::Head { head, .. } = answer else {
                return Err(unexpected(answer));
            };
            let height = head.header.height;
            match self.advance(&head) {
                // Another peer was faster; but each one's heads rise.
                Ok(()) | Err(Reason::Lied(LightError::StaleHead { .. })) if height > announced => announced = height,
                Ok(()) => {
                    return Err(Reason::Lied(LightError::StaleHead {
                        given: height,
                        trusted: announced,
                    }));
                }
                // A handover lies between.
                Err(Reason::Lied(LightError::WrongValidatorSet { .. })) => {
                    self.sync_with(connection).await?;
                    match self.advance(&head) {
                        Ok(()) | Err(Reason::Lied(LightError::StaleHead { .. })) => announced = height,
                        Err(reason) => return Err(reason),
                    }
                }
                Err(reason) => return Err(reason),
            }
        }
    }
}

/// The task that follows new heads; stops when dropped.
#[derive(Debug)]
#[must_use = "dropping it stops following"]
pub struct Following(tokio::task::JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
