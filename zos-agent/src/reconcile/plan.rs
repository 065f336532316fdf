//! The pure planner.

use std::{fmt, time::Duration};

use super::{Desired, GRACE_MS, ImageHash, MISSING_MS, Observed, Wanted, Workload};
use crate::{layout::DiskId, vm::VmId};

/// One idempotent step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Shut a VM down, cleanly if it answers.
    StopVm(VmId),
    /// Remove what an ended monitor left in the run directory and its cgroup.
    ClearVm(VmId),
    /// Delete a workload's volumes and logs.
    DeleteData(VmId),
    /// Forget an ended contract of which nothing is left.
    Forget(VmId),
    /// Fetch an image.
    FetchImage(ImageHash),
    /// Start a VM.
    StartVm(Box<Workload>),
}

impl Action {
    /// The workload that it concerns.
    #[must_use]
    pub fn workload(&self) -> Option<&VmId> {
        match self {
            Self::StopVm(id) | Self::ClearVm(id) | Self::DeleteData(id) | Self::Forget(id) => Some(id),
            Self::StartVm(workload) => Some(&workload.spec.id),
            Self::FetchImage(_) => None,
        }
    }
}

/// Something that was not done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// The workload.
    pub id: VmId,
    /// The reason.
    pub reason: Reason,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No verified contract names it; it is left as it is.
    NoContract,
    /// Its image is not there yet.
    ImageMissing,
    /// It failed and is tried again at this time since the machine's start.
    BackingOff {
        /// Failures in a row.
        failures: u32,
        /// When.
        until: Duration,
    },
    /// There is not enough memory.
    NoMemory {
        /// Bytes wanted.
        wanted: u64,
        /// Bytes free.
        free: u64,
    },
    /// Its contract has ended; its data is kept until this time of the chain.
    Grace {
        /// Milliseconds since 1970.
        until_ms: u64,
    },
    /// The disk with its data is missing.
    DiskMissing(Option<DiskId>),
    /// Earlier steps for it are still being carried out.
    AtWork,
    /// It is stopped first and started in the next cycle.
    Replacing,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoContract => f.write_str("no verified contract names it; left as it is"),
            Reason::ImageMissing => f.write_str("waits for its image"),
            Reason::BackingOff { failures, until } => {
                write!(
                    f,
                    "failed {failures} times; tried again at +{}.{:03}",
                    until.as_secs(),
                    until.subsec_millis()
                )
            }
            Reason::NoMemory { wanted, free } => write!(f, "wants {wanted} bytes of memory; {free} are free"),
            Reason::Grace { until_ms } => {
                write!(f, "its contract has ended; data kept until {until_ms} ms of the chain")
            }
            Reason::DiskMissing(Some(disk)) => write!(f, "waits for the disk that holds its data (partition {disk})"),
            Reason::DiskMissing(None) => {
                f.write_str("ran before, and no disk here holds its data; waits for that disk")
            }
            Reason::AtWork => f.write_str("earlier steps for it go on"),
            Reason::Replacing => f.write_str("changed; starts when the old one has stopped"),
        }
    }
}

/// What to do, in order, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "an unread plan changes nothing"]
pub struct Plan {
    /// Steps in execution order: what frees comes before what takes.
    pub actions: Vec<Action>,
    /// What was not done.
    pub withheld: Vec<Withheld>,
}

/// Decides one reconcile step. `now` is the time since the machine's start.
pub fn plan(desired: &Desired, observed: &Observed, now: Duration) -> Plan {
    let mut plan = Plan::default();
    let mut starts = Vec::new();
    let mut free = observed.free_memory;
    for (id, wanted) in &desired.workloads {
        if observed.at_work.contains(id) {
            plan.withhold(id, Reason::AtWork);
            continue;
        }
        match wanted {
            Wanted::Run(workload) => {
                if let Some(action) = run(&mut plan, id, workload, observed, &mut free, now) {
                    starts.push(action);
                }
            }
            Wanted::Keep(size) => {
                if observed.running.get(id).is_some_and(|runs| runs.size.exceeds(*size)) {
                    stop(&mut plan, id, observed);
                }
            }
            Wanted::Stop => stop(&mut plan, id, observed),
            Wanted::Terminal { since_ms } => {
                stop(&mut plan, id, observed);
                ended(&mut plan, id, *since_ms, desired.chain_time_ms, observed);
            }
        }
    }
    unnamed(&mut plan, desired, observed);
    plan.actions.extend(starts);
    plan
}

