//! The steps of a plan, as they are done on this machine. Nothing here holds up the loop: what blocks runs on threads that may.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use error_line::with_causes;
use ledger::Id;
use node_api::{image::GUEST_KERNEL, vmm::ControlRequest};
use tokio::{sync::OnceCell, task::spawn_blocking};
use tracing::{info, warn};

use super::{MachineError, uptime};
use crate::{
    grid::{
        docket::{Entry, vm_id},
        images::Images,
        shared::Shared,
    },
    guest_net::{Slot, open_tap},
    layout::DiskId,
    net::links::Links,
    place::{Known, Place, place},
    reconcile::{Failure, ImageHash, Machine, Workload},
    vm::{
        CGROUPS, ON_POOL, RUN, VmId, control,
        guest::Guest,
        kernel, registry,
        registry::Running,
        spawn::{self, Launcher, StartError},
        volume::VolumeError,
    },
};

/// How long a guest may take to shut down before its plug is pulled.
const SHUTDOWN: Duration = Duration::from_secs(20);

/// What is known of the VMs. Held for moments, never over a wait.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Mounted data disks, the one with the most room first.
    pub(super) disks: Vec<(DiskId, PathBuf)>,
    pub(super) running: BTreeMap<VmId, (Running, Instant)>,
    /// Places that are taken by VMs which are being started.
    pub(super) starting: BTreeMap<VmId, Slot>,
    pub(super) stopping: BTreeMap<VmId, Instant>,
    pub(super) failures: BTreeMap<VmId, Failure>,
}

impl State {
    /// Where a workload's data is, or is to be.
    fn place(&self, entry: &Entry, id: &VmId) -> Place {
        let on = |(_, disk): &&(DiskId, PathBuf)| disk.join(ON_POOL).join(id.as_str()).exists();
        let known = Known {
            recorded: entry.place,
            found: self.disks.iter().find(on).map(|(disk, _)| *disk),
            history: entry.history(),
        };
        let mounted: Vec<DiskId> = self.disks.iter().map(|(disk, _)| *disk).collect();
        place(known, &mounted)
    }

    /// Workloads whose data is on a disk that is not mounted.
    pub(super) fn missing(&self, entries: &BTreeMap<Id, Entry>) -> BTreeMap<VmId, Option<DiskId>> {
        let missing = |(id, entry): (&Id, &Entry)| {
            let vm = vm_id(*id)?;
            match self.place(entry, &vm) {
                Place::Missing(disk) => Some((vm, disk)),
                Place::On(_) | Place::New(_) | Place::NoDisk => None,
            }
        };
        entries.iter().filter_map(missing).collect()
    }

    pub(super) fn failed(&mut self, id: &VmId, before: u32) {
        let failure = Failure {
            count: before.saturating_add(1),
            last: uptime(),
        };
        self.failures.insert(id.clone(), failure);
    }
}

/// Carries out steps. Shared by the tasks that do.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) shared: Arc<Shared>,
    pub(super) images: Images,
    links: Links,
    launcher: OnceCell<Arc<Launcher>>,
    state: Mutex<State>,
}

