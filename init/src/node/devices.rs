//! The thread that loads modules: what the node itself needs first, with the drivers of disks and network; what guests and
//! other devices need once the node is ready; then for devices that come later.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::eventfd::EventFd;
use node_api::{
    image::{GUESTS_MODULES, NODE_MODULES},
    init::{GUESTS_MODULES_LOADED, MODULES_LOADED},
};

use super::{mark, modprobe, running::Findings};
use crate::{
    background, console,
    modules::{
        hotplug::{self, Heard, Hotplug},
        load::{LoadError, Loader, Outcome},
        urgency::is_urgent,
    },
    monotonic::Monotonic,
    sys,
    verify::{Damage, Image},
    wait,
};

const SYS: &str = "/sys";
/// A pause without events after which the devices that are there are taken to be complete.
const SETTLED: Duration = Duration::from_millis(5);
/// Most rounds of loading before the devices are taken to be complete whatever comes.
const MOST_ROUNDS: usize = 32;
/// How long what guests need is held back when the node does not become ready, such as one without a network.
const READY_PATIENCE: Duration = Duration::from_secs(5);

/// Starts the thread. `ready` says that the node is ready.
///
/// # Errors
/// When there can be no thread.
pub fn load_in_background(image: Arc<Image>, ready: Arc<EventFd>, findings: Findings) -> io::Result<()> {
    background::start("devices", move || match run(image, &ready) {
        Ok(()) => {}
        Err(damage) => findings.send(damage),
    })
}

fn run(image: Arc<Image>, ready: &EventFd) -> Result<(), Damage> {
    let devices = Devices::listen(image)?;
    devices.load_urgent()?;
    devices.follow_until_ready(ready)?;
    devices.load_rest()?;
    devices.follow_forever()
}

/// The machine's devices and what they are driven by.
struct Devices {
    /// Absent when the kernel does not say which devices appear.
    hotplug: Option<Hotplug>,
    loader: Loader,
    /// Devices that wait until the node is ready.
    later: Mutex<BTreeSet<String>>,
}

impl Devices {
    fn listen(image: Arc<Image>) -> Result<Self, Damage> {
        // Before anything is looked at, so that no device falls between.
        let hotplug = Hotplug::open()
            .map_err(|error| console::say_error("listen for devices", &error))
            .ok();
        Ok(Self {
            hotplug,
            loader: Loader::open(image, &super::command_line())?,
            later: Mutex::default(),
        })
    }

    /// What the node itself needs, and the drivers of the disks and network interfaces that are there.
    fn load_urgent(&self) -> Result<(), Damage> {
        // A driver's device may be a bus with devices of its own; those are served while other drivers still wait.
        let more = || self.urgent(self.appeared());
        // First and for themselves, or they would share the processor with the drivers of devices that nobody waits for.
        let mut loaded = finish(self.loader.load(self.loader.listed(NODE_MODULES)?, more))?;
        loaded += finish(self.loader.load(self.urgent(hotplug::devices(Path::new(SYS))), more))?;
        for _ in 0..MOST_ROUNDS {
            let Some(added) = self.heard_within(SETTLED) else {
                break;
            };
            loaded += finish(self.loader.load(self.urgent(added), more))?;
        }
        console::say(&format!("modules loaded ({loaded})"));
        // Not before: checksum modules ask for faster variants of theirs while they are loaded, each time in vain.
        if let Err(error) = modprobe::offer() {
            console::say_error("offer modules to the kernel", &error);
        }
        mark(MODULES_LOADED);
        Ok(())
    }

    /// Serves devices that appear until the node is ready, or for [`READY_PATIENCE`].
    fn follow_until_ready(&self, ready: &EventFd) -> Result<(), Damage> {
        let latest = Monotonic::now().plus(READY_PATIENCE);
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![ready.as_fd()];
        descriptors.extend(self.hotplug.as_ref().map(AsFd::as_fd));
        loop {
            let left = latest.since(Monotonic::now());
            let readable = wait::any_readable(&descriptors, left);
            if readable.first() == Some(&true) || left.is_zero() {
                return Ok(());
            }
            self.load_for(&self.appeared())?;
        }
    }

    /// What guests, the processor and devices that could wait need.
    fn load_rest(&self) -> Result<(), Damage> {
        let mut wanted = self.loader.listed(GUESTS_MODULES)?;
        wanted.extend(self.loader.wanted(&hotplug::processor(Path::new(SYS))));
        wanted.extend(self.loader.wanted(&std::mem::take(&mut *self.later())));
        let more = || self.loader.wanted(&self.appeared());
        let loaded = finish(self.loader.load(wanted, more))?;
        console::say(&format!("all modules loaded ({loaded})"));
        mark(GUESTS_MODULES_LOADED);
        sys::trim_heap();
        Ok(())
    }

    fn follow_forever(&self) -> Result<(), Damage> {
        while self.hotplug.is_some() {
            if let Some(added) = self.heard_within(Duration::from_secs(60)) {
                self.load_for(&added)?;
            }
        }
        Ok(())
    }

    /// Loads what devices that have appeared want.
    fn load_for(&self, devices: &BTreeSet<String>) -> Result<(), Damage> {
        let more = || self.loader.wanted(&self.appeared());
        let loaded = finish(self.loader.load(self.loader.wanted(devices), more))?;
        if loaded > 0 {
            console::say(&format!("modules loaded for a new device ({loaded})"));
            sys::trim_heap();
        }
        Ok(())
    }

    /// The modules that the urgent ones of these devices want; the others are kept for later.
    fn urgent(&self, devices: BTreeSet<String>) -> BTreeSet<String> {
        let (urgent, others): (BTreeSet<_>, BTreeSet<_>) = devices.into_iter().partition(|device| is_urgent(device));
        self.later().extend(others);
        self.loader.wanted(&urgent)
    }

    fn later(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Modaliases of devices that have appeared meanwhile.
    fn appeared(&self) -> BTreeSet<String> {
        self.heard_within(Duration::ZERO).unwrap_or_default()
    }

    /// Modaliases of devices that appeared, or `None` when the time passed without any.
    fn heard_within(&self, patience: Duration) -> Option<BTreeSet<String>> {
        let hotplug = self.hotplug.as_ref()?;
        if !wait::readable(hotplug.as_fd(), patience) {
            return None;
        }
        Some(match hotplug.heard() {
            Heard::Devices(added) => added,
            Heard::Lost => hotplug::devices(Path::new(SYS)),
        })
    }
}

/// Says what went wrong. A damaged module refuses the image; any other fault costs its device alone.
fn finish(outcome: Outcome) -> Result<usize, Damage> {
    for error in outcome.errors {
        if error.is_no_device() {
            continue;
        }
        match error {
            LoadError::Damaged(damage) => return Err(damage),
            error => console::say(&error_line::with_causes(&error)),
        }
    }
    Ok(outcome.loaded)
}
