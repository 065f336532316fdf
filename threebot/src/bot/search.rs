//! Collecting what the market offers, each part proven.

use std::collections::BTreeMap;

use ledger::{
    Id, Kind, RecordKey,
    body::{Assignments, Farm, Node, NodeState, Terms},
    record::BodyOf,
};

use super::{Bot, BotError};
use crate::market::{Listing, Ranking, Wanted, rank};

impl Bot {
    /// Looks for nodes that suit.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn search(&self, wanted: &Wanted) -> Result<Ranking, BotError> {
        let nodes = self.bodies::<Node>(&self.chain().find(Kind::Node, None).await?).await?;
        let ids: Vec<Id> = nodes.keys().copied().collect();
        let assignments = self.bodies::<Assignments>(&ids).await?;
        let mut farm_ids: Vec<Id> = nodes.values().map(|(_, node)| node.farm).collect();
        farm_ids.sort_unstable();
        farm_ids.dedup();
        let farms = self.bodies::<Farm>(&farm_ids).await?;
        let mut terms = BTreeMap::new();
        for farm in farms.keys() {
            let ids = self.chain().find(Kind::Terms, Some(*farm)).await?;
            terms.insert(*farm, self.bodies::<Terms>(&ids).await?);
        }
        let mut listings = Vec::new();
        for (id, (_, node)) in nodes {
            let (Some((_, farm)), Some((_, reserved))) = (farms.get(&node.farm), assignments.get(&id)) else {
                continue;
            };
            if node.state != NodeState::Joined {
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
                    free: node.capacity.saturating_sub(reserved.reserved),
                    terms_id: (*terms_id, *version),
                    terms: terms.clone(),
                });
            }
        }
        Ok(rank(listings, wanted))
    }

    /// Latest versions by id, with the hash of the version.
    async fn bodies<B: BodyOf>(&self, ids: &[Id]) -> Result<BTreeMap<Id, (ledger::Hash, B)>, BotError> {
        let keys: Vec<RecordKey> = ids.iter().map(|id| RecordKey::new(B::KIND, *id)).collect();
        let records = self.chain().records(&keys).await?.into_iter().flatten();
        Ok(records
            .filter_map(|record| Some((record.id, (record.hash(), B::of(&record.body)?.clone()))))
            .collect())
    }
}
