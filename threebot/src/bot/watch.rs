//! Keeping a deployment: one task each, from the search for a node to the last period.

use std::time::{Duration, Instant};

use chain_client::Proven;
use ledger::{
    Operation, Timestamp,
    body::{Contract, ContractState},
};
use tokio::{task::JoinHandle, time::sleep};
use tracing::{info, warn};
use workload::node::{Answer, Request, State};

use super::{Bot, BotError, Stages};
use crate::deployment::{Deployment, Leaving, Meter, Next, Placement, Seen, decide};

/// Pause between looks while a workload is being brought up.
const EAGER: Duration = Duration::from_millis(300);
/// Pause after a look at a chain that is out of reach.
const BLIND: Duration = Duration::from_secs(1);
/// Looks in one period; more than the settlement's usual tolerance asks for.
const LOOKS: u64 = 40;
/// Bounds of the pause between looks at a running workload, in milliseconds.
const LOOK_MS: std::ops::RangeInclusive<u64> = 250..=10_000;
/// Least pause between two connections to a workload's port that only see whether it answers.
const KNOCK_PAUSE: Duration = Duration::from_secs(2);
/// Pauses between attempts to find a node, first and longest, in milliseconds.
const SEARCH_MS: (u64, u64) = (2_000, 60_000);

/// What looks at a placed deployment have found out.
#[derive(Default)]
struct Watch {
    /// The contract as last proven; the node is asked by it while the chain is out of reach.
    contract: Option<Proven<Contract>>,
    meter: Option<Meter>,
    receipt_sent: Option<u32>,
    fetched: bool,
    /// Since when the node has answered nothing.
    unanswered_since: Option<Instant>,
    /// The first port that the workload names, and what knocking at it found.
    port: Option<Knocks>,
}

/// A port at which the bot knocks as anybody would.
struct Knocks {
    port: u16,
    /// The connection that is being tried; it ends by itself within the node's deadline.
    under_way: Option<JoinHandle<bool>>,
    last: Option<Instant>,
    answered: bool,
}

/// What a keeper does after a look.
enum Step {
    LookAgain(Duration),
    Displaced,
    Over,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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

    /// Stops to keep one deployment.
    pub(super) fn let_go(&self, name: &str) {
        let keepers = self.shared.keepers.lock();
        let keeper = keepers.unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
        if let Some(keeper) = keeper {
            keeper.abort();
        }
    }

    async fn keep_one(&self, name: &str, mut stages: Stages) {
        let mut pause = SEARCH_MS.0;
        loop {
            let began = Instant::now();
            let Err(error) = self.place_and_watch(name, &mut stages).await else {
                return;
            };
            if stages.is_listened() {
                // Somebody waits and is told; without a first success there is nothing to keep.
                let reason = error.line();
                if let Err(error) = self.update(name, |known| known.ended = Some(reason)).await {
                    warn!(deployment = name, "{}", error.line());
                }
                stages.failed(error.into());
                return;
            }
            if began.elapsed() > Duration::from_millis(SEARCH_MS.1) {
                pause = SEARCH_MS.0;
            }
            warn!(deployment = name, "{}; next attempt in {pause} ms", error.line());
            sleep(Duration::from_millis(pause)).await;
            pause = pause.saturating_mul(2).min(SEARCH_MS.1);
        }
    }

    /// Places a deployment where it is not, and watches it until it is over. An error means that no node was found.
    async fn place_and_watch(&self, name: &str, stages: &mut Stages) -> Result<(), BotError> {
        loop {
            let deployment = self.deployment(name).await?;
            let placement = match &deployment.placement {
                Some(placement) => placement.clone(),
                None if deployment.ended.is_some() => return Ok(()),
                None if deployment.periods_left() == 0 => {
                    return self.finish(name, "all periods are over", stages).await;
                }
                None => self.place(&deployment, stages).await?,
            };
            if !self.watch(name, &placement, stages).await {
                return Ok(());
            }
        }
    }

    /// Watches a placement. Returns whether another one is to be found.
    async fn watch(&self, name: &str, placement: &Placement, stages: &mut Stages) -> bool {
        let mut watch = Watch {
            port: self.named_port(name).await,
            ..Watch::default()
        };
        let mut said = String::new();
        loop {
            match self.look(name, placement, &mut watch, stages).await {
                Ok(Step::LookAgain(pause)) => {
                    said.clear();
                    sleep(pause).await;
                }
                Ok(Step::Displaced) => return true,
                Ok(Step::Over) => return false,
                Err(error) => {
                    let text = error.line();
                    if text != said {
                        warn!(deployment = name, "{text}; looking again");
                        said = text;
                    }
                    sleep(BLIND).await;
                }
            }
        }
    }

