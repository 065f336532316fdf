//! Searching: which records there may be. What is found is a hint; [`ChainClient::prove`] proves each hit.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{
    Hash, Id, Kind, Record, RecordKey, Resources,
    body::{Assignments, Farm, Terms},
    query::{Facts, Position, Query},
    record::BodyOf,
};
use peer_link::Connection;

use super::{
    ChainClient,
    peers::{Asked, call, unexpected},
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, PAGE, Request},
};

/// Most hits that one search collects.
const MAX_FOUND: usize = 16 * PAGE;
/// Most pages that one search asks for: each stands for thousands of records that a peer has looked at.
const MAX_PAGES: usize = 1_024;
/// Most terms of one farm that are looked at.
const MAX_TERMS: usize = 16;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The hits, in the order of the search.
    pub hits: Vec<Position>,
    /// Whether there may be more that were not asked for.
    pub cut: bool,
}

impl Found {
    /// The ids of the records.
    #[must_use]
    pub fn ids(&self) -> Vec<Id> {
        self.hits.iter().map(|hit| hit.id).collect()
    }
}

/// Where and how far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// It begins above this and goes on from the lowest. From a start drawn at random nobody can tell which hits a search that is
    /// cut will see.
    pub start: Option<Position>,
    /// Most hits of one farm on a page, where the search goes farm by farm.
    pub each: u16,
    /// Most hits.
    pub most: usize,
}

impl Reach {
    /// From the lowest on, at most so many.
    #[must_use]
    pub const fn most(most: usize) -> Self {
        Self {
            start: None,
            each: u16::MAX,
            most,
        }
    }
}

impl ChainClient {
    /// Ids of records of a kind that belong to `of`, or of all; the first 4,096 where there are more. A peer may leave some
    /// out; each is proven by [`Self::record`].
    ///
    /// # Errors
    /// [`ClientError`] when no peer answered.
    pub async fn find(&self, kind: Kind, of: Option<Id>) -> Result<Vec<Id>, ClientError> {
        let query = Query { of, ..Query::all(kind) };
        Ok(self.search(&query, Reach::most(MAX_FOUND)).await?.ids())
    }

    /// What one of the peers says matches a query. It may leave hits out, and name what is none.
    ///
    /// # Errors
    /// [`ClientError`] when no peer answered.
    pub async fn search(&self, query: &Query, reach: Reach) -> Result<Found, ClientError> {
        let ask = move |connection| -> Asked<'_, Found> {
            Box::pin(async move { search_with(&connection, query, reach).await })
        };
        self.ask(ask).await
    }

    /// The records of hits, each proven and shown to match by proven records alone.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn prove(&self, query: &Query, hits: &[Position]) -> Result<Vec<Record>, ClientError> {
        let keys: Vec<RecordKey> = hits.iter().map(|hit| RecordKey::new(query.kind, hit.id)).collect();
        let records: Vec<Record> = self.records(&keys).await?.into_iter().flatten().collect();
        let surroundings = if query.of.is_some() || query.by_farm() {
            self.surroundings(&records, query.fits.is_some()).await?
        } else {
            Surroundings::default()
        };
        let is_hit = |record: &Record| query.matches(record, &surroundings.facts(record));
        Ok(records.into_iter().filter(is_hit).collect())
    }

    /// The farms that nodes and terms belong to, and, if the nodes' capacity is of interest, what is reserved on them and which
    /// terms their farms offer.
    ///
    /// # Errors
    /// [`ClientError`] when no peer gave the proofs.
    pub async fn surroundings(&self, records: &[Record], capacity: bool) -> Result<Surroundings, ClientError> {
        let farms: BTreeSet<Id> = records.iter().filter_map(farm_of).collect();
        let farms: Vec<Id> = farms.into_iter().collect();
        let mut around = Surroundings {
            farms: self.bodies(&farms).await?,
            ..Surroundings::default()
        };
        let nodes = records.iter().filter(|record| record.body.kind() == Kind::Node);
        let nodes: Vec<Id> = nodes.map(|record| record.id).collect();
        if !capacity || nodes.is_empty() {
            return Ok(around);
        }
        around.assignments = self.bodies(&nodes).await?;
        for farm in farms {
            let query = Query {
                of: Some(farm),
                ..Query::all(Kind::Terms)
            };
            let ids = self.search(&query, Reach::most(MAX_TERMS)).await?.ids();
            let keys: Vec<RecordKey> = ids.into_iter().map(|id| RecordKey::new(Kind::Terms, id)).collect();
            let mut offered = Offered::default();
            for record in self.records(&keys).await?.into_iter().flatten() {
                if let Some(terms) = Terms::of(&record.body).filter(|terms| terms.farm == farm) {
                    offered.versions.push((record.id, record.hash()));
                    offered.terms.push(terms.clone());
                }
            }
            around.offered.insert(farm, offered);
        }
        Ok(around)
    }

    async fn bodies<B: BodyOf>(&self, ids: &[Id]) -> Result<BTreeMap<Id, B>, ClientError> {
        let keys: Vec<RecordKey> = ids.iter().map(|id| RecordKey::new(B::KIND, *id)).collect();
        let records = self.records(&keys).await?.into_iter().flatten();
        Ok(records
            .filter_map(|record| Some((record.id, B::of(&record.body)?.clone())))
            .collect())
    }
}

