//! A farmer's own records.

use ledger::{
    Id, Kind, Operation, SigningKey,
    body::{Assignments, Enrolment, Farm, Location, MAX_ENROLMENTS, Node, Terms},
    text::Text,
};
use node_api::image::FarmMedia;
use peer_link::PeerAddress;
use zeroize::Zeroizing;

use super::{Bot, BotError};
use crate::control::{FarmNodeView, FarmView};

const DAY_MS: u64 = 86_400_000;

impl Bot {
    /// Makes a farm.
    ///
    /// # Errors
    /// [`BotError`] when the name is too long or the chain refuses.
    pub async fn create_farm(&self, name: &str, location: Location) -> Result<Id, BotError> {
        let name = Text::new(name).map_err(|error| BotError::Usage(format!("name: {error}")))?;
        let farm = Farm {
            owner: self.id(),
            name: name.clone(),
            location,
            enrolments: Vec::new(),
        };
        self.send(Operation::CreateFarm { name, location }).await?;
        Ok(farm.founding_id())
    }

    /// Gives a farm another name and place.
    ///
    /// # Errors
    /// [`BotError`] when there is no such farm, the name is too long or the chain refuses.
    pub async fn update_farm(&self, farm: Option<&str>, name: &str, location: Location) -> Result<Id, BotError> {
        let (farm, _) = self.farm(farm).await?;
        let name = Text::new(name).map_err(|error| BotError::Usage(format!("name: {error}")))?;
        self.send(Operation::UpdateFarm { farm, name, location }).await?;
        Ok(farm)
    }

    /// Its farm of this name or id, or its only one.
    async fn farm(&self, wanted: Option<&str>) -> Result<(Id, Farm), BotError> {
        let mut fitting = Vec::new();
        for farm in self.chain().all_of::<Farm>(self.id()).await? {
            let id = farm.record.id;
            let named = |text: &str| farm.body.name.as_str() == text || id.to_string() == text;
            if wanted.is_none_or(named) {
                fitting.push((id, farm.body));
            }
        }
        match (fitting.len(), wanted) {
            (1, _) => Ok(fitting.remove(0)),
            (0, Some(wanted)) => Err(BotError::NotFound(format!("no farm of this bot is {wanted:?}"))),
            (0, None) => Err(BotError::NotFound(
                "this bot has no farm; run `threebot farm create`".into(),
            )),
            _ => Err(BotError::Usage(
                "this bot has several such farms; name one by its id with --farm".into(),
            )),
        }
    }

    /// Publishes the terms of a farm, or replaces those that are there.
    ///
    /// # Errors
    /// [`BotError`] when there is no such farm or the chain refuses.
    pub async fn set_terms(&self, farm: Option<&str>, terms: Terms) -> Result<Id, BotError> {
        let (farm, _) = self.farm(farm).await?;
        let terms = Terms { farm, ..terms };
        let (_, known) = self.chain().set(Kind::Terms, farm).await?;
        if let Some(id) = known.first().copied() {
            self.send(Operation::UpdateTerms { id, terms }).await?;
            return Ok(id);
        }
        let id = terms.founding_id();
        self.send(Operation::PublishTerms(terms)).await?;
        Ok(id)
    }

    /// Makes an enrolment key for `nodes` nodes, valid for `days` days, and puts its right on the chain.
    ///
    /// # Errors
    /// [`BotError`] when there is no such farm, it has too many keys, or the chain refuses.
    pub async fn make_media(
        &self,
        farm: Option<&str>,
        nodes: u32,
        days: u32,
        peers: Vec<PeerAddress>,
    ) -> Result<FarmMedia, BotError> {
        let (id, farm) = self.farm(farm).await?;
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|error| BotError::Local(format!("draw a key: {error}")))?;
        let time = self.chain().sync().await?.time;
        let mut enrolments = farm.enrolments;
        enrolments.retain(|enrolment| enrolment.remaining > 0 && enrolment.until >= time);
        if enrolments.len() >= MAX_ENROLMENTS {
            let text = format!("the farm has {MAX_ENROLMENTS} enrolment keys in use; wait until one has run out");
            return Err(BotError::Usage(text));
        }
        enrolments.push(Enrolment {
            key: SigningKey::from_seed(&seed).public(),
            remaining: nodes,
            until: time.plus(u64::from(days) * DAY_MS),
        });
        self.send(Operation::SetEnrolments { farm: id, enrolments }).await?;
        let peers = if peers.is_empty() {
            self.shared.config.peers.clone()
        } else {
            peers
        };
        Ok(FarmMedia {
            genesis: self.chain().chain().to_string(),
            peers: peers.iter().map(PeerAddress::to_string).collect(),
            farm: id.to_string(),
            enrolment_seed: data_encoding::HEXLOWER.encode(seed.as_slice()),
        })
    }

    /// Its farms with their nodes.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn farms(&self) -> Result<Vec<FarmView>, BotError> {
        let mut views = Vec::new();
        for farm in self.chain().all_of::<Farm>(self.id()).await? {
            let id = farm.record.id;
            let mut nodes = Vec::new();
            for record in self.chain().all_of::<Node>(id).await? {
                let node = record.record.id;
                let assignments = self.chain().record::<Assignments>(node).await?;
                let assignments = assignments.map(|assignments| assignments.body).unwrap_or_default();
                let refused = record.body.refused_disks.iter();
                nodes.push(FarmNodeView {
                    id: node,
                    capacity: record.body.capacity,
                    reserved: assignments.reserved,
                    contracts: assignments.contracts.len(),
                    hardware: record.body.hardware.to_string(),
                    refused_disks: refused
                        .map(|refusal| format!("{}: {}", refusal.disk, refusal.reason))
                        .collect(),
                    state: record.body.state,
                });
            }
            views.push(FarmView {
                id,
                name: farm.body.name.to_string(),
                country: String::from_utf8_lossy(&farm.body.location.country).into_owned(),
                nodes,
                terms: self.chain().set(Kind::Terms, id).await?.1,
            });
        }
        Ok(views)
    }
}
