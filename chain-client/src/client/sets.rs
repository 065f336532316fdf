//! Sets: all live records of a kind that belong to somebody or something, proven to be all.

use ledger::{
    CertifiedHeader, Header, Id, Kind, LightError, RecordKey,
    record::BodyOf,
    sets::Set,
    tree::{Leaf, Region},
};
use peer_link::Connection;

use super::{ChainClient, Proven, peers::call, unexpected};
use crate::{
    ClientError, Reason,
    protocol::{Answer, MAX_LEAVES, Request},
};

/// How often a peer may say that there are too many leaves where it has shown none yet: a path has no more bits in a set.
const SPLITS: usize = 128;

impl ChainClient {
    /// Ids of all live records of a kind that belong to `of` after the newest block of the peer that answered, proven to be
    /// complete, with that block's header.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proof.
    pub async fn set(&self, kind: Kind, of: Id) -> Result<(Header, Vec<Id>), ClientError> {
        let set = Set { kind, of };
        self.ask(move |connection| Box::pin(async move { self.set_from(&connection, set).await }))
            .await
    }

    /// All live records of a kind that belong to `of`, each and the set of them proven by one block.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn all_of<B: BodyOf>(&self, of: Id) -> Result<Vec<Proven<B>>, ClientError> {
        let (header, ids) = self.set(B::KIND, of).await?;
        let keys: Vec<RecordKey> = ids.into_iter().map(|id| RecordKey::new(B::KIND, id)).collect();
        let records = self.records_at(&keys, header.height).await?;
        let whole = |(key, record): (&RecordKey, Option<_>)| {
            let proven = record.and_then(Proven::new);
            proven.ok_or_else(|| ClientError::Missing(key.to_string()))
        };
        keys.iter().zip(records).map(whole).collect()
    }

    async fn set_from(&self, connection: &Connection, set: Set) -> Result<(Header, Vec<Id>), Reason> {
        let mut head: Option<Header> = None;
        let (mut waiting, mut splits, mut leaves) = (vec![set.region()], 0, Vec::new());
        while let Some(region) = waiting.pop() {
            let (certified, found) = self.region_from(connection, region, head.as_ref()).await?;
            if let Some(found) = found {
                leaves.extend(found);
            } else {
                splits += 1;
                if splits > SPLITS + leaves.len() {
                    return Err(Reason::OffTopic);
                }
                // The lower half is asked for first, so that all come in the order of their ids.
                let [low, high] = region.halves().ok_or(Reason::OffTopic)?;
                waiting.extend([high, low]);
            }
            head.get_or_insert(certified);
        }
        let header = head.ok_or(Reason::OffTopic)?;
        Ok((header, set.members(&leaves)))
    }

    /// The leaves of a region, nothing if there are too many for one answer, and the header that proves them: `head` if there is
    /// one, else the peer's newest.
    async fn region_from(
        &self,
        connection: &Connection,
        region: Region,
        head: Option<&Header>,
    ) -> Result<(Header, Option<Vec<Leaf>>), Reason> {
        let height = head.map(|head| head.height);
        let request = Request::Region { height, region };
        let read = |answer| match answer {
            Answer::Region { head, proof } => Ok((head, proof)),
            answer => Err(unexpected(answer)),
        };
        let (CertifiedHeader { header, .. }, proof) = match head {
            Some(_) => read(call(connection, &request).await?)?,
            None => self.by_newest(connection, &request, read).await?,
        };
        if head.is_some_and(|head| header != *head) {
            return Err(Reason::OffTopic);
        }
        let Some(proof) = proof else {
            return Ok((header, None));
        };
        if proof.leaves.len() > MAX_LEAVES {
            return Err(Reason::OffTopic);
        }
        let leaves = proof.verify(header.state, region);
        let leaves = leaves.map_err(|error| Reason::Lied(LightError::BadRegion(error)))?;
        Ok((header, Some(leaves)))
    }
}
