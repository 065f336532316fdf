//! The micro-VMs of this node: what runs, and how a plan is carried out on it.
//!
//! [`Vms`] belongs to the reconcile loop and never waits. What a plan says for one workload is done on a task of its own, so a
//! slow or failing step holds up neither the loop nor other workloads; while it goes on, the workload is at work and is planned
//! for no further.

mod steps;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use error_line::with_causes;
use tokio::task::JoinSet;
use tracing::{info, warn};

use self::steps::{State, Steps};
use crate::{
    grid::{docket::vm_id, images::Images, shared::Shared},
    guest_net::{FlowMark, NetError, Slot},
    net::links::Links,
    pool::Pool,
    reconcile::{self, Action, Failed, Machine, Observed, Plan, Runs},
    vm::{
        ON_POOL, RUN, VmId, kernel,
        process::boot_id,
        registry,
        registry::Live,
        spawn::{self, StartError},
    },
};

/// A VM that ran for this long and ended has failed for the first time again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Bytes at the end of a monitor's log that are read.
const MAX_TAIL: u64 = 4096;
/// Most characters of a monitor's last line that are repeated.
const MAX_WORDS: usize = 300;

/// Why a step on the machine failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No guest kernel.
    #[error("guest kernel")]
    Kernel(#[from] kernel::KernelError),
    /// The monitor was not started.
    #[error("start")]
    Start(#[from] StartError),
    /// The guest's interface.
    #[error("guest network")]
    Network(#[from] NetError),
    /// All places among the guests are taken.
    #[error("all places for guests are taken")]
    NoSlot,
    /// No data disk.
    #[error("no data disk is mounted")]
    NoDisk,
    /// The disk with the data of the workload is missing.
    #[error("the disk that holds its data is missing")]
    DiskMissing,
    /// No contract of the docket has this name.
    #[error("no contract is known for it")]
    Unknown,
    /// A file or process.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
}

/// What a workload's steps came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The workload; none for a step that concerns none.
    pub id: Option<VmId>,
    /// What failed, in one line.
    pub failure: Option<String>,
}

/// The micro-VMs of this node.
#[derive(Debug)]
pub struct Vms {
    boot: String,
    steps: Arc<Steps>,
    tasks: JoinSet<Result<(), Failed<MachineError>>>,
    at_work: HashMap<tokio::task::Id, Option<VmId>>,
}

impl Vms {
    /// Finds the monitors that an earlier agent started and goes on with them.
    ///
    /// # Errors
    /// The error of reading the run directory.
    pub fn adopt(shared: Arc<Shared>, images: Images, links: Links) -> io::Result<Self> {
        let found = registry::find(Path::new(RUN))?;
        let since = Instant::now();
        let state = State {
            running: found.running.into_iter().map(|(id, vm)| (id, (vm, since))).collect(),
            ..State::default()
        };
        Ok(Self {
            boot: boot_id(),
            steps: Arc::new(Steps::new(shared, images, links, state)),
            tasks: JoinSet::new(),
            at_work: HashMap::new(),
        })
    }

    /// The VMs that run.
    #[must_use]
    pub fn live(&self) -> BTreeMap<VmId, Live> {
        let state = self.steps.state();
        let live = |(id, (vm, _)): (&VmId, &(registry::Running, Instant))| (id.clone(), vm.live());
        state.running.iter().map(live).collect()
    }

    /// Names of the VMs that run or are being started.
    #[must_use]
    pub fn names(&self) -> BTreeSet<VmId> {
        let state = self.steps.state();
        state.running.keys().chain(state.starting.keys()).cloned().collect()
    }

    /// Places that are taken, by VMs that run and by those that are being started.
    #[must_use]
    pub fn taken(&self) -> BTreeSet<Slot> {
        let state = self.steps.state();
        let running = state.running.values().map(|(vm, _)| vm.slot);
        running.chain(state.starting.values().copied()).collect()
    }

    /// The guests that have a network or are to have one, and the marks of their flows.
    #[must_use]
    pub fn guests(&self) -> BTreeMap<Slot, FlowMark> {
        let state = self.steps.state();
        let running = state.running.iter().map(|(id, (vm, _))| (id, vm.slot));
        let starting = state.starting.iter().map(|(id, slot)| (id, *slot));
        running
            .chain(starting)
            .map(|(id, slot)| (slot, FlowMark::new(&self.boot, id.as_str())))
            .collect()
    }

    /// Looks at what there is. `mru` is the memory for workloads.
    ///
    /// # Errors
    /// The error of reading a directory or asking the kernel for a process.
    pub fn observe(&mut self, pool: &Pool, mru: u64) -> io::Result<Observed> {
        let mut state = self.steps.state();
        state.disks = pool.by_room();
        collect(&mut state)?;
        let at_work: BTreeSet<VmId> = self.at_work.values().flatten().cloned().collect();
        let mut found = registry::find(Path::new(RUN))?;
        found.ended.retain(|id| !at_work.contains(id));
        let docket = self.steps.shared.docket();
        // What runs has what it was started with, whatever was agreed since.
        let running = state
            .running
            .values()
            .map(|(vm, _)| u64::from(vm.size.memory_mib) << 20);
        let starting = docket
            .entries()
            .iter()
            .filter(|(id, _)| vm_id(**id).is_some_and(|vm| state.starting.contains_key(&vm)))
            .map(|(_, entry)| entry.contract.signed.agreement.resources.mru);
        let used: u64 = running.chain(starting).sum();
        Ok(Observed {
            running: state
                .running
                .iter()
                .map(|(id, (vm, _))| (id.clone(), runs(vm)))
                .collect(),
            ended: found.ended,
            at_work,
            data: data(&state),
            missing: state.missing(docket.entries()),
            images: self.steps.images.present(),
            fetching: self.steps.images.fetching(),
            free_memory: mru.saturating_sub(used),
            failures: state.failures.clone(),
        })
    }

    /// Gives each VM that is to start its place. One for which there is none is not started.
    pub fn reserve(&mut self, plan: &mut Plan) {
        let mut taken = self.taken();
        let mut state = self.steps.state();
        plan.actions.retain(|action| {
            let Action::StartVm(workload) = action else {
                return true;
            };
            let id = &workload.spec.id;
            let resting = match registry::resting(Path::new(RUN), Path::new("/proc"), id) {
                Ok(resting) => resting,
                Err(error) => {
                    warn!(vm = %id, "look for places that rest: {error}");
                    return false;
                }
            };
            let Some(slot) = registry::free_slot(&taken.union(&resting).copied().collect()) else {
                warn!(vm = %id, "all places for guests are taken");
                return false;
            };
            taken.insert(slot);
            state.starting.insert(id.clone(), slot);
            true
        });
    }

    /// Takes back the places of a plan whose VMs are not to start after all.
    pub fn withdraw_starts(&mut self, plan: &mut Plan) {
        let mut state = self.steps.state();
        plan.actions.retain(|action| {
            let Action::StartVm(workload) = action else {
                return true;
            };
            state.starting.remove(&workload.spec.id);
            false
        });
    }

    /// Begins to carry out a plan whose places are reserved, and returns at once.
    pub fn carry_out(&mut self, plan: Plan) {
        for batch in plan.batches() {
            let (steps, id) = (Arc::clone(&self.steps), batch.id.clone());
            let task = self
                .tasks
                .spawn(async move { reconcile::execute(batch, &*steps).await });
            self.at_work.insert(task.id(), id);
        }
    }

    /// What has come to its end since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let (task, failure) = match ended {
                Ok((task, result)) => (task, result.err().map(|failed| with_causes(&failed))),
                Err(error) => (error.id(), Some(format!("a step broke off: {error}"))),
            };
            let id = self.at_work.remove(&task).flatten();
            if let Some(id) = &id {
                self.steps.state().starting.remove(id);
            }
            outcomes.push(Outcome { id, failure });
        }
        outcomes
    }

    /// Asks every VM to shut down, or pulls the plug of one that was asked long enough ago.
    pub async fn stop_all(&self) {
        for id in self.live().keys() {
            if let Err(error) = self.steps.stop_vm(id).await {
                warn!(vm = %id, "{}", with_causes(&error));
            }
        }
    }
}

