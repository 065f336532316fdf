//! Bringing a deployment onto a node: search, negotiation, both signatures, escrow.

use ledger::{
    Hash, Id, Operation,
    agreement::SignedAgreement,
    body::{Blob, Entity, Node},
};
use workload::Workload;

use super::{Bot, BotError, Stages, link_address};
use crate::{
    app::App,
    control::{DeploymentView, FailureKind},
    deployment::{Deployment, Placement},
    market::{Candidate, Wanted},
    negotiation::{Bidding, Brief, Outcome, Request},
};

/// Most candidates that are asked in one attempt.
const MAX_CANDIDATES: usize = 8;

impl Bot {
    /// Takes on a deployment and begins to bring it onto a node. `stages` tells how far it is, to the end.
    ///
    /// # Errors
    /// [`BotError`] when it cannot even be begun.
    pub async fn deploy(&self, app: App, stages: Stages) -> Result<(), BotError> {
        let App { plan, workload } = app;
        let image = self.image(&plan.image).await?.body;
        let storage = plan.resources.sru.saturating_add(plan.resources.hru);
        let needed = image.root.size.saturating_add(plan.volumes);
        if storage < needed {
            return Err(BotError::Usage(format!(
                "image and volumes need {needed} bytes of storage, {storage} are ordered; raise resources.sru or hru"
            )));
        }
        let own = self.shared.encryption.public();
        let sealed =
            workload::seal(&workload, &[own]).map_err(|error| BotError::Usage(super::error::joined(&error)))?;
        let name = plan.name.clone();
        {
            let mut deployments = self.shared.deployments.lock().await;
            if deployments.get(&name).is_some_and(|known| known.ended.is_none()) {
                let text = format!("{name:?} is deployed already; cancel it first, or choose another name");
                return Err(BotError::Usage(text));
            }
            deployments.put(Deployment::new(plan, &sealed))?;
        }
        self.keep(&name, stages);
        Ok(())
    }

    /// Finds a node for a deployment and puts the agreement on the chain.
    pub(super) async fn place(&self, deployment: &Deployment, stages: &mut Stages) -> Result<Placement, BotError> {
        let plan = &deployment.plan;
        let workload = self.unseal(deployment)?;
        let wanted = Wanted {
            resources: plan.resources,
            periods: Some(deployment.periods_left()),
            country: plan.country,
            max_hour: None,
            avoid: deployment.avoided(self.chain().time().await?),
            customer: self.id(),
        };
        let ranking = self.search(&wanted).await?;
        let Some(best) = ranking.candidates.first() else {
            let reasons = ranking.reasons();
            let reasons = if reasons.is_empty() {
                "the market is empty".into()
            } else {
                reasons.join("; ")
            };
            return Err(BotError::NotFound(format!("no node suits: {reasons}")));
        };
        let place = String::from_utf8_lossy(&best.listing.location.country).into_owned();
        let (node, farm, price) = (best.listing.node.short(), &best.listing.farm_name, best.period);
        let found = ranking.candidates.len();
        let detail = format!("{found} nodes, best is {node} of {farm} in {place}, {price} for a period");
        stages.reached("capacity found", &detail);
        let mut last = None;
        for candidate in ranking.candidates.iter().take(MAX_CANDIDATES) {
            match self.try_candidate(deployment, &workload, candidate, stages).await {
                Ok(placement) => return Ok(placement),
                Err(error) => {
                    let node = candidate.listing.node.short();
                    stages.note(&format!("node {node}: {}; trying the next", error.line()));
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| BotError::NotFound("no node suits".into())))
    }

    fn unseal(&self, deployment: &Deployment) -> Result<Workload, BotError> {
        let sealed = data_encoding::HEXLOWER
            .decode(deployment.sealed.as_bytes())
            .map_err(|error| BotError::Local(format!("the deployment's file: {error}")))?;
        workload::open(&sealed, &self.shared.encryption).map_err(|error| BotError::Local(super::error::joined(&error)))
    }

    async fn try_candidate(
        &self,
        deployment: &Deployment,
        workload: &Workload,
        candidate: &Candidate,
        stages: &mut Stages,
    ) -> Result<Placement, BotError> {
        let listing = &candidate.listing;
        let node = self.chain().require::<Node>(listing.node).await?.body;
        let farmer = self.chain().require::<Entity>(listing.owner).await?.body;
        let image = self.image(&deployment.plan.image).await?;
        let recipients = [node.keys.encryption, self.shared.encryption.public()];
        let sealed =
            workload::seal(workload, &recipients).map_err(|error| BotError::Local(super::error::joined(&error)))?;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| BotError::Local(format!("draw a salt: {error}")))?;
        let brief = Brief {
            chain: self.chain().chain(),
            request: Request {
                customer: self.id(),
                terms: listing.terms_id,
                node: listing.node,
                resources: deployment.plan.resources,
                periods: deployment.periods_left(),
                image: (image.record.id, image.record.hash()),
                sealed: Blob {
                    hash: Hash::from_bytes(*blake3::hash(&sealed).as_bytes()),
                    size: u64::try_from(sealed.len()).unwrap_or(u64::MAX),
                },
                salt,
            },
            farmer: listing.owner,
            farmer_key: farmer.keys.signing,
            rule: listing.terms.rule,
            advertised: candidate.period,
            bidding: Bidding::up_to(deployment.limit().min(candidate.period)),
            key: self.shared.author.key.clone(),
        };
        let address = link_address("farmer", listing.owner, &farmer.keys.link, &farmer.addresses)?;
        let signed = match self.negotiate(&address, brief, stages).await? {
            Outcome::Agreed(signed) => signed,
            other => return Err(BotError::Refused(other.text())),
        };
        let price = signed.agreement.price;
        let detail = format!("{} periods for {price} each", signed.agreement.periods);
        stages.reached("agreement signed by both", &detail);
        self.chain().hold_sealed(sealed).await?;
        self.fund(deployment, signed, stages).await
    }

