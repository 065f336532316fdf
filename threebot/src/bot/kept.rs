//! Deployments as they are kept: looked at, cancelled, forgotten.

use ledger::{
    Id, Operation, Tokens,
    body::{Contract, Escrow},
};

use super::{Bot, BotError};
use crate::{
    control::DeploymentView,
    deployment::{Cost, Deployment, Placement},
};

impl Bot {
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
        if deployment.ended.is_none() {
            return Err(BotError::Usage(format!("{name:?} has not ended; cancel it first")));
        }
        self.check_over(&deployment).await?;
        self.let_go(name);
        Ok(self.shared.deployments.lock().await.remove(name)?)
    }

    /// Makes sure that nothing of a deployment that has ended lives on: its contract has ended as well, or can never come on the
    /// chain any more.
    ///
    /// # Errors
    /// [`BotError::Usage`] when it does or may, otherwise why that cannot be told.
    pub(super) async fn check_over(&self, deployment: &Deployment) -> Result<(), BotError> {
        let Some(placement) = &deployment.placement else {
            return Ok(());
        };
        let Placement {
            contract, valid_until, ..
        } = placement;
        // Asked for before the contract, whose proof is then no older.
        let head = self.chain().sync().await?;
        let known = self.chain().record::<Contract>(*contract).await?;
        let name = &deployment.plan.name;
        match known {
            Some(known) if known.body.ended().is_none() => Err(BotError::Usage(format!(
                "contract {contract} of {name:?} is still live; the bot goes on to cancel it, wait until `threebot ps` holds nothing"
            ))),
            None if head.time <= *valid_until => {
                let seconds = valid_until.since(head.time).div_ceil(1_000);
                let text =
                    format!("contract {contract} of {name:?} may still come on the chain; try again in {seconds} s");
                Err(BotError::Usage(text))
            }
            _ => Ok(()),
        }
    }

    /// Cancels a contract unless it has ended or never was.
    ///
    /// # Errors
    /// [`BotError`] when the chain cannot be asked, or the contract is neither this bot's nor on a node of its.
    pub async fn cancel_contract(&self, contract: Id) -> Result<(), BotError> {
        let known = self.chain().record::<Contract>(contract).await?;
        if known.is_some_and(|known| known.body.ended().is_none()) {
            self.send(Operation::Cancel { contract }).await?;
        }
        Ok(())
    }

    /// What a placement has cost so far.
    pub(super) async fn cost(&self, placement: &Placement) -> Result<Cost, BotError> {
        let escrow = self.chain().record::<Escrow>(placement.contract).await?;
        Ok(escrow.map_or(Cost::default(), |escrow| Cost {
            paid: escrow.body.paid,
            withheld: escrow.body.withheld,
        }))
    }

    /// How a deployment is.
    pub(super) async fn view(&self, deployment: &Deployment) -> Result<DeploymentView, BotError> {
        let placement = deployment.placement.as_ref();
        let mut view = DeploymentView {
            name: deployment.plan.name.clone(),
            state: deployment.ended.clone().unwrap_or_else(|| "looking for a node".into()),
            contract: placement.map(|placement| placement.contract),
            node: placement.map(|placement| placement.node),
            price: placement.map(|placement| placement.price),
            settled: deployment.settled_before,
            periods: deployment.plan.periods,
            paid: deployment
                .paid_before
                .checked_sub(deployment.withheld_before)
                .unwrap_or_default(),
            withheld: deployment.withheld_before,
            held: Tokens::ZERO,
            disputes: 0,
        };
        let Some(placement) = placement else {
            return Ok(view);
        };
        view.settled = view.settled.saturating_add(placement.settled);
        if let Some(contract) = self.chain().record::<Contract>(placement.contract).await? {
            view.disputes = contract.body.disputes;
            if deployment.ended.is_none() {
                view.state = contract.body.state_name().into();
            }
        }
        if let Some(escrow) = self.chain().record::<Escrow>(placement.contract).await? {
            view.paid = view.paid.saturating_add(escrow.body.paid);
            view.withheld = view.withheld.saturating_add(escrow.body.withheld);
            view.held = escrow.body.held;
        }
        Ok(view)
    }
}
