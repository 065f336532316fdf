//! Records: the latest versions with their proofs, earlier ones by their hashes.

use std::time::Duration;

use ledger::{
    CertifiedHeader, Hash, Header, Id, Kind, LightError, Record, RecordKey,
    body::{Assignments, Contract},
    light::{RecordProof, verify_history},
    record::BodyOf,
};
use peer_link::Connection;

use super::{
    ChainClient,
    peers::{call, unexpected},
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, HISTORY_PAGE, MAX_KEYS, Request},
};

/// Most versions that one history collects.
const MAX_HISTORY: usize = 10_000;
/// Attempts with one peer when another task has moved the verified head on meanwhile.
const STALE_ATTEMPTS: usize = 3;
/// Pause between them, in which a peer that is a moment behind catches up.
const STALE_PAUSE: Duration = Duration::from_millis(100);

/// A record that is proven to be the latest version, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven<B> {
    /// The whole record.
    pub record: Record,
    /// What it says.
    pub body: B,
}

impl<B: BodyOf> Proven<B> {
    pub(super) fn new(record: Record) -> Option<Self> {
        let body = B::of(&record.body)?.clone();
        Some(Self { record, body })
    }
}

/// What the proofs of a trusted header say of records.
pub(super) fn verified(
    header: &Header,
    keys: &[RecordKey],
    proofs: Vec<RecordProof>,
) -> Result<Vec<Option<Record>>, Reason> {
    if proofs.len() != keys.len() {
        return Err(Reason::OffTopic);
    }
    let verify = |(key, proof): (&RecordKey, RecordProof)| proof.verify(header.state, *key);
    let all = keys.iter().zip(proofs).map(verify);
    all.collect::<Result<_, _>>().map_err(Reason::Lied)
}

impl ChainClient {
    /// The latest version of a record, proven against the newest head of the peer that answered.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave a proof.
    pub async fn record<B: BodyOf>(&self, id: Id) -> Result<Option<Proven<B>>, ClientError> {
        let mut records = self.records(&[RecordKey::new(B::KIND, id)]).await?;
        Ok(records.pop().flatten().and_then(Proven::new))
    }

    /// The latest version of a record that must exist.
    ///
    /// # Errors
    /// [`ClientError::Missing`] when it is proven that there is none, otherwise as [`Self::record`].
    pub async fn require<B: BodyOf>(&self, id: Id) -> Result<Proven<B>, ClientError> {
        let found = self.record::<B>(id).await?;
        found.ok_or_else(|| ClientError::Missing(RecordKey::new(B::KIND, id).to_string()))
    }