fn stop(plan: &mut Plan, id: &VmId, observed: &Observed) {
    if observed.running.contains_key(id) {
        plan.actions.push(Action::StopVm(id.clone()));
    } else if observed.ended.contains(id) {
        plan.actions.push(Action::ClearVm(id.clone()));
    }
}

/// Data goes after the grace period, and then what is known of the contract. While the disk with its data is missing it stays
/// known for [`MISSING_MS`], so that the data can go when the disk is back.
fn ended(plan: &mut Plan, id: &VmId, since_ms: u64, now_ms: u64, observed: &Observed) {
    let until_ms = since_ms.saturating_add(GRACE_MS);
    if observed.running.contains_key(id) || observed.ended.contains(id) {
        return;
    }
    let data = observed.data.contains(id);
    if now_ms < until_ms {
        if data {
            plan.withhold(id, Reason::Grace { until_ms });
        }
    } else if data {
        plan.actions.push(Action::DeleteData(id.clone()));
    } else {
        match observed.missing.get(id) {
            Some(disk) if now_ms < since_ms.saturating_add(MISSING_MS) => {
                plan.withhold(id, Reason::DiskMissing(*disk));
            }
            _ => plan.actions.push(Action::Forget(id.clone())),
        }
    }
}

fn run(
    plan: &mut Plan,
    id: &VmId,
    workload: &Workload,
    observed: &Observed,
    free: &mut u64,
    now: Duration,
) -> Option<Action> {
    if let Some(runs) = observed.running.get(id) {
        // A change whose image is not there yet leaves the old one running while the image is fetched, unless it takes more than is
        // reserved for it now.
        let gives_way = observed.images.contains(&workload.image) || runs.size.exceeds(workload.spec.size());
        if runs.digest != workload.spec.digest() && gives_way {
            plan.actions.push(Action::StopVm(id.clone()));
            plan.withhold(id, Reason::Replacing);
        }
        return fetch(observed, workload, plan);
    }
    if observed.ended.contains(id) {
        plan.actions.push(Action::ClearVm(id.clone()));
    }
    if !observed.images.contains(&workload.image) {
        plan.withhold(id, Reason::ImageMissing);
        return fetch(observed, workload, plan);
    }
    if let Some(disk) = observed.missing.get(id) {
        plan.withhold(id, Reason::DiskMissing(*disk));
        return None;
    }
    if let Some(failure) = observed.failures.get(id).filter(|failure| failure.retry_at() > now) {
        plan.withhold(
            id,
            Reason::BackingOff {
                failures: failure.count,
                until: failure.retry_at(),
            },
        );
        return None;
    }
    let wanted = u64::from(workload.spec.memory_mib) << 20;
    let Some(left) = free.checked_sub(wanted) else {
        plan.withhold(id, Reason::NoMemory { wanted, free: *free });
        return None;
    };
    *free = left;
    Some(Action::StartVm(Box::new(workload.clone())))
}

/// Each image is asked for once, however many workloads want it.
fn fetch(observed: &Observed, workload: &Workload, plan: &mut Plan) -> Option<Action> {
    let action = Action::FetchImage(workload.image);
    let there = observed.images.contains(&workload.image) || observed.fetching.contains(&workload.image);
    if !there && !plan.actions.contains(&action) {
        plan.actions.push(action);
    }
    None
}

fn unnamed(plan: &mut Plan, desired: &Desired, observed: &Observed) {
    let mut ids: Vec<&VmId> = observed.running.keys().chain(&observed.data).collect();
    ids.sort();
    ids.dedup();
    for id in ids.into_iter().filter(|id| !desired.workloads.contains_key(id)) {
        plan.withhold(id, Reason::NoContract);
    }
}