/// Proven records that tell about others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Farms by id.
    pub farms: BTreeMap<Id, Farm>,
    /// The live contracts of nodes, by the node.
    pub assignments: BTreeMap<Id, Assignments>,
    /// What farms offer.
    pub offered: BTreeMap<Id, Offered>,
}

/// The terms of a farm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offered {
    /// Id and hash of the version of each.
    pub versions: Vec<(Id, Hash)>,
    /// What each says.
    pub terms: Vec<Terms>,
}

impl Surroundings {
    /// What is known of a record.
    #[must_use]
    pub fn facts(&self, record: &Record) -> Facts<'_> {
        let farm = farm_of(record);
        let offered = farm.and_then(|farm| self.offered.get(&farm));
        let assignments = self.assignments.get(&record.id);
        Facts {
            farm: farm.and_then(|farm| self.farms.get(&farm)),
            reserved: assignments.map_or(Resources::ZERO, |assignments| assignments.reserved),
            terms: offered.map_or(&[], |offered| &offered.terms),
        }
    }
}

fn farm_of(record: &Record) -> Option<Id> {
    match &record.body {
        ledger::Body::Node(node) => Some(node.farm),
        ledger::Body::Terms(terms) => Some(terms.farm),
        _ => None,
    }
}

async fn search_with(connection: &Connection, query: &Query, reach: Reach) -> Result<Found, Reason> {
    let Reach { start, each, most } = reach;
    let mut hits: Vec<Position> = Vec::new();
    // Once from the start to the highest, then from the lowest to the start.
    let (mut after, mut until) = (start, None);
    for _ in 0..MAX_PAGES {
        let query = *query;
        let answer = call(connection, &Request::Search { query, after, each }).await?;
        let Answer::Found { hits: mut page, next } = answer else {
            return Err(unexpected(answer));
        };
        let rising = after.iter().chain(&page).is_sorted_by(|a, b| a < b);
        let goes_on = next.is_none_or(|next| Some(next) > after && page.last().is_none_or(|last| *last <= next));
        if !rising || !goes_on || page.len() > PAGE {
            return Err(Reason::OffTopic);
        }
        let mut last = next.is_none();
        if let Some(until) = until {
            last |= next.is_some_and(|next| next >= until);
            page.retain(|hit| *hit <= until);
        }
        after = next;
        hits.extend(page);
        let begin_again = last && until.is_none() && start.is_some();
        if hits.len() > most || (hits.len() == most && (begin_again || !last)) {
            hits.truncate(most);
            return Ok(Found { hits, cut: true });
        }
        if begin_again {
            (after, until) = (None, start);
        } else if last {
            return Ok(Found { hits, cut: false });
        }
    }
    Ok(Found { hits, cut: true })
}
