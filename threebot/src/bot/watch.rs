//! Keeping a deployment: one task each, from the search for a node to the last period.

use std::time::Duration;

use chain_client::Proven;
use ledger::{
    Operation, Timestamp, Tokens,
    body::{Contract, ContractState, Escrow},
};
use tokio::time::sleep;
use tracing::{info, warn};
use workload::node::{Answer, Request, State};

use super::{Bot, BotError, Stages, now};
use crate::{
    control::DeploymentView,
    deployment::{Deployment, Meter, Next, Placement, Seen, decide},
};

/// Pause between looks while a workload is being brought up.
const EAGER: Duration = Duration::from_millis(300);
/// Looks in one period; more than the settlement's usual tolerance asks for.
const LOOKS: u64 = 40;
/// Bounds of the pause between looks at a running workload, in milliseconds.
const LOOK_MS: std::ops::RangeInclusive<u64> = 250..=10_000;
/// Pauses between attempts to find a node, first and longest, in milliseconds.
const SEARCH_MS: (u64, u64) = (2_000, 60_000);

/// What a look at a placed deployment found out, kept from look to look.
struct Watch {
    meter: Meter,
    receipt_sent: Option<u32>,
    fetched: bool,
}

/// What a keeper does after a look.
enum Step {
    LookAgain(Duration),
    Displaced,
    Over,
}

impl Bot {
    /// Starts to keep every deployment that has not ended.
    pub async fn keep_all(&self) {
        let open: Vec<(String, bool)> = {
            let deployments = self.shared.deployments.lock().await;
            let all = deployments.all().iter();
            all.map(|(name, known)| (name.clone(), known.ended.is_none() || known.placement.is_some()))
                .collect()
        };
        for (name, _) in open.into_iter().filter(|(_, open)| *open) {
            self.keep(&name, Stages::new(&name, None));
        }
    }

