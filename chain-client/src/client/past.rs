//! Records as they were: proven against the header of an earlier block, which is verified from the genesis on.

use ledger::{CertifiedHeader, Excerpt, Height, LightClient, Record, RecordKey};
use peer_link::Connection;

use super::{
    ChainClient,
    peers::{call, unexpected},
    records::{earlier_than, verified},
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
        let known = self.light().clone();
        let light = if known.height() <= height {
            known
        } else {
            LightClient::new(self.chain(), self.genesis()).map_err(Reason::Lied)?
        };
        let (mut light, _) = followed_to(light, &connection, height).await?;
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

    /// A record as it is, or as it was after the block of a height, with its whole history and all that proves it.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave all of it.
    pub async fn excerpt(&self, key: RecordKey, height: Option<Height>) -> Result<Excerpt, ClientError> {
        self.ask(move |connection| Box::pin(self.excerpt_from(connection, key, height)))
            .await
    }

    async fn excerpt_from(
        &self,
        connection: Connection,
        key: RecordKey,
        height: Option<Height>,
    ) -> Result<Excerpt, Reason> {
        let keys = vec![key];
        let question = height.map_or_else(
            || Request::Records(keys.clone()),
            |height| Request::RecordsAt {
                height,
                keys: keys.clone(),
            },
        );
        let answer = call(&connection, &question).await?;
        let Answer::Records { head, proofs } = answer else {
            return Err(unexpected(answer));
        };
        let (Ok([proof]), true) = (
            <[_; 1]>::try_from(proofs),
            height.is_none_or(|height| head.header.height == height),
        ) else {
            return Err(Reason::OffTopic);
        };
        let light = LightClient::new(self.chain(), self.genesis()).map_err(Reason::Lied)?;
        let (mut light, handovers) = followed_to(light, &connection, head.header.height).await?;
        light.advance(&head).map_err(Reason::Lied)?;
        let latest = light.verify_record(key, proof.clone()).map_err(Reason::Lied)?;
        let earlier = match &latest {
            Some(latest) => earlier_than(latest, &connection, usize::MAX).await?,
            None => Vec::new(),
        };
        Ok(Excerpt {
            genesis: self.genesis().clone(),
            handovers,
            head,
            key,
            proof,
            earlier,
        })
    }
}

/// Follows the handovers before a height. Gives the client that has, and what it followed.
async fn followed_to(
    mut light: LightClient,
    connection: &Connection,
    height: Height,
) -> Result<(LightClient, Vec<CertifiedHeader>), Reason> {
    let mut followed = Vec::new();
    loop {
        let after = light.height();
        let answer = call(connection, &Request::Head { after }).await?;
        let Answer::Head { handovers, head } = answer else {
            return Err(unexpected(answer));
        };
        // A page that is full ends with its last handover as the head.
        let more = handovers.last().is_some_and(|last| last.header == head.header);
        for handover in handovers {
            let of = handover.header.height;
            if of >= height {
                return Ok((light, followed));
            }
            if of > after {
                light.advance(&handover).map_err(Reason::Lied)?;
                followed.push(handover);
            }
        }
        if !more {
            return Ok((light, followed));
        }
        // Nobody can forge a handover, so whoever has no new one has no more.
        if light.height() == after {
            return Err(Reason::OffTopic);
        }
    }
}
