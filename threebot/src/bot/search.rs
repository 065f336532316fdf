//! Collecting what the market offers, each part proven.
//!
//! Records cost their authors nothing, so no farm may fill a search with its own: a search begins at a farm drawn at random, and
//! each farm gets the same share of it. What was left out is said.

use std::collections::BTreeMap;

use ledger::{
    Hash, Id, Kind, RecordKey,
    body::{Assignments, Farm, Node, NodeState, Terms},
    record::BodyOf,
};

use super::{Bot, BotError};
use crate::market::{Listing, Ranking, Wanted, rank};

/// Most farms that one search looks at.
const MAX_FARMS: usize = 2_048;
/// Most nodes that one search looks at, of all farms together; a farm has an equal share, and at least one.
const MAX_NODES: usize = 4_096;
/// Most terms of one farm that a search looks at.
const MAX_TERMS: usize = 16;

/// How many nodes of each of `farms` farms a search looks at.
fn share(farms: usize) -> usize {
    MAX_NODES.checked_div(farms).unwrap_or(MAX_NODES).max(1)
}

impl Bot {
    /// Looks for nodes that suit.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn search(&self, wanted: &Wanted) -> Result<Ranking, BotError> {
        let start = draw_id()?;
        let found = self.chain().find_from(Kind::Farm, None, Some(start), MAX_FARMS).await?;
        let mut cut = found.cut;
        let farms = self.bodies::<Farm>(&found.ids).await?;
        let mut terms = BTreeMap::new();
        for farm in farms.keys() {
            let offered = self
                .chain()
                .find_from(Kind::Terms, Some(*farm), None, MAX_TERMS)
                .await?;
            if !offered.ids.is_empty() {
                terms.insert(*farm, self.bodies::<Terms>(&offered.ids).await?);
            }
        }
        let share = share(terms.len());
        let mut nodes = Vec::new();
        for farm in terms.keys() {
            let found = self
                .chain()
                .find_from(Kind::Node, Some(*farm), Some(start), share)
                .await?;
            cut |= found.cut;
            nodes.extend(found.ids);
        }
        let looked_at = nodes.len();
        let assignments = self.bodies::<Assignments>(&nodes).await?;
        let nodes = self.bodies::<Node>(&nodes).await?;
        let mut listings = Vec::new();
        for (id, (_, node)) in nodes {
            let (Some((_, farm)), Some((_, reserved))) = (farms.get(&node.farm), assignments.get(&id)) else {
                continue;
            };
            if node.state == NodeState::Expelled {
                continue;
            }
            for (terms_id, (version, terms)) in terms.get(&node.farm).into_iter().flatten() {
                listings.push(Listing {
                    node: id,
                    farm: node.farm,
                    farm_name: farm.name.to_string(),
                    owner: farm.owner,
                    location: farm.location,
                    hardware: node.hardware.to_string(),
                    state: node.state,
                    free: node.capacity.saturating_sub(reserved.reserved),
                    terms_id: (*terms_id, *version),
                    terms: terms.clone(),
                });
            }
        }
        let mut ranking = rank(listings, wanted);
        ranking.cut = cut.then_some(looked_at);
        Ok(ranking)
    }

    /// Latest versions by id, with the hash of the version.
    async fn bodies<B: BodyOf>(&self, ids: &[Id]) -> Result<BTreeMap<Id, (Hash, B)>, BotError> {
        let keys: Vec<RecordKey> = ids.iter().map(|id| RecordKey::new(B::KIND, *id)).collect();
        let records = self.chain().records(&keys).await?.into_iter().flatten();
        Ok(records
            .filter_map(|record| Some((record.id, (record.hash(), B::of(&record.body)?.clone()))))
            .collect())
    }
}

/// An id drawn at random: where a search begins.
fn draw_id() -> Result<Id, BotError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| BotError::Local(format!("draw a random number: {error}")))?;
    Ok(Id::from_hash(Hash::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farms_share_a_search_and_each_has_a_place_in_it() {
        assert_eq!(share(0), MAX_NODES);
        assert_eq!(share(1), MAX_NODES);
        assert_eq!(share(100), 40);
        assert!(share(MAX_FARMS) >= 1);
    }
}
