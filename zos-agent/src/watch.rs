//! Looks after the guests: asks each how it is, and notes when it ran.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use error_line::with_causes;
use ledger::Id;
use tokio::{sync::watch, task::JoinSet};
use tracing::debug;

use crate::{
    grid::{shared::Shared, view::GuestView},
    vm::{
        RUN, VmId,
        guest::Guest,
        registry::{self, Live},
    },
};

/// Pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two notes of when a guest ran; an agent that dies loses none of it, for the monitor's start is the kernel's
/// word.
const NOTE_EVERY: u32 = 5;

/// Runs for as long as the agent does. `live` are the VMs that run.
pub async fn run(shared: Arc<Shared>, live: watch::Receiver<BTreeMap<VmId, Live>>) {
    let mut round = 0_u32;
    // Monitors whose guest has said that the workload has begun. From then on the monitor's time counts: whether the process in
    // it goes on running is the customer's matter.
    let mut began: BTreeMap<Id, Duration> = BTreeMap::new();
    loop {
        let running = live.borrow().clone();
        let mut asked = JoinSet::new();
        for (vm, live) in running {
            asked.spawn_blocking(move || ask(&vm, live));
        }
        let mut seen = BTreeSet::new();
        while let Some(asked) = asked.join_next().await {
            // A question that panicked is asked again in the next round.
            let Ok(Some((id, live, mut view))) = asked else {
                continue;
            };
            if view.has_begun() {
                began.insert(id, live.started);
            }
            view.counts_from = began.get(&id).copied().filter(|started| *started == live.started);
            // A guest that has just come to run is noted at once, so that its start is on record.
            let before = shared.guests().insert(id, view.clone());
            let fresh = before.and_then(|before| before.counts_from) != view.counts_from;
            if let Some(from) = view.counts_from.filter(|_| fresh || round.is_multiple_of(NOTE_EVERY))
                && let Err(error) = shared.note_uptime(id, from).await
            {
                debug!(contract = %id, "uptime not kept: {}", with_causes(&error));
            }
            seen.insert(id);
        }
        shared.guests().retain(|id, _| seen.contains(id));
        began.retain(|id, _| seen.contains(id));
        round = round.wrapping_add(1);
        tokio::time::sleep(ROUND).await;
    }
}

fn ask(vm: &VmId, live: Live) -> Option<(Id, Live, GuestView)> {
    let id = vm.as_str().parse().ok()?;
    let socket = registry::directory(Path::new(RUN), vm).join("vsock");
    let status = Guest::connect(&socket).and_then(|mut guest| guest.status());
    let (uptime_ms, workload) = match status {
        Ok((uptime_ms, workload)) => (uptime_ms, Some(workload)),
        Err(error) => {
            debug!(%vm, "guest does not answer: {}", with_causes(&error));
            (0, None)
        }
    };
    let view = GuestView {
        slot: live.slot,
        uptime_ms,
        workload,
        counts_from: None,
    };
    Some((id, live, view))
}
