//! The agent put together: it starts, and then a loop makes the machine match the chain until the machine shuts down.

mod disks;
mod membership;
mod network;
mod start;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use error_line::with_causes;
use ledger::Id;
use node_api::init::{GUESTS_MODULES_LOADED, PROGRAMS_VERIFIED};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use self::{
    disks::{Disks, follow_home, step_storage},
    network::Network,
    start::read_settings,
};
use crate::{
    capacity,
    console::{Console, Status},
    grid::{images::Images, shared::Shared, statement::Statement},
    guest_net,
    heartbeat::Heartbeat,
    home, identity,
    machine::{Vms, uptime},
    net::links,
    pool::MountError,
    reconcile::{self, Desired, Reason, Wanted, Withheld},
    settings::{self, Settings},
    storage::Storage,
    vm::{VmId, registry::Live},
};

/// Pause between two reconcile cycles.
const CYCLE: Duration = Duration::from_secs(1);
/// Pause while there is no data disk.
const DISK_PAUSE: Duration = Duration::from_millis(50);
/// Uptime from which guests are started whether or not init has said that the kernel is prepared for them.
const GUESTS_PATIENCE: Duration = Duration::from_secs(60);
/// How long guests have to shut down when the machine does.
const FAREWELL: Duration = Duration::from_secs(45);

