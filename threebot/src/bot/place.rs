//! Bringing a deployment onto a node: search, negotiation, both signatures, escrow.

use std::collections::BTreeSet;

use chain_client::{ClientError, SendError};
use ledger::{
    Id, Operation, Refusal,
    agreement::SignedAgreement,
    body::{Blob, Contract, Entity, Image, Node},
    geography::Place,
    quantity,
};
use workload::Workload;

use super::{Bot, BotError, Stages, link_address};
use crate::{
    app::{App, Plan},
    control::FailureKind,
    deployment::{AVOID_MS, Deployment, Placement},
    market::{Candidate, Listing, Wanted, by_turns},
    negotiation::{Bidding, Brief, Outcome, Request},
};

/// Most candidates that are asked in one attempt; the next one goes on down the list.
const MAX_ASKED: usize = 64;

impl Bot {
    /// Takes on a deployment and begins to bring it onto a node. `stages` tells how far it is, to the end.
    ///
    /// # Errors
    /// [`BotError`] when it cannot even be begun.
    pub async fn deploy(&self, app: App, stages: Stages) -> Result<(), BotError> {
        let App { plan, workload } = app;
        check_storage(&plan, &self.image(&plan.image).await?.body)?;
        let sealed = self.seal_for_itself(&workload)?;
        let name = plan.name.clone();
        {
            let before = self.shared.deployments.lock().await.get(&name).cloned();
            if before.as_ref().is_some_and(|known| known.ended.is_none()) {
                let text = format!("{name:?} is deployed already; cancel it first, or choose another name");
                return Err(BotError::Usage(text));
            }
            let mut deployment = Deployment::new(plan, sealed);
            if let Some(before) = &before {
                self.check_over(before).await?;
                deployment.avoid.clone_from(&before.avoid);
            }
            let mut deployments = self.shared.deployments.lock().await;
            if deployments.get(&name) != before.as_ref() {
                return Err(BotError::Usage(format!("{name:?} has changed meanwhile; try again")));
            }
            deployments.put(deployment)?;
        }
        self.keep(&name, stages);
        Ok(())
    }

    /// Finds a node for a deployment and puts the agreement on the chain.
    pub(super) async fn place(&self, deployment: &Deployment, stages: &mut Stages) -> Result<Placement, BotError> {
        let plan = &deployment.plan;
        let name = &plan.name;
        let workload = self.unseal(deployment)?;
        let wanted = Wanted {
            resources: plan.resources,
            periods: Some(deployment.periods_left()),
            place: plan.country.map(Place::Country),
            max_hour: None,
            avoid: deployment.avoided(self.chain().time().await?),
            customer: self.id(),
        };
        let ranking = self.search(&wanted).await?;
        let reasons = ranking.reasons().join("; ");
        let found = ranking.candidates.len();
        let candidates = by_turns(ranking.candidates, &deployment.avoid);
        let Some(best) = candidates.first() else {
            let reasons = if reasons.is_empty() {
                "the market is empty"
            } else {
                &reasons
            };
            return Err(BotError::NotFound(format!("no node suits: {reasons}")));
        };
        let place = String::from_utf8_lossy(&best.listing.location.country).into_owned();
        let (node, farm, price) = (best.listing.node.short(), &best.listing.farm_name, best.period);
        let detail = format!("{found} nodes, best is {node} of {farm} in {place}, {price} for a period");
        stages.reached("capacity found", &detail);
        let mut last = None;
        let mut failed = BTreeSet::new();
        let mut asked = 0;
        for candidate in &candidates {
            let Listing { node, owner, .. } = candidate.listing;
            if failed.contains(&owner) {
                continue;
            }
            if asked == MAX_ASKED {
                break;
            }
            asked += 1;
            let (who, error) = match self.try_candidate(deployment, &workload, candidate, stages).await {
                Ok(placement) => return Ok(placement),
                Err(Failed::Here(error)) => return Err(error),
                Err(Failed::Node(error)) => (node, error),
                Err(Failed::Farmer(error)) => {
                    failed.insert(owner);
                    (owner, error)
                }
            };
            stages.note(&format!("node {}: {}; trying the next", node.short(), error.line()));
            let now = self.chain().time().await?;
            self.update(name, |known| known.shun(who, now, AVOID_MS)).await?;
            last = Some(error);
        }
        Err(last.unwrap_or_else(|| BotError::NotFound("no node suits".into())))
    }

