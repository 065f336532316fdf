//! Collecting what the market offers, each part proven.
//!
//! Records cost their authors nothing, so no farm may fill a search with its own: a search begins at a farm drawn at random, and
//! each farm gets the same share of it. What was left out is said.

use chain_client::{Offered, Reach, Surroundings};
use ledger::{
    Hash, Id, Kind, Record, RecordKey,
    body::{Node, NodeState, Terms},
    geography::Place,
    query::{Position, Query},
    record::BodyOf,
};

use super::{Bot, BotError};
use crate::market::{Listing, Ranking, Wanted, rank};

/// Most nodes that one search looks at, of all farms together.
const MAX_NODES: usize = 4_096;
/// Most nodes of one farm among them: they cost the same, and a farmer is asked for one.
const MAX_OF_FARM: u16 = 32;

impl Bot {
    /// Looks for nodes that suit. Where there is none it says why of those that there are.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn search(&self, wanted: &Wanted) -> Result<Ranking, BotError> {
        let suits = Query {
            place: wanted.place,
            fits: Some(wanted.resources),
            max_hour: wanted.max_hour,
            ..Query::all(Kind::Node)
        };
        let ranking = self.ranked(&suits, wanted).await?;
        if !ranking.candidates.is_empty() {
            return Ok(ranking);
        }
        let any = Query {
            place: Some(Place::ANYWHERE),
            ..Query::all(Kind::Node)
        };
        self.ranked(&any, wanted).await
    }

    async fn ranked(&self, query: &Query, wanted: &Wanted) -> Result<Ranking, BotError> {
        let reach = Reach {
            start: Some(draw_start()?),
            each: MAX_OF_FARM,
            most: MAX_NODES,
        };
        let found = self.chain().search(query, reach).await?;
        let keys: Vec<RecordKey> = found
            .ids()
            .into_iter()
            .map(|id| RecordKey::new(Kind::Node, id))
            .collect();
        let nodes: Vec<Record> = self.chain().records(&keys).await?.into_iter().flatten().collect();
        let surroundings = self.chain().surroundings(&nodes, true).await?;
        let listings = nodes.iter().flat_map(|node| listings(node, &surroundings)).collect();
        let mut ranking = rank(listings, wanted);
        ranking.cut = found.cut.then_some(nodes.len());
        Ok(ranking)
    }
}

/// A node under each of its farm's terms.
fn listings(record: &Record, surroundings: &Surroundings) -> Vec<Listing> {
    let none = Vec::new();
    let Some(node) = Node::of(&record.body).filter(|node| node.state != NodeState::Expelled) else {
        return none;
    };
    let reserved = surroundings.assignments.get(&record.id);
    let (Some(farm), Some(offered), Some(reserved)) = (
        surroundings.farms.get(&node.farm),
        surroundings.offered.get(&node.farm),
        reserved,
    ) else {
        return none;
    };
    let Offered { versions, terms } = offered;
    let offers = versions.iter().zip(terms);
    let listing = |(terms_id, terms): (&(Id, Hash), &Terms)| Listing {
        node: record.id,
        farm: node.farm,
        farm_name: farm.name.to_string(),
        owner: farm.owner,
        location: farm.location,
        hardware: node.hardware.to_string(),
        state: node.state,
        free: node.capacity.saturating_sub(reserved.reserved),
        terms_id: *terms_id,
        terms: terms.clone(),
    };
    offers.map(listing).collect()
}

/// Where a search begins, drawn at random.
fn draw_start() -> Result<Position, BotError> {
    let draw = || -> Result<Id, BotError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| BotError::Local(format!("draw a random number: {error}")))?;
        Ok(Id::from_hash(Hash::from_bytes(bytes)))
    };
    Ok(Position {
        farm: draw()?,
        id: draw()?,
    })
}