    /// The first port that a deployment's workload names.
    async fn named_port(&self, name: &str) -> Option<Knocks> {
        let deployment = self.deployment(name).await.ok()?;
        let port = *self.unseal(&deployment).ok()?.ports.first()?;
        Some(Knocks {
            port,
            under_way: None,
            last: None,
            answered: false,
        })
    }

    async fn look(
        &self,
        name: &str,
        placement: &Placement,
        watch: &mut Watch,
        stages: &mut Stages,
    ) -> Result<Step, BotError> {
        // Read before the contract, whose proof is then no older: where it is not there and can no longer come, it never will.
        let before = self.chain().head();
        match self.chain().record::<Contract>(placement.contract).await {
            Ok(contract) => watch.contract = contract,
            Err(error) => {
                // What the customer sees of its workload does not depend on the chain.
                self.observe(placement, watch, stages).await;
                // Whoever does not reach the chain may not reach the node for the same reason.
                watch.unanswered_since = None;
                return Err(error.into());
            }
        }
        let Some(head) = before else {
            return Ok(Step::LookAgain(EAGER));
        };
        let deployment = self.update_settled(name, watch.contract.as_ref()).await?;
        let deployment = self.find_out(name, deployment, watch, head.time).await?;
        let live = watch
            .contract
            .as_ref()
            .is_some_and(|known| known.body.ended().is_none());
        if deployment.ended.is_some() && live {
            self.cancel_contract(placement.contract).await?;
            return Ok(Step::LookAgain(EAGER));
        }
        let pause = self.observe(placement, watch, stages).await;
        let contract = watch.contract.as_ref();
        let runs = contract.is_some_and(|known| matches!(known.body.state, ContractState::Active { .. }));
        if stages.is_listened() && runs {
            let view = self.view(&deployment).await?;
            stages.reached("micro-VM up", &format!("contract {}", placement.contract));
            stages.done(view);
        }
        let seen = Seen {
            contract: contract.map(|known| (&known.body, known.record.author)),
            now: head.time,
            customer: self.id(),
            receipt_sent: watch.receipt_sent,
            unanswered_ms: watch.unanswered_since.map_or(0, |since| millis(since.elapsed())),
        };
        let placement = deployment.placement.as_ref().unwrap_or(placement);
        match decide(&deployment, placement, seen) {
            Next::Wait => Ok(Step::LookAgain(pause)),
            Next::Receipt { period, from, to } => {
                self.send_receipt(placement, watch, period, (from, to)).await;
                Ok(Step::LookAgain(BLIND))
            }
            Next::Fund { funded } => {
                let contract = placement.contract;
                self.send(Operation::Fund { contract, funded }).await?;
                info!(%contract, funded, "paid in");
                Ok(Step::LookAgain(EAGER))
            }
            Next::Leave { reason, blame } => {
                self.leave(name, placement, Leaving { reason, blame }, stages).await?;
                Ok(Step::LookAgain(EAGER))
            }
            Next::Redeploy { reason } if deployment.ended.is_none() => {
                stages.note(&format!("{reason}; looking for another node"));
                let cost = self.cost(placement).await?;
                self.update(name, |known| known.displace(cost, head.time)).await?;
                Ok(Step::Displaced)
            }
            Next::Redeploy { reason } | Next::Finish { reason } => {
                self.finish(name, &reason, stages).await?;
                Ok(Step::Over)
            }
        }
    }

    /// Finds out whether the chain took what the deployment is to become.
    async fn find_out(
        &self,
        name: &str,
        deployment: Deployment,
        watch: &mut Watch,
        now: Timestamp,
    ) -> Result<Deployment, BotError> {
        let Some(contract) = watch.contract.as_ref().filter(|_| deployment.pending.is_some()) else {
            return Ok(deployment);
        };
        let in_force = contract.body.signed.agreement.clone();
        let mut settled = deployment.clone();
        settled.settle_pending(&in_force, now);
        if settled == deployment {
            return Ok(deployment);
        }
        let mut is_new = false;
        let deployment = self
            .update(name, |known| is_new = known.settle_pending(&in_force, now))
            .await?;
        if is_new {
            watch.port = self.named_port(name).await;
        }
        Ok(deployment)
    }

    /// Cancels the contract with a node that is left; why is kept first, so that it is known whatever happens.
    async fn leave(
        &self,
        name: &str,
        placement: &Placement,
        leaving: Leaving,
        stages: &mut Stages,
    ) -> Result<(), BotError> {
        if placement.leaving.is_none() {
            stages.note(&format!("{}; leaving node {}", leaving.reason, placement.node.short()));
            let mark = |known: &mut Placement| known.leaving = Some(leaving);
            self.update(name, |known| known.placement.as_mut().map(mark).unwrap_or_default())
                .await?;
        }
        self.cancel_contract(placement.contract).await
    }