impl Plan {
    fn withhold(&mut self, id: &VmId, reason: Reason) {
        self.withheld.push(Withheld { id: id.clone(), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reconcile::{Failure, Runs},
        vm::{Size, VmSpec, tests::spec},
    };

    const DAY: u64 = GRACE_MS;

    fn id(name: &str) -> VmId {
        VmId::new(name).unwrap()
    }

    fn workload(name: &str) -> Workload {
        Workload {
            image: [1; 32],
            spec: spec(name),
        }
    }

    fn desired(wanted: &[(&str, Wanted)]) -> Desired {
        Desired {
            chain_time_ms: 10 * DAY,
            workloads: wanted.iter().map(|(name, wanted)| (id(name), wanted.clone())).collect(),
        }
    }

    fn wants(name: &str) -> Wanted {
        Wanted::Run(Box::new(workload(name)))
    }

    fn observed() -> Observed {
        Observed {
            images: [[1; 32]].into(),
            free_memory: 1 << 30,
            ..Observed::default()
        }
    }

    fn runs(spec: &VmSpec) -> Runs {
        Runs {
            digest: spec.digest(),
            size: spec.size(),
        }
    }

    fn running(names: &[&str]) -> Observed {
        Observed {
            running: names.iter().map(|name| (id(name), runs(&spec(name)))).collect(),
            ..observed()
        }
    }

    fn text(plan: &Plan) -> String {
        let mut lines = Vec::new();
        for action in &plan.actions {
            lines.push(match action {
                Action::StopVm(id) => format!("stop {id}"),
                Action::ClearVm(id) => format!("clear {id}"),
                Action::DeleteData(id) => format!("delete {id}"),
                Action::Forget(id) => format!("forget {id}"),
                Action::FetchImage(hash) => format!("fetch {:02x}", hash[0]),
                Action::StartVm(workload) => format!("start {}", workload.spec.id),
            });
        }
        lines.extend(plan.withheld.iter().map(|withheld| format!("not {withheld}")));
        lines.join("\n")
    }

    fn check(desired: &Desired, observed: &Observed, expected: &str) {
        assert_eq!(text(&plan(desired, observed, Duration::from_secs(100))), expected);
    }

    #[test]
    fn what_is_wanted_and_not_there_is_started_and_what_runs_is_left_alone() {
        check(
            &desired(&[("a", wants("a")), ("b", wants("b"))]),
            &running(&["a"]),
            "start b",
        );
        check(&desired(&[("a", wants("a"))]), &running(&["a"]), "");
    }

    #[test]
    fn workload_whose_disk_is_late_waits_and_its_neighbour_starts() {
        let disk = DiskId::new([7; 16]);
        let observed = Observed {
            missing: [(id("a"), Some(disk)), (id("c"), None)].into(),
            ..observed()
        };
        check(
            &desired(&[("a", wants("a")), ("b", wants("b")), ("c", wants("c"))]),
            &observed,
            "start b\nnot a: waits for the disk that holds its data (partition 07070707070707070707070707070707)\n\
             not c: ran before, and no disk here holds its data; waits for that disk",
        );
    }

    #[test]
    fn workload_that_is_worked_on_is_let_be_and_its_neighbour_starts() {
        let observed = Observed {
            at_work: [id("a")].into(),
            ended: [id("a")].into(),
            ..observed()
        };
        check(
            &desired(&[("a", wants("a")), ("b", wants("b"))]),
            &observed,
            "start b\nnot a: earlier steps for it go on",
        );
    }

    #[test]
    fn absence_of_a_contract_stops_and_deletes_nothing() {
        let observed = Observed {
            data: [id("a"), id("c")].into(),
            ..running(&["a", "b"])
        };
        let left = "no verified contract names it; left as it is";
        check(
            &Desired::default(),
            &observed,
            &format!("not a: {left}\nnot b: {left}\nnot c: {left}"),
        );
    }

    #[test]
    fn data_goes_only_after_the_grace_period_of_a_terminal_contract_and_only_when_nothing_runs() {
        let ended = |since_ms| desired(&[("a", Wanted::Terminal { since_ms })]);
        let data = Observed {
            data: [id("a")].into(),
            ..observed()
        };
        let both = Observed {
            data: [id("a")].into(),
            ..running(&["a"])
        };
        check(&ended(9 * DAY), &data, "delete a");
        check(
            &ended(9 * DAY + 1),
            &data,
            &format!(
                "not a: its contract has ended; data kept until {} ms of the chain",
                10 * DAY + 1
            ),
        );
        check(&ended(0), &both, "stop a");
        check(&ended(u64::MAX), &both, "stop a");
        check(&ended(0), &observed(), "forget a");
        check(&ended(9 * DAY + 1), &observed(), "");
        let cleared = Observed {
            ended: [id("a")].into(),
            ..observed()
        };
        check(&ended(0), &cleared, "clear a");
        check(&desired(&[("a", Wanted::Stop)]), &both, "stop a");
        check(&desired(&[("a", Wanted::Stop)]), &data, "");
    }

    #[test]
    fn ended_contract_whose_disk_is_missing_is_forgotten_at_last() {
        let away = Observed {
            missing: [(id("a"), None)].into(),
            ..observed()
        };
        let ended = |since_ms| Desired {
            chain_time_ms: 100 * DAY,
            workloads: [(id("a"), Wanted::Terminal { since_ms })].into(),
        };
        check(&ended(69 * DAY), &away, "forget a");
        let waits = "not a: ran before, and no disk here holds its data; waits for that disk";
        check(&ended(71 * DAY), &away, waits);
    }

    #[test]
    fn image_is_fetched_once_before_its_workloads_start() {
        let wanted = desired(&[("a", wants("a")), ("b", wants("b"))]);
        let without = Observed {
            images: Default::default(),
            ..observed()
        };
        check(
            &wanted,
            &without,
            "fetch 01\nnot a: waits for its image\nnot b: waits for its image",
        );
        let fetching = Observed {
            fetching: [[1; 32]].into(),
            ..without
        };
        check(
            &wanted,
            &fetching,
            "not a: waits for its image\nnot b: waits for its image",
        );
    }

    #[test]
    fn failed_workload_is_tried_again_for_ever_with_growing_bounded_pauses() {
        let failed = |count, last| Observed {
            failures: [(
                id("a"),
                Failure {
                    count,
                    last: Duration::from_secs(last),
                },
            )]
            .into(),
            ended: [id("a")].into(),
            ..observed()
        };
        let wanted = desired(&[("a", wants("a"))]);
        check(&wanted, &failed(1, 99), "clear a\nstart a");
        check(
            &wanted,
            &failed(2, 99),
            "clear a\nnot a: failed 2 times; tried again at +101.000",
        );
        check(
            &wanted,
            &failed(4_000_000_000, 100),
            "clear a\nnot a: failed 4000000000 times; tried again at +400.000",
        );
    }

    #[test]
    fn changed_specification_replaces_the_vm_only_when_its_image_is_there() {
        let mut changed = workload("a");
        changed.spec.memory_mib = 256;
        let wanted = desired(&[("a", Wanted::Run(Box::new(changed.clone())))]);
        check(
            &wanted,
            &running(&["a"]),
            "stop a\nnot a: changed; starts when the old one has stopped",
        );
        changed.image = [2; 32];
        let wanted = desired(&[("a", Wanted::Run(Box::new(changed)))]);
        check(&wanted, &running(&["a"]), "fetch 02");
        let mut larger = running(&["a"]);
        larger.running.get_mut(&id("a")).unwrap().size.memory_mib = 512;
        check(
            &wanted,
            &larger,
            "stop a\nfetch 02\nnot a: changed; starts when the old one has stopped",
        );
    }

    #[test]
    fn what_is_kept_runs_on_unless_it_takes_more_than_it_may() {
        let keep = |memory_mib| {
            let vcpus = 1;
            desired(&[("a", Wanted::Keep(Size { vcpus, memory_mib }))])
        };
        check(&keep(128), &running(&["a"]), "");
        check(&keep(127), &running(&["a"]), "stop a");
        check(&keep(127), &observed(), "");
    }

    #[test]
    fn memory_is_given_in_order_and_never_twice() {
        let wanted = desired(&[("a", wants("a")), ("b", wants("b"))]);
        let tight = Observed {
            free_memory: 200 << 20,
            ..observed()
        };
        check(
            &wanted,
            &tight,
            &format!(
                "start a\nnot b: wants {} bytes of memory; {} are free",
                128 << 20,
                72 << 20
            ),
        );
    }

    #[test]
    fn stops_come_before_starts() {
        let wanted = desired(&[("a", wants("a")), ("b", Wanted::Stop)]);
        check(&wanted, &running(&["b"]), "stop b\nstart a");
    }
}