    /// Puts the agreement on the chain. The deployment's file names the contract before the chain does, so that a restart
    /// at any moment finds it again.
    async fn fund(
        &self,
        deployment: &Deployment,
        signed: SignedAgreement,
        stages: &mut Stages,
    ) -> Result<Placement, BotError> {
        let agreement = &signed.agreement;
        let placement = Placement {
            contract: agreement.contract_id(),
            node: agreement.node,
            valid_until: agreement.valid_until,
            price: agreement.price,
            periods: agreement.periods,
            settled: 0,
            farmer: Some(agreement.farmer),
            leaving: None,
        };
        let total = agreement.total();
        let name = deployment.plan.name.clone();
        let kept = placement.clone();
        self.update(&name, |known| known.placement = Some(kept)).await?;
        match self.send(Operation::Agree(signed)).await {
            Ok(_) => {
                let total = total.map(|total| total.to_string()).unwrap_or_default();
                let contract = placement.contract.short();
                stages.reached("escrow funded", &format!("{total} for contract {contract}"));
                Ok(placement)
            }
            Err(error) if error.kind() == FailureKind::Refused => {
                self.update(&name, |known| known.placement = None).await?;
                Err(error)
            }
            // It may stand on the chain yet; watching it tells.
            Err(error) => {
                stages.note(&error.line());
                Ok(placement)
            }
        }
    }

    /// What is kept of a deployment.
    pub(super) async fn deployment(&self, name: &str) -> Result<Deployment, BotError> {
        let deployments = self.shared.deployments.lock().await;
        let known = deployments.get(name).cloned();
        known.ok_or_else(|| BotError::NotFound(format!("no deployment is called {name:?}; see `threebot ps`")))
    }

    /// Changes what is kept of a deployment.
    pub(super) async fn update(
        &self,
        name: &str,
        change: impl FnOnce(&mut Deployment),
    ) -> Result<Deployment, BotError> {
        let mut deployments = self.shared.deployments.lock().await;
        let mut deployment = deployments
            .get(name)
            .cloned()
            .ok_or_else(|| BotError::NotFound(format!("no deployment is called {name:?}; see `threebot ps`")))?;
        change(&mut deployment);
        deployments.put(deployment.clone())?;
        Ok(deployment)
    }

    /// All deployments as they are.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked.
    pub async fn deployments(&self) -> Result<Vec<DeploymentView>, BotError> {
        let all: Vec<Deployment> = self.shared.deployments.lock().await.all().values().cloned().collect();
        let mut views = Vec::new();
        for deployment in &all {
            views.push(self.view(deployment).await?);
        }
        Ok(views)
    }

    /// Ends a deployment. What is left in escrow returns.
    ///
    /// # Errors
    /// [`BotError`] when there is no such deployment, or the chain cannot be asked; the bot goes on trying then.
    pub async fn cancel(&self, name: &str) -> Result<(), BotError> {
        if self.deployment(name).await?.ended.is_some() {
            return Err(BotError::Usage(format!("{name:?} has ended already")));
        }
        let deployment = self
            .update(name, |known| known.ended = Some("cancelled".into()))
            .await?;
        match deployment.placement {
            Some(placement) => self.cancel_contract(placement.contract).await,
            None => Ok(()),
        }
    }

    /// Forgets a deployment that has ended, with its contract.
    ///
    /// # Errors
    /// [`BotError`] when there is no such deployment, it has not ended, or its contract has not.
    pub async fn forget(&self, name: &str) -> Result<(), BotError> {
        let deployment = self.deployment(name).await?;
        let contract = match &deployment.placement {
            Some(placement) => {
                self.chain()
                    .record::<ledger::body::Contract>(placement.contract)
                    .await?
            }
            None => None,
        };
        if deployment.ended.is_none() || contract.is_some_and(|known| known.body.ended().is_none()) {
            return Err(BotError::Usage(format!("{name:?} has not ended; cancel it first")));
        }
        self.let_go(name);
        Ok(self.shared.deployments.lock().await.remove(name)?)
    }

    /// Cancels a contract unless it has ended or never was.
    pub(super) async fn cancel_contract(&self, contract: Id) -> Result<(), BotError> {
        let known = self.chain().record::<ledger::body::Contract>(contract).await?;
        if known.is_some_and(|known| known.body.ended().is_none()) {
            self.send(Operation::Cancel { contract }).await?;
        }
        Ok(())
    }
}