    /// Takes note that a deployment is over.
    async fn finish(&self, name: &str, reason: &str, stages: &mut Stages) -> Result<(), BotError> {
        info!(deployment = name, "over: {reason}");
        self.update(name, |known| {
            known.ended.get_or_insert_with(|| reason.to_owned());
        })
        .await?;
        stages.failed(BotError::Refused(reason.to_owned()).into());
        Ok(())
    }

    /// Takes note of how many periods are settled, if that is more than was known.
    async fn update_settled(&self, name: &str, contract: Option<&Proven<Contract>>) -> Result<Deployment, BotError> {
        let settled = match contract.map(|known| &known.body.state) {
            Some(ContractState::Active { period, .. } | ContractState::Suspended { period, .. }) => *period,
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
    async fn observe(&self, placement: &Placement, watch: &mut Watch, stages: &mut Stages) -> Duration {
        let Some(contract) = watch.contract.as_ref().map(|known| known.body.clone()) else {
            return EAGER;
        };
        let id = placement.contract;
        let asked = self.ask_node(placement.node, &Request::Status { contract: id }).await;
        let state = match asked {
            Ok(Answer::Status { state, .. }) => Some(state),
            _ => None,
        };
        watch.unanswered_since = match &state {
            Some(_) => None,
            None => watch.unanswered_since.or_else(|| Some(Instant::now())),
        };
        let active = contract.open_period();
        let fetched = active.is_some() || state.as_ref().is_some_and(State::is_fetched);
        if fetched && !watch.fetched {
            watch.fetched = true;
            if stages.is_listened() {
                stages.reached("image fetched and verified", "by the node");
            }
        }
        let (Some(period), Some(now)) = (active, self.chain().now()) else {
            // Whatever was seen before is not measured over a suspension.
            watch.meter = None;
            return EAGER;
        };
        let period_ms = contract.signed.agreement.rule.period_ms;
        let look_ms = (period_ms / LOOKS).clamp(*LOOK_MS.start(), *LOOK_MS.end());
        let running = state == Some(State::Running) && self.answers_at_its_port(placement, watch).await;
        let now = self.chain().now().unwrap_or(now);
        // Two looks and the time that they take may lie between.
        let meter = watch
            .meter
            .get_or_insert_with(|| Meter::new(look_ms.saturating_mul(3).saturating_add(1_000)));
        if meter.is_empty() && running {
            // The first look comes a moment after the node said that it runs.
            meter.saw(period.began, true);
        }
        meter.saw(now, running);
        meter.forget_before(period.began);
        Duration::from_millis(look_ms)
    }

    /// Whether the workload took the last connection to the first port that it names. One that names none is taken at its node's
    /// word. Looks do not wait for a connection that is slow.
    async fn answers_at_its_port(&self, placement: &Placement, watch: &mut Watch) -> bool {
        let Some(knocks) = &mut watch.port else {
            return true;
        };
        if let Some(under_way) = knocks.under_way.take_if(|under_way| under_way.is_finished()) {
            knocks.answered = under_way.await.unwrap_or(false);
            knocks.last = Some(Instant::now());
        }
        let rested = knocks.last.is_none_or(|last| last.elapsed() >= KNOCK_PAUSE);
        if knocks.under_way.is_none() && (rested || !knocks.answered) {
            let (bot, placement, port) = (self.clone(), placement.clone(), knocks.port);
            knocks.under_way = Some(tokio::spawn(
                async move { bot.open_tunnel(&placement, port).await.is_ok() },
            ));
        }
        knocks.answered
    }

    async fn send_receipt(
        &self,
        placement: &Placement,
        watch: &mut Watch,
        period: u32,
        (from, to): (Timestamp, Timestamp),
    ) {
        let up_ms = watch.meter.as_ref().map_or(0, |meter| meter.up_ms(from, to));
        let contract = placement.contract;
        let receipt = Operation::Receipt {
            contract,
            period,
            up_ms,
        };
        match self.send(receipt).await {
            Ok(_) => info!(%contract, period, up_ms, "receipt"),
            // Settled by the rule meanwhile, or sent before a restart: the contract says so at the next look. If it does not,
            // the refusal was not the chain's.
            Err(error) => {
                warn!(%contract, period, "receipt: {}", error.line());
                return;
            }
        }
        watch.receipt_sent = Some(period);
    }
}