impl Steps {
    pub(super) fn new(shared: Arc<Shared>, images: Images, links: Links, state: State) -> Self {
        Self {
            shared,
            images,
            links,
            launcher: OnceCell::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a VM on the disk that holds its data; which disk that is stands in the docket before anything is on it.
    async fn directory(&self, id: &VmId) -> Result<PathBuf, MachineError> {
        let contract: Id = id.as_str().parse().map_err(|_| MachineError::Unknown)?;
        let entry = self.shared.docket().entries().get(&contract).cloned();
        let entry = entry.ok_or(MachineError::Unknown)?;
        let (disk, directory) = {
            let state = self.state();
            let disk = match state.place(&entry, id) {
                Place::On(disk) | Place::New(disk) => disk,
                Place::Missing(_) => return Err(MachineError::DiskMissing),
                Place::NoDisk => return Err(MachineError::NoDisk),
            };
            let mounted = state.disks.iter().find(|(id, _)| *id == disk);
            let directory = mounted.map(|(_, directory)| directory.join(ON_POOL).join(id.as_str()));
            (disk, directory.ok_or(MachineError::DiskMissing)?)
        };
        let placed = self.shared.contracts().place(contract, disk).await;
        placed.map_err(|error| MachineError::Io("record where its data is", error))?;
        Ok(directory)
    }

    /// Gives back what the store holds of a contract's image, which may have come only in part.
    async fn discard(&self, contract: Id) {
        let content = self.shared.docket().sole_content(contract);
        for blob in content {
            if let Err(error) = self.images.discard(blob).await {
                warn!(%contract, "content stays in the store: {}", with_causes(&error));
            }
        }
    }

    async fn launcher(&self) -> Result<Arc<Launcher>, MachineError> {
        let make = || async {
            let kernel = blocking(|| Ok(kernel::unpack(Path::new(GUEST_KERNEL))?)).await?;
            Ok(Arc::new(Launcher::new(kernel)))
        };
        self.launcher.get_or_try_init(make).await.cloned()
    }

    async fn try_start(&self, workload: &Workload) -> Result<Running, MachineError> {
        let id = &workload.spec.id;
        let slot = self.state().starting.get(id).copied().ok_or(MachineError::NoSlot)?;
        let directory = self.directory(id).await?;
        let tap = open_tap(&self.links, slot).await?;
        let launcher = self.launcher().await?;
        let spec = workload.spec.clone();
        blocking(move || Ok(launcher.start(&spec, slot, Some(tap), &directory)?)).await
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MachineError> + Send + 'static,
) -> Result<T, MachineError> {
    let done = spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(MachineError::Io("finish a step", io::Error::other(error))))
}

impl Machine for Steps {
    type Error = MachineError;

    async fn stop_vm(&self, id: &VmId) -> Result<(), MachineError> {
        let mut state = self.state();
        if !state.running.contains_key(id) {
            return Ok(());
        }
        let asked = *state.stopping.entry(id.clone()).or_insert_with(|| {
            // A hostile guest may take its time to answer; nobody waits for it, and `SHUTDOWN` bounds it.
            let id = id.clone();
            spawn_blocking(move || ask_to_stop(&id));
            Instant::now()
        });
        let late = asked.elapsed() >= SHUTDOWN;
        if let Some((vm, _)) = state.running.get(id).filter(|_| late) {
            warn!(vm = %id, "guest did not shut down in time; its plug is pulled");
            let killed = vm.process.kill();
            killed.map_err(|error| MachineError::Io("kill the monitor", error))?;
        }
        Ok(())
    }

    async fn clear_vm(&self, id: &VmId) -> Result<(), MachineError> {
        let id = id.clone();
        blocking(move || {
            match spawn::remove_cgroup(Path::new(CGROUPS), &id) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(MachineError::Io("remove the monitor's cgroup", error));
                }
                _ => {}
            }
            registry::forget(Path::new(RUN), &id).map_err(|error| MachineError::Io("forget the monitor", error))
        })
        .await
    }

    async fn delete_data(&self, id: &VmId) -> Result<(), MachineError> {
        let on = |(_, disk): &(DiskId, PathBuf)| disk.join(ON_POOL).join(id.as_str());
        let directories: Vec<PathBuf> = self.state().disks.iter().map(on).collect();
        blocking(move || {
            for directory in directories {
                match fs::remove_dir_all(directory) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(MachineError::Io("delete the workload's data", error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn forget(&self, id: &VmId) -> Result<(), MachineError> {
        let contract: Id = id.as_str().parse().map_err(|_| MachineError::Unknown)?;
        self.discard(contract).await;
        let forgotten = self.shared.contracts().forget(contract).await;
        forgotten.map_err(|error| MachineError::Io("remove its files", error))?;
        self.state().failures.remove(id);
        Ok(())
    }

    async fn fetch_image(&self, image: &ImageHash) -> Result<(), MachineError> {
        // Before the chain has said who has it there is nobody to ask; the next cycle tries again.
        if let Some((blob, providers)) = self.shared.source(image) {
            self.images.begin(blob, providers);
        }
        Ok(())
    }

    async fn start_vm(&self, workload: &Workload) -> Result<(), MachineError> {
        let id = &workload.spec.id;
        let started = self.try_start(workload).await;
        let mut state = self.state();
        state.starting.remove(id);
        match started {
            Ok(running) => {
                state.running.insert(id.clone(), (running, Instant::now()));
                Ok(())
            }
            Err(error) => {
                if matches!(
                    &error,
                    MachineError::Start(StartError::Volume(VolumeError::NoRoom { .. }))
                ) {
                    self.images.want_room();
                }
                let before = state.failures.get(id).map_or(0, |failure| failure.count);
                state.failed(id, before);
                Err(error)
            }
        }
    }
}

/// Asks the guest's init, or else presses the power button.
fn ask_to_stop(id: &VmId) {
    let directory = registry::directory(Path::new(RUN), id);
    let asked = Guest::connect(&directory.join("vsock")).and_then(|mut guest| guest.shutdown());
    if let Err(error) = asked {
        info!(vm = %id, "guest not asked to shut down: {}; pressing its power button", with_causes(&error));
        if let Err(error) = control::command(&directory.join("control"), ControlRequest::PowerButton) {
            warn!(vm = %id, "power button: {}", with_causes(&error));
        }
    }
}