    /// A workload as it is kept here: sealed to the bot itself, in hexadecimal digits.
    pub(super) fn seal_for_itself(&self, workload: &Workload) -> Result<String, BotError> {
        let sealed = workload::seal(workload, &[self.own_encryption()]);
        let sealed = sealed.map_err(|error| BotError::Usage(super::error::joined(&error)))?;
        Ok(data_encoding::HEXLOWER.encode(&sealed))
    }

    pub(super) fn unseal(&self, deployment: &Deployment) -> Result<Workload, BotError> {
        let sealed = data_encoding::HEXLOWER
            .decode(deployment.sealed.as_bytes())
            .map_err(|error| BotError::Local(format!("the deployment's file: {error}")))?;
        let opened = |key| workload::open(&sealed, key);
        let mut tries = self.shared.encryption.iter().map(opened);
        let newest = tries.next().expect("an identity has an encryption key");
        let opened = newest.or_else(|error| tries.find_map(Result::ok).ok_or(error));
        opened.map_err(|error| BotError::Local(super::error::joined(&error)))
    }

    /// What is sealed to this key the bot reads.
    pub(super) fn own_encryption(&self) -> ledger::PublicKey {
        self.shared.identity_keys.encryption
    }

    async fn try_candidate(
        &self,
        deployment: &Deployment,
        workload: &Workload,
        candidate: &Candidate,
        stages: &mut Stages,
    ) -> Result<Placement, Failed> {
        let listing = &candidate.listing;
        let farmer = self.chain().require::<Entity>(listing.owner).await?.body;
        let (brief, sealed) = self.brief(deployment, workload, candidate, &farmer).await?;
        let address = link_address("farmer", listing.owner, &farmer.keys.link, &farmer.addresses);
        let address = address.map_err(Failed::Farmer)?;
        let outcome = self.negotiate(&address, brief, stages).await;
        let signed = match outcome.map_err(Failed::of_negotiation)? {
            Outcome::Agreed(signed) => signed,
            other @ (Outcome::Declined(_) | Outcome::Refused(_)) => {
                return Err(Failed::Node(BotError::Refused(other.text())));
            }
            other => return Err(Failed::Farmer(BotError::Refused(other.text()))),
        };
        let price = signed.agreement.price;
        let detail = format!("{} periods for {price} each", signed.agreement.periods);
        stages.reached("agreement signed by both", &detail);
        // Texts that no contract names have little room, which strangers may have filled; one that a contract names has.
        let early = self.chain().hold_sealed(sealed.clone()).await;
        let placement = self.fund(deployment, signed, stages).await?;
        if early.is_err()
            && let Err(error) = self.chain().hold_sealed(sealed).await
        {
            stages.note(&format!(
                "the sealed workload is not taken: {}",
                BotError::from(error).line()
            ));
        }
        Ok(placement)
    }

