//! Looks after the guests: asks each how it is, and notes when it ran.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ledger::Id;
use tokio::{sync::watch, task::JoinSet};
use tracing::debug;

use crate::{
    grid::member::{GuestView, Shared},
    guest_net::Slot,
    text::chain,
    vm::{RUN, VmId, guest::Guest, registry},
};

/// Pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Rounds between two notes of when a guest ran; an agent that dies loses none of it, for the guest's own clock goes on.
const NOTE_EVERY: u32 = 5;

/// Runs for as long as the agent does. `slots` are the VMs that run.
pub async fn run(shared: Arc<Shared>, slots: watch::Receiver<BTreeMap<VmId, Slot>>) {
    let mut round = 0_u32;
    loop {
        let running = slots.borrow().clone();
        let mut asked = JoinSet::new();
        for (vm, slot) in running {
            asked.spawn_blocking(move || ask(&vm, slot));
        }
        let mut seen = BTreeSet::new();
        while let Some(asked) = asked.join_next().await {
            // A question that panicked is asked again in the next round.
            let Ok(Some((id, view))) = asked else { continue };
            // A guest that has just come to run is noted at once, so that its start is on record.
            let fresh = !shared.guests().get(&id).is_some_and(GuestView::is_running);
            let now = shared.chain_now_ms();
            if view.is_running() && now > 0 && (round.is_multiple_of(NOTE_EVERY) || fresh) {
                let started = now.saturating_sub(view.uptime_ms);
                let noted = shared.contracts().ran(id, started, now).await;
                if let Err(error) = noted {
                    debug!(contract = %id, "uptime not kept: {}", chain(&error));
                }
            }
            seen.insert(id);
            shared.guests().insert(id, view);
        }
        shared.guests().retain(|id, _| seen.contains(id));
        round = round.wrapping_add(1);
        tokio::time::sleep(ROUND).await;
    }
}

fn ask(vm: &VmId, slot: Slot) -> Option<(Id, GuestView)> {
    let id = vm.as_str().parse().ok()?;
    let socket = registry::directory(Path::new(RUN), vm).join("vsock");
    let status = Guest::connect(&socket).and_then(|mut guest| guest.status());
    let (uptime_ms, workload) = match status {
        Ok((uptime_ms, workload)) => (uptime_ms, Some(workload)),
        Err(error) => {
            debug!(%vm, "guest does not answer: {}", chain(&error));
            (0, None)
        }
    };
    Some((
        id,
        GuestView {
            slot,
            uptime_ms,
            workload,
        },
    ))
}
