//! Records as they were: proven against the header of an earlier block, which is verified from the genesis on.

use ledger::{Height, LightClient, Record, RecordKey};
use peer_link::Connection;

use super::{
    ChainClient,
    heads::MAX_HANDOVER_PAGES,
    peers::{call, unexpected},
    records::verified,
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, MAX_KEYS, Request},
};

impl ChainClient {
    /// Records as they were after the block of a height, in the order of `keys`; `None` where it is proven that there was none.
    /// Height 0, the genesis, has no block. The work grows with the changes of the validators between the verified head, or the
    /// genesis where that is later, and then: for a time before that head the validators of then are believed.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs; also where there is no such block yet.
    pub async fn records_at(&self, keys: &[RecordKey], height: Height) -> Result<Vec<Option<Record>>, ClientError> {
        let mut all = Vec::with_capacity(keys.len());
        for page in keys.chunks(MAX_KEYS) {
            let question = move |connection| -> super::peers::Asked<'_, _> {
                Box::pin(self.records_at_from(connection, page, height))
            };
            all.extend(self.ask(question).await?);
        }
        Ok(all)
    }

    async fn records_at_from(
        &self,
        connection: Connection,
        keys: &[RecordKey],
        height: Height,
    ) -> Result<Vec<Option<Record>>, Reason> {
        let mut light = self.followed_to(&connection, height).await?;
        let keys = keys.to_vec();
        let answer = call(
            &connection,
            &Request::RecordsAt {
                height,
                keys: keys.clone(),
            },
        )
        .await?;
        let Answer::Records { head, proofs } = answer else {
            return Err(unexpected(answer));
        };
        if head.header.height != height {
            return Err(Reason::OffTopic);
        }
        light.advance(&head).map_err(Reason::Lied)?;
        verified(&head.header, &keys, proofs)
    }

    /// A light client that has followed the handovers before a height.
    async fn followed_to(&self, connection: &Connection, height: Height) -> Result<LightClient, Reason> {
        let known = self.light().clone();
        let mut light = if known.height() <= height {
            known
        } else {
            LightClient::new(self.chain(), self.genesis()).map_err(Reason::Lied)?
        };
        for _ in 0..MAX_HANDOVER_PAGES {
            let after = light.height();
            let answer = call(connection, &Request::Head { after }).await?;
            let Answer::Head { handovers, head } = answer else {
                return Err(unexpected(answer));
            };
            // A page that is full ends with its last handover as the head.
            let more = handovers.last().is_some_and(|last| last.header == head.header);
            for handover in handovers.iter().filter(|handover| handover.header.height > after) {
                if handover.header.height >= height {
                    return Ok(light);
                }
                light.advance(handover).map_err(Reason::Lied)?;
            }
            if !more {
                return Ok(light);
            }
            if light.height() == after {
                break;
            }
        }
        Err(Reason::OffTopic)
    }
}