/// Why the agent ends by itself. Init starts it again.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kernel's network.
    #[error("network")]
    Links(#[from] links::LinkError),
    /// The node's keys.
    #[error("identity")]
    Identity(#[from] identity::IdentityError),
    /// The record of the home could not be written. If a disk has a newer one, the next agent begins with that.
    #[error("record of the home disk")]
    Home(#[from] home::WriteError),
    /// A disk that is not this node's could not be let go.
    #[error("let go of the data disks of another node")]
    Release(#[from] MountError),
    /// The peer link's port.
    #[error("peer link")]
    Bind(#[from] peer_link::BindError),
    /// The peer link's socket is lost.
    #[error("the peer link lost its socket; a new agent opens another")]
    LinkLost,
    /// A file or directory that must be usable is not.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    /// The image store.
    #[error("images")]
    Images(#[from] crate::grid::images::ImageFault),
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> AgentError {
    move |source| AgentError::Io(what, source)
}

/// Says one line on the console.
fn say(text: &str) {
    Console::new(Path::new(settings::DEFAULT_CONSOLE)).say(uptime(), text);
}

/// Runs the agent until the machine shuts down.
///
/// # Errors
/// [`AgentError`] when something without which it cannot go on fails.
pub async fn run() -> Result<(), AgentError> {
    let settings = read_settings();
    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("signals"))?;
    let (mut agent, mut serving) = tokio::select! {
        started = Agent::start(settings) => started?,
        _ = terminate.recv() => return Ok(()),
    };
    tokio::select! {
        ended = agent.reconcile_forever() => match ended? {},
        // The guests go on; the next agent takes them over.
        () = serving.ended() => return Err(AgentError::LinkLost),
        _ = terminate.recv() => {}
    }
    agent.farewell().await;
    Ok(())
}

struct Agent {
    settings: Settings,
    storage: Storage,
    home: home::Record,
    network: Network,
    shared: Arc<Shared>,
    vms: Vms,
    images: Images,
    collecting: Option<JoinHandle<()>>,
    identity: Id,
    console: Console,
    statement: watch::Sender<Option<Statement>>,
    live: watch::Sender<BTreeMap<VmId, Live>>,
    rules: Option<guest_net::Input>,
    heartbeat: Heartbeat,
    height: watch::Receiver<Option<u64>>,
    /// What is wrong at present, by what it is about.
    complaints: BTreeMap<String, String>,
}

impl Agent {
    async fn reconcile_forever(&mut self) -> Result<Infallible, AgentError> {
        loop {
            self.cycle().await?;
            tokio::select! {
                () = tokio::time::sleep(CYCLE) => {}
                () = self.network.change() => {}
            }
        }
    }

    /// One turn: look, plan, do, tell.
    async fn cycle(&mut self) -> Result<(), AgentError> {
        if step_storage(&mut self.storage) == Disks::More {
            self.replicate_identity()?;
        }
        self.network.collect();
        let hardware = capacity::observe(Path::new("/"));
        let capacity = capacity::capacity(&hardware, &capacity::media(self.storage.pool().disks(), self.home.home));
        let refused = self.storage.refused();
        let leased: Vec<IpAddr> = self
            .network
            .addresses()
            .into_iter()
            .map(|(_, address)| address)
            .collect();
        let up = !leased.is_empty();
        // A disk that is still being read, for hours perhaps, is stated when it is in use.
        if up {
            let (advertised, port) = (&self.settings.advertise, self.settings.port);
            let statement = Statement::new(&capacity, &hardware, advertised, &leased, port, &refused);
            self.statement.send_if_modified(|said| {
                let changed = said.as_ref() != Some(&statement);
                *said = Some(statement);
                changed
            });
        }
        self.reconcile(capacity.mru);
        let status = Status {
            node: Some(*self.identity.hash().as_bytes()),
            farm: self.shared.node().map(|node| *node.farm.hash().as_bytes()),
            capacity,
            addresses: self.network.addresses(),
            // The height is for people who look; it is shown when something else changes, not with every block.
            height: self.height.borrow().map(|height| height / 100 * 100),
            workloads: self.workloads(),
            refused,
            reading: self.storage.reading(),
        };
        self.console.show(uptime(), &status);
        self.heartbeat.turned();
        if up {
            self.heartbeat.ready();
        }
        Ok(())
    }

    /// Sees to it that a disk that has come later holds a copy of the identity as well, and knows the home.
    ///
    /// # Errors
    /// The disk knows a newer home.
    fn replicate_identity(&mut self) -> Result<(), AgentError> {
        match follow_home(&mut self.storage, &self.home) {
            Ok(record) => self.home = record,
            Err(error @ AgentError::Home(home::WriteError::Newer { .. })) => return Err(error),
            Err(error) => say(&format!("identity not copied to all disks: {}", with_causes(&error))),
        }
        Ok(())
    }

    fn reconcile(&mut self, mru: u64) {
        self.note_outcomes();
        let observed = match self.vms.observe(self.storage.pool(), mru) {
            Ok(observed) => observed,
            Err(error) => return self.complain("", format!("look at the workloads: {error}")),
        };
        self.complaints.remove("");
        let images = self.images.clone();
        let desired = self
            .shared
            .docket()
            .desired(self.shared.chain_now_ms(), |hash| images.path(hash));
        // Before anything can take a place that has become free, nobody is led to it any more.
        self.live.send_replace(self.vms.live());
        let mut plan = reconcile::plan(&desired, &observed, uptime());
        self.vms.reserve(&mut plan);
        if !can_guests_run() || self.apply_rules() == Rules::Missing {
            self.vms.withdraw_starts(&mut plan);
        }
        for action in &plan.actions {
            announce(action);
        }
        let waits = |withheld: &Withheld| {
            let waits = withheld.reason != Reason::AtWork;
            waits.then(|| Some((withheld.id.as_str().parse().ok()?, withheld.reason.to_string())))?
        };
        self.shared
            .set_waiting(plan.withheld.iter().filter_map(waits).collect());
        self.vms.carry_out(plan);
        self.collect_images();
    }

    /// Removes images that nobody needs, on a thread that may wait for the disk.
    fn collect_images(&mut self) {
        if !self.collecting.as_ref().is_none_or(JoinHandle::is_finished) {
            return;
        }
        let wanted = self.shared.docket().images(&self.vms.names());
        let images = self.images.clone();
        self.collecting = Some(tokio::task::spawn_blocking(move || {
            match images.collect(&wanted, uptime()) {
                Ok(gone) => gone
                    .iter()
                    .for_each(|image| say(&format!("removed the image {}: no contract needs it", hex(image)))),
                Err(error) => tracing::warn!("{}", with_causes(&error)),
            }
        }));
    }

    /// Says what has failed, for each workload once for as long as it stays the same.
    fn note_outcomes(&mut self) {
        for outcome in self.vms.outcomes() {
            let of = outcome.id.as_ref().map_or("images", VmId::as_str).to_owned();
            match outcome.failure {
                Some(failure) => self.complain(&of, failure),
                None => _ = self.complaints.remove(&of),
            }
        }
    }

    /// Says what is wrong with something, once for as long as it stays the same.
    fn complain(&mut self, of: &str, text: String) {
        if self.complaints.get(of) != Some(&text) {
            say(&text);
            self.complaints.insert(of.to_owned(), text);
        }
    }

    /// Puts the rules of the guests' network in force before any guest starts.
    fn apply_rules(&mut self) -> Rules {
        let rules = self.network.rules(self.vms.guests(), self.settings.port);
        if self.rules.as_ref() == Some(&rules) {
            return Rules::InForce;
        }
        let mut text = guest_net::ruleset(&rules);
        if self.rules.is_none() {
            text.insert_str(0, guest_net::FLOW_LIMIT);
        }
        match tokio::task::block_in_place(|| guest_net::apply(&text)) {
            Ok(()) => {
                self.rules = Some(rules);
                self.complaints.remove("rules");
                Rules::InForce
            }
            Err(error) => {
                self.complain(
                    "rules",
                    format!("guests' network: {}; no workload is started", with_causes(&error)),
                );
                Rules::Missing
            }
        }
    }

    fn workloads(&self) -> Vec<(String, String)> {
        let guests = self.shared.guests();
        let waiting = self.shared.waiting();
        let docket = self.shared.docket();
        let live = docket
            .entries()
            .iter()
            .filter(|(_, entry)| entry.contract.ended().is_none());
        let line = |(id, entry): (&Id, &crate::grid::docket::Entry)| {
            let state = match guests.get(id) {
                Some(guest) if guest.is_running() => "running".to_owned(),
                Some(_) => "starting".to_owned(),
                None => waiting
                    .get(id)
                    .cloned()
                    .unwrap_or_else(|| entry.contract.state_name().to_owned()),
            };
            (id.short(), state)
        };
        live.map(line).collect()
    }

    /// Shuts all guests down before the machine goes.
    async fn farewell(&mut self) {
        let stop = |id: &VmId| (id.clone(), Wanted::Stop);
        let workloads = self.vms.names().iter().map(stop).collect();
        let desired = Desired {
            chain_time_ms: self.shared.chain_now_ms(),
            workloads,
        };
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline && !self.vms.taken().is_empty() {
            self.heartbeat.turned();
            self.note_outcomes();
            let Ok(observed) = self.vms.observe(self.storage.pool(), 0) else {
                break;
            };
            self.vms.carry_out(reconcile::plan(&desired, &observed, uptime()));
            tokio::time::sleep(DISK_PAUSE).await;
        }
        // They have had their time; nothing more can be done for them.
        self.vms.stop_all().await;
    }
}

/// Whether the monitor and its tools are verified and the kernel is prepared for guests. Both is done once this loop turns, so
/// that it does not make the boot longer.
fn can_guests_run() -> bool {
    let is_there = |path: &str| Path::new(path).exists();
    is_there(PROGRAMS_VERIFIED) && (is_there(GUESTS_MODULES_LOADED) || uptime() > GUESTS_PATIENCE)
}

fn hex(hash: &reconcile::ImageHash) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

fn announce(action: &reconcile::Action) {
    match action {
        reconcile::Action::StartVm(workload) => say(&format!("starting the workload {}", workload.spec.id)),
        reconcile::Action::DeleteData(id) => say(&format!("deleting the data of {id}: its contract ended a day ago")),
        _ => {}
    }
}

/// Whether the guests' network has the rules that it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    InForce,
    Missing,
}