    /// Starts to keep one deployment, in place of a task that kept an earlier one of that name.
    pub(super) fn keep(&self, name: &str, stages: Stages) {
        let (bot, owned) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move { bot.keep_one(&owned, stages).await });
        let mut keepers = self
            .shared
            .keepers
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        keepers.retain(|_, task| !task.is_finished());
        if let Some(before) = keepers.insert(name.to_owned(), task) {
            before.abort();
        }
    }

    async fn keep_one(&self, name: &str, mut stages: Stages) {
        let mut pause = SEARCH_MS.0;
        loop {
            match self.keep_until_displaced(name, &mut stages).await {
                Ok(()) => return,
                Err(error) if stages.is_listened() => {
                    // Somebody waits and has been told; without a first success there is nothing to keep.
                    let reason = error.line();
                    let ended = self.update(name, |known| known.ended = Some(reason)).await;
                    if let Err(error) = ended {
                        warn!(deployment = name, "{}", error.line());
                    }
                    stages.failed(error.into());
                    return;
                }
                Err(error) => {
                    warn!(deployment = name, "{}; next attempt in {pause} ms", error.line());
                    sleep(Duration::from_millis(pause)).await;
                    pause = pause.saturating_mul(2).min(SEARCH_MS.1);
                }
            }
        }
    }

    /// Places a deployment where it is not, and watches it until it is over. An error means that no node was found.
    async fn keep_until_displaced(&self, name: &str, stages: &mut Stages) -> Result<(), BotError> {
        loop {
            let deployment = self.deployment(name).await?;
            let placement = match &deployment.placement {
                Some(placement) => placement.clone(),
                None if deployment.ended.is_some() || deployment.periods_left() == 0 => return Ok(()),
                None => self.place(&deployment, stages).await?,
            };
            if !self.watch(name, &placement, stages).await {
                return Ok(());
            }
        }
    }

    /// Watches a placement. Returns whether another one is to be found.
    async fn watch(&self, name: &str, placement: &Placement, stages: &mut Stages) -> bool {
        let mut watch: Option<Watch> = None;
        loop {
            match self.look(name, placement, &mut watch, stages).await {
                Ok(Step::LookAgain(pause)) => sleep(pause).await,
                Ok(Step::Displaced) => return true,
                Ok(Step::Over) => return false,
                Err(error) => {
                    info!(deployment = name, "{}", error.line());
                    sleep(Duration::from_millis(*LOOK_MS.start()).max(EAGER)).await;
                }
            }
        }
    }

    async fn look(
        &self,
        name: &str,
        placement: &Placement,
        watch: &mut Option<Watch>,
        stages: &mut Stages,
    ) -> Result<Step, BotError> {
        let contract = self.chain().record::<Contract>(placement.contract).await?;
        let head = match self.chain().head() {
            Some(head) => head,
            None => self.chain().sync().await?,
        };
        let deployment = self.update_settled(name, contract.as_ref()).await?;
        if deployment.ended.is_some() && contract.as_ref().is_some_and(|known| known.body.ended().is_none()) {
            self.cancel_contract(placement.contract).await?;
            return Ok(Step::LookAgain(EAGER));
        }
        let pause = match &contract {
            Some(known) => self.observe(placement, known, watch, stages).await,
            None => EAGER,
        };
        if stages.is_listened()
            && let Some(known) = &contract
            && matches!(known.body.state, ContractState::Active { .. })
        {
            let view = self.view(&deployment).await?;
            stages.reached("micro-VM up", &format!("contract {}", placement.contract));
            stages.done(view);
        }
        let seen = Seen {
            contract: contract.as_ref().map(|known| (&known.body, known.record.author)),
            now: head.time,
            customer: self.id(),
            receipt_sent: watch.as_ref().and_then(|watch| watch.receipt_sent),
        };
        match decide(&deployment, placement, seen) {
            Next::Wait => Ok(Step::LookAgain(pause)),
            Next::Receipt { period, from, to } => {
                self.send_receipt(placement, watch, period, (from, to)).await;
                Ok(Step::LookAgain(EAGER))
            }
            Next::Redeploy { reason } if deployment.ended.is_none() => {
                stages.note(&format!("{reason}; looking for another node"));
                let paid = self.paid(placement).await?;
                self.update(name, |known| known.displace(paid, now())).await?;
                Ok(Step::Displaced)
            }
            Next::Redeploy { reason } | Next::Finish { reason } => {
                info!(deployment = name, "over: {reason}");
                let ended = reason.clone();
                self.update(name, |known| {
                    known.ended.get_or_insert(ended);
                })
                .await?;
                stages.failed(BotError::Refused(reason).into());
                Ok(Step::Over)
            }
        }
    }

    /// Takes note of how many periods are settled, if that is more than was known.
    async fn update_settled(&self, name: &str, contract: Option<&Proven<Contract>>) -> Result<Deployment, BotError> {
        let settled = match contract.map(|known| &known.body.state) {
            Some(ContractState::Active { period, .. }) => *period,
            _ => 0,
        };
        let known = self.deployment(name).await?;
        if known
            .placement
            .as_ref()
            .is_none_or(|placement| placement.settled >= settled)
        {
            return Ok(known);
        }
        self.update(name, |known| {
            if let Some(placement) = &mut known.placement {
                placement.settled = settled;
            }
        })
        .await
    }

    /// Asks the node how it is, and takes note. Returns the pause until the next look.
    async fn observe(
        &self,
        placement: &Placement,
        contract: &Proven<Contract>,
        watch: &mut Option<Watch>,
        stages: &mut Stages,
    ) -> Duration {
        let rule = &contract.body.signed.agreement.rule;
        let look_ms = (rule.period_ms / LOOKS).clamp(*LOOK_MS.start(), *LOOK_MS.end());
        let watch = watch.get_or_insert_with(|| Watch {
            // Two looks and the time that they take may lie between.
            meter: Meter::new(look_ms.saturating_mul(3).saturating_add(1_000)),
            receipt_sent: None,
            fetched: false,
        });
        let contract_id = placement.contract;
        let asked = self
            .ask_node(placement.node, &Request::Status { contract: contract_id })
            .await;
        let state = match asked {
            Ok(Answer::Status { state, .. }) => Some(state),
            _ => None,
        };
        let active = match contract.body.state {
            ContractState::Active { since, period, .. } => Some((since, period)),
            _ => None,
        };
        let fetched = active.is_some() || state.as_ref().is_some_and(State::is_fetched);
        if fetched && !watch.fetched {
            watch.fetched = true;
            if stages.is_listened() {
                stages.reached("image fetched and verified", "by the node");
            }
        }
        let Some((since, period)) = active else {
            return EAGER;
        };
        let (time, running) = (now(), state == Some(State::Running));
        if watch.meter.is_empty() && running {
            // The first look comes a moment after the node said that it runs.
            watch.meter.saw(since, true);
        }
        watch.meter.saw(time, running);
        watch
            .meter
            .forget_before(contract.body.period_end(since, period.saturating_sub(2)));
        Duration::from_millis(look_ms)
    }

    async fn send_receipt(
        &self,
        placement: &Placement,
        watch: &mut Option<Watch>,
        period: u32,
        (from, to): (Timestamp, Timestamp),
    ) {
        let up_ms = watch.as_ref().map_or(0, |watch| watch.meter.up_ms(from, to));
        let contract = placement.contract;
        let receipt = Operation::Receipt {
            contract,
            period,
            up_ms,
        };
        let sent = match self.send(receipt).await {
            Ok(_) => true,
            // Settled by the rule meanwhile, or sent before a restart.
            Err(BotError::Send(chain_client::SendError::Refused(refusal))) => {
                info!(%contract, period, "receipt: {refusal}");
                true
            }
            Err(error) => {
                warn!(%contract, period, "receipt: {}", error.line());
                false
            }
        };
        if sent {
            info!(%contract, period, up_ms, "receipt");
            if let Some(watch) = watch {
                watch.receipt_sent = Some(period);
            }
        }
    }

    /// What a placement has cost so far.
    async fn paid(&self, placement: &Placement) -> Result<Tokens, BotError> {
        let escrow = self.chain().record::<Escrow>(placement.contract).await?;
        Ok(escrow.map_or(Tokens::ZERO, |escrow| escrow.body.paid))
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
            paid: deployment.paid_before,
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
            view.paid = view.paid.checked_add(escrow.body.paid).unwrap_or(view.paid);
            view.held = escrow.body.held;
        }
        Ok(view)
    }
}