    /// What the negotiation is about, and the workload sealed for the node.
    async fn brief(
        &self,
        deployment: &Deployment,
        workload: &Workload,
        candidate: &Candidate,
        farmer: &Entity,
    ) -> Result<(Brief, Vec<u8>), BotError> {
        let listing = &candidate.listing;
        let node = self.chain().require::<Node>(listing.node).await?.body;
        let image = self.image(&deployment.plan.image).await?;
        let recipients = [node.keys.encryption, self.own_encryption()];
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
                deposit: deployment.deposit(),
                image: (image.record.id, image.record.hash()),
                sealed: Blob::of(&sealed),
                salt,
            },
            farmer: listing.owner,
            farmer_key: farmer.keys.signing,
            rule: listing.terms.rule,
            advertised: candidate.period,
            bidding: Bidding::up_to(deployment.limit().min(candidate.period)),
            key: self.shared.author.key.clone(),
        };
        Ok((brief, sealed))
    }

    /// Puts the agreement on the chain. The deployment's file names the contract before the chain does, so that a restart
    /// at any moment finds it again, and goes on to name it until it is proven that it never can stand there.
    async fn fund(
        &self,
        deployment: &Deployment,
        signed: SignedAgreement,
        stages: &mut Stages,
    ) -> Result<Placement, Failed> {
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
        let paid_in = agreement.price_of(agreement.deposit);
        let name = &deployment.plan.name;
        let kept = placement.clone();
        let known = self
            .update(name, |known| {
                // Cancelled meanwhile, or another one of that name: nothing is signed for it any more.
                if known.ended.is_none() && known.sealed == deployment.sealed {
                    known.placement = Some(kept);
                }
            })
            .await?;
        if known.placement.as_ref() != Some(&placement) {
            return Err(Failed::Here(BotError::Usage(format!("{name:?} was cancelled"))));
        }
        match self.send(Operation::Agree(signed)).await {
            Ok(_) => {
                let paid_in = paid_in.unwrap_or_default();
                let contract = placement.contract.short();
                stages.reached("escrow funded", &format!("{paid_in} for contract {contract}"));
                Ok(placement)
            }
            Err(error) if error.kind() == FailureKind::Refused => match self.is_ruled_out(placement.contract).await {
                Ok(true) => {
                    self.update(name, |known| known.placement = None).await?;
                    Err(Failed::of_refusal(error))
                }
                Ok(false) => Ok(placement),
                Err(unproven) => {
                    let (refused, unproven) = (error.line(), unproven.line());
                    stages.note(&format!("{refused}; waiting until that is proven: {unproven}"));
                    Ok(placement)
                }
            },
            // It may stand on the chain yet; watching it tells.
            Err(error) => {
                stages.note(&error.line());
                Ok(placement)
            }
        }
    }

    /// Whether it is proven that a contract never can come on the chain whose transaction a peer refused. That is one peer's
    /// word, which may be a lie: the transaction may have gone on. Once another one of this bot stands on the chain the nonce
    /// of the refused one is taken, if not by itself, and only this bot could sign it with another.
    async fn is_ruled_out(&self, contract: Id) -> Result<bool, BotError> {
        let changes_nothing = Operation::UpdateEntity {
            name: self.shared.config.name.clone(),
            addresses: self.addresses(),
        };
        self.send(changes_nothing).await?;
        Ok(self.chain().record::<Contract>(contract).await?.is_none())
    }
}

/// Whether what is ordered holds the image and the volumes.
pub(super) fn check_storage(plan: &Plan, image: &Image) -> Result<(), BotError> {
    let storage = plan.resources.sru.saturating_add(plan.resources.hru);
    let needed = image.root.size.saturating_add(plan.volumes);
    if storage < needed {
        let (needed, storage) = quantity::shortage(needed, storage);
        return Err(BotError::Usage(format!(
            "image and volumes need {needed} of storage, {storage} are ordered; raise resources.sru or hru"
        )));
    }
    Ok(())
}

/// Why a candidate came to nothing, and who is asked last because of it.
enum Failed {
    /// The farmer: it is not reached, is silent or breaks the protocol.
    Farmer(BotError),
    /// The node: its farmer does not agree about it, or the chain does not.
    Node(BotError),
    /// Nobody there: this bot or the chain's reach, and the next candidate would fare no better.
    Here(BotError),
}

impl Failed {
    fn of_negotiation(error: BotError) -> Self {
        match error {
            BotError::Dial(_) | BotError::Link(_) => Self::Farmer(error),
            error => Self::Here(error),
        }
    }

    fn of_refusal(error: BotError) -> Self {
        match error {
            BotError::Send(SendError::Refused(Refusal::Funds { .. })) => Self::Here(error),
            error => Self::Node(error),
        }
    }
}

impl<E: Into<BotError>> From<E> for Failed {
    fn from(error: E) -> Self {
        match error.into() {
            // A record of the farmer's or node's that is not there.
            error @ BotError::Chain(ClientError::Missing(_)) => Self::Node(error),
            error => Self::Here(error),
        }
    }
}