    /// The latest versions of records, in the order of `keys`; `None` where it is proven that there is none.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn records(&self, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, ClientError> {
        let mut all = Vec::with_capacity(keys.len());
        for page in keys.chunks(MAX_KEYS) {
            all.extend(
                self.ask(move |connection| Box::pin(async move { self.records_from(&connection, page).await }))
                    .await?,
            );
        }
        Ok(all)
    }

    async fn records_from(&self, connection: &Connection, keys: &[RecordKey]) -> Result<Vec<Option<Record>>, Reason> {
        let request = Request::Records(keys.to_vec());
        let (head, proofs) = self
            .by_newest(connection, &request, |answer| match answer {
                Answer::Records { head, proofs } => Ok((head, proofs)),
                answer => Err(unexpected(answer)),
            })
            .await?;
        verified(&head.header, keys, proofs)
    }

    /// What a peer says by its newest header, which is verified; asked again where the peer is a moment behind what is known, or
    /// the validators have changed. `read` takes the header and the rest out of an answer.
    pub(super) async fn by_newest<T>(
        &self,
        connection: &Connection,
        request: &Request,
        read: fn(Answer) -> Result<(CertifiedHeader, T), Reason>,
    ) -> Result<(CertifiedHeader, T), Reason> {
        let mut attempt = 1;
        loop {
            let (head, answer) = read(call(connection, request).await?)?;
            match self.advance(&head) {
                Ok(()) => return Ok((head, answer)),
                Err(Reason::Lied(LightError::WrongValidatorSet { .. })) if attempt < STALE_ATTEMPTS => {
                    self.sync_with(connection).await?;
                }
                Err(Reason::Lied(LightError::StaleHead { .. })) if attempt < STALE_ATTEMPTS => {
                    tokio::time::sleep(STALE_PAUSE).await;
                }
                Err(reason) => return Err(reason),
            }
            attempt += 1;
        }
    }

    /// All live contracts of a node. The set is proven to be complete and each contract to be the latest version.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn assigned(&self, node: Id) -> Result<Vec<Proven<Contract>>, ClientError> {
        let Some(set) = self.record::<Assignments>(node).await? else {
            return Ok(Vec::new());
        };
        let keys: Vec<RecordKey> = set
            .body
            .contracts
            .iter()
            .map(|id| RecordKey::new(Kind::Contract, *id))
            .collect();
        let records = self
            .records(&keys)
            .await?
            .into_iter()
            .map(|record| record.and_then(Proven::new));
        // A set with a gap in it would not be the whole set.
        let whole =
            |(key, contract): (&RecordKey, Option<_>)| contract.ok_or_else(|| ClientError::Missing(key.to_string()));
        keys.iter().zip(records).map(whole).collect()
    }

    /// A version of a record, by its hash.
    ///
    /// # Errors
    /// [`ClientError`] when no peer has it.
    pub async fn version<B: BodyOf>(&self, hash: Hash) -> Result<Proven<B>, ClientError> {
        self.ask(move |connection| {
            Box::pin(async move {
                let answer = call(&connection, &Request::Version(hash)).await?;
                let Answer::Versions(mut records) = answer else {
                    return Err(unexpected(answer));
                };
                let record = records
                    .pop()
                    .filter(|record| records.is_empty() && record.hash() == hash);
                let record = record.ok_or(Reason::AlteredContent(hash))?;
                Proven::new(record).ok_or(Reason::OffTopic)
            })
        })
        .await
    }

    /// The versions of a record, newest first, each linked to the one before, back to the first or to the 10,000th newest.
    ///
    /// # Errors
    /// [`ClientError`] when there is no such record or no peer gave its whole history.
    pub async fn history(&self, key: RecordKey) -> Result<Vec<Record>, ClientError> {
        let latest = self.records(&[key]).await?.pop().flatten();
        let latest = &latest.ok_or_else(|| ClientError::Missing(key.to_string()))?;
        self.ask(move |connection| {
            Box::pin(async move {
                let earlier = earlier_than(latest, &connection, MAX_HISTORY).await?;
                Ok(std::iter::once(latest.clone()).chain(earlier).collect())
            })
        })
        .await
    }
}

/// The versions before one, newest first, each linked to the one before, back to the first or as many as `most` and a page.
pub(super) async fn earlier_than(latest: &Record, connection: &Connection, most: usize) -> Result<Vec<Record>, Reason> {
    let mut earlier: Vec<Record> = Vec::new();
    loop {
        let from = earlier.last().map_or(latest.previous, |record| record.previous);
        if from == Hash::ZERO {
            verify_history(latest, &earlier).map_err(Reason::Lied)?;
            return Ok(earlier);
        }
        if earlier.len() >= most {
            return Ok(earlier);
        }
        let answer = call(connection, &Request::History { from }).await?;
        let Answer::Versions(page) = answer else {
            return Err(unexpected(answer));
        };
        if page.is_empty() || page.len() > HISTORY_PAGE {
            return Err(Reason::OffTopic);
        }
        // Each link is checked before more is taken in.
        for record in page {
            if !earlier.last().unwrap_or(latest).follows(&record) {
                return Err(Reason::Lied(LightError::BrokenHistory(latest.key(), record.version)));
            }
            earlier.push(record);
        }
    }
}
