//! Changing a deployment that runs, with its farmer.

use std::time::Duration;

use ledger::{
    Amendment, Operation, SignedAmendment,
    body::{Blob, Contract, ContractState, Entity, Node, Terms},
};
use peer_link::protocol;
use tokio::time::{Instant, sleep};
use workload::Workload;

use super::{Bot, BotError, link_address, place::check_storage};
use crate::{
    amendment::{Change, propose},
    app::{App, Plan},
    control::DeploymentView,
    deployment::{Deployment, Pending, Placement},
    negotiation::{MAX_MESSAGE, Message, STEP_MS},
};

/// Longest wait until whoever watches a deployment has taken note of its change.
const NOTED: Duration = Duration::from_secs(30);
/// Pause between looks at that.
const PAUSE: Duration = Duration::from_millis(100);

impl Bot {
    /// Makes a deployment what `app` says: more periods, other resources, the newest version of the image, another environment.
    /// Its node stays, and so do its volumes.
    ///
    /// # Errors
    /// [`BotError`] when it does not run, or its farmer or the chain does not agree. Where it is not known whether the chain took
    /// it, the bot finds out by itself.
    pub async fn amend(&self, app: App) -> Result<DeploymentView, BotError> {
        let App { plan, workload } = app;
        let name = plan.name.clone();
        let deployment = self.deployment(&name).await?;
        let Some(placement) = deployment.placement.clone().filter(|_| deployment.ended.is_none()) else {
            return Err(BotError::Usage(format!("{name:?} does not run")));
        };
        if deployment.pending.is_some() {
            let text = format!("{name:?} is being changed already; try again when `threebot ps` shows it");
            return Err(BotError::Usage(text));
        }
        let before = self.unseal(&deployment)?;
        check_volumes(&before, &workload)?;
        let contract = self.chain().require::<Contract>(placement.contract).await?.body;
        let kept = self.seal_for_itself(&workload)?;
        let sealed = if before == workload {
            None
        } else {
            Some(self.seal_for(&workload, &placement).await?)
        };
        let amendment = self
            .proposal(&plan, &deployment, &placement, &contract, sealed.as_deref())
            .await?;
        let Some(amendment) = amendment else {
            let changed = self
                .update(&name, |known| (known.plan, known.sealed) = (plan, kept))
                .await?;
            return self.view(&changed).await;
        };
        let agreement = &amendment.agreement;
        let pending = Pending {
            contract: placement.contract,
            agreement: agreement.hash(),
            valid_until: agreement.valid_until,
            plan,
            sealed: kept,
        };
        let signed = self.ask_farmer(amendment).await?;
        // What is not held when the contract names it would be nowhere.
        if let Some(sealed) = sealed {
            self.chain().hold_sealed(sealed).await?;
        }
        // Known before the chain knows it, so that a restart at any moment finds it again.
        self.update(&name, |known| known.pending = Some(pending)).await?;
        self.send(Operation::Amend(signed)).await?;
        // Whoever watches it takes note at its next look.
        let deadline = Instant::now() + NOTED;
        loop {
            let known = self.deployment(&name).await?;
            if known.pending.is_none() || Instant::now() >= deadline {
                return self.view(&known).await;
            }
            sleep(PAUSE).await;
        }
    }

    async fn seal_for(&self, workload: &Workload, placement: &Placement) -> Result<Vec<u8>, BotError> {
        let node = self.chain().require::<Node>(placement.node).await?.body;
        let recipients = [node.keys.encryption, self.own_encryption()];
        workload::seal(workload, &recipients).map_err(|error| BotError::Usage(super::error::joined(&error)))
    }

    /// The amendment that makes the contract what the plan says, within its budget; none where it is that already.
    async fn proposal(
        &self,
        plan: &Plan,
        deployment: &Deployment,
        placement: &Placement,
        contract: &Contract,
        sealed: Option<&[u8]>,
    ) -> Result<Option<Amendment>, BotError> {
        let refused = |reason: String| BotError::Usage(format!("{:?} stays as it is: {reason}", plan.name));
        let before = &contract.signed.agreement;
        let image = self.image(&plan.image).await?;
        check_storage(plan, &image.body)?;
        let terms = self.chain().require::<Terms>(before.terms.0).await?.body;
        let change = Change {
            resources: plan.resources,
            periods: plan.periods.saturating_sub(deployment.settled_before),
            deposit: plan.deposit,
            image: (image.record.id, image.record.hash()),
            sealed: sealed.map_or(before.sealed, Blob::of),
        };
        let now = self.chain().time().await?;
        let proposed = propose(placement.contract, contract, change, &terms.prices, now);
        let Some(amendment) = proposed.map_err(|error| refused(error.to_string()))? else {
            return Ok(None);
        };
        let after = &amendment.agreement;
        let open = after.periods.saturating_sub(contract.settled().unwrap_or(0));
        let dearer = match contract.state {
            ContractState::Active { price, .. } => after.price.max(price),
            _ => after.price,
        };
        let spent = deployment.paid_before.saturating_add(self.cost(placement).await?.all());
        // The running period costs what is dearer.
        let rest = after
            .price_of(open.saturating_sub(1))
            .map(|rest| rest.saturating_add(dearer));
        match rest.map(|rest| spent.saturating_add(rest)) {
            Some(cost) if cost <= plan.budget => Ok(Some(amendment)),
            Some(cost) => Err(refused(format!("it costs {cost}, the budget is {}", plan.budget))),
            None => Err(refused("its price is not representable".into())),
        }
    }

    /// Signs an amendment with its farmer.
    async fn ask_farmer(&self, amendment: Amendment) -> Result<SignedAmendment, BotError> {
        let id = amendment.agreement.farmer;
        let farmer = self.chain().require::<Entity>(id).await?.body;
        let address = link_address("farmer", id, &farmer.keys.link, &farmer.addresses)?;
        let connection = self.shared.endpoint.dial(&address, protocol::BOT).await?;
        let wait = Duration::from_millis(STEP_MS);
        let answer = connection
            .call(&Message::Amend(amendment.clone()), MAX_MESSAGE, wait)
            .await;
        connection.close();
        match answer? {
            Message::Signed { signature } => {
                let customer = amendment.sign(self.chain().chain(), &self.shared.author.key);
                Ok(SignedAmendment {
                    amendment,
                    customer,
                    farmer: signature,
                })
            }
            Message::Reject { reason } => Err(BotError::Refused(format!("the farmer does not agree: {reason}"))),
            _ => Err(BotError::Refused("the farmer answered something else".into())),
        }
    }
}

/// Volumes stay: what is on them goes with the contract alone.
fn check_volumes(before: &Workload, after: &Workload) -> Result<(), BotError> {
    for volume in &before.volumes {
        let same = |other: &&workload::Volume| other.name == volume.name && other.size == volume.size;
        if !after.volumes.iter().any(|other| same(&other)) {
            let text = format!("volume {:?} stays, with its size; others may be added", volume.name);
            return Err(BotError::Usage(text));
        }
    }
    Ok(())
}