fn runs(vm: &registry::Running) -> Runs {
    Runs {
        digest: vm.digest.clone(),
        size: vm.size,
    }
}

/// Takes note of monitors that have ended.
fn collect(state: &mut State) -> io::Result<()> {
    let mut ended = Vec::new();
    for (id, (vm, since)) in &state.running {
        if let Some(how) = vm.process.ended()? {
            ended.push((id.clone(), how, since.elapsed(), last_words(&vm.directory)));
        }
    }
    for (id, how, ran, words) in ended {
        state.running.remove(&id);
        let asked = state.stopping.remove(&id).is_some();
        info!(vm = %id, ?how, "monitor ended{words}");
        if !asked {
            let known = state.failures.get(&id).map_or(0, |failure| failure.count);
            state.failed(&id, if ran >= HEALTHY { 0 } else { known });
        }
    }
    Ok(())
}

fn data(state: &State) -> BTreeSet<VmId> {
    let mut data = BTreeSet::new();
    for (_, disk) in &state.disks {
        let entries = match fs::read_dir(disk.join(ON_POOL)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // One broken disk costs what is on it and not the node.
            Err(error) => {
                warn!(disk = %disk.display(), "volumes not listed: {error}");
                continue;
            }
        };
        data.extend(
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().to_str().and_then(VmId::new)),
        );
    }
    data
}

/// The last line that a monitor wrote to its standard error, with a separator before it; nothing if it wrote none but what it
/// says of its jail. Whatever is in the file, little of it is read.
fn last_words(directory: &Path) -> String {
    let text = tail(&directory.join(spawn::MONITOR_LOG)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let said = |line: &&str| !line.trim().is_empty() && !line.starts_with(node_api::vmm::LANDLOCK_LINE);
    let line = text.lines().rev().find(said);
    line.map_or_else(String::new, |line| {
        format!(": {}", line.chars().take(MAX_WORDS).collect::<String>())
    })
}

fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MAX_TAIL);
    let mut bytes = Vec::new();
    let mut file = io::BufReader::new(file);
    io::Seek::seek(&mut file, io::SeekFrom::Start(start))?;
    io::Read::read_to_end(&mut io::Read::take(file, MAX_TAIL), &mut bytes)?;
    Ok(bytes)
}

/// Time since the machine's start.
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_few_whatever_the_log_holds() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(last_words(directory.path()), "");
        let log = directory.path().join(spawn::MONITOR_LOG);
        fs::write(&log, format!("{}enforced in full\n", node_api::vmm::LANDLOCK_LINE)).unwrap();
        assert_eq!(last_words(directory.path()), "");
        fs::write(&log, "first\nvmm: guest fault: x\n\n").unwrap();
        assert_eq!(last_words(directory.path()), ": vmm: guest fault: x");
        // A monitor that was taken over fills it.
        let file = fs::File::options().append(true).open(&log).unwrap();
        file.set_len(1 << 40).unwrap();
        io::Write::write_all(&mut &file, b"\nlate\n").unwrap();
        assert_eq!(last_words(directory.path()), ": late");
    }
}
