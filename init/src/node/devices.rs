//! The thread that loads modules: what the node itself needs first, with the drivers of disks and network; what guests and
//! other devices need once the node is ready; then for devices that come later.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
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
    background::start("devices", move || match load(image, &ready) {
        Ok(()) => {}
        Err(damage) => findings.send(damage),
    })
}

fn load(image: Arc<Image>, ready: &EventFd) -> Result<(), Damage> {
    let hotplug = Hotplug::open()
        .map_err(|error| console::say_error("listen for devices", &error))
        .ok();
    let loader = Loader::open(image, &super::command_line())?;
    // A driver's device may be a bus with devices of its own; those are served while other drivers still wait.
    let appeared = || {
        hotplug
            .as_ref()
            .and_then(|hotplug| heard_within(hotplug, Duration::ZERO))
            .unwrap_or_default()
    };
    let later = Mutex::new(BTreeSet::new());
    let urgent = |devices: BTreeSet<String>| {
        let (urgent, others): (BTreeSet<_>, BTreeSet<_>) = devices.into_iter().partition(|device| is_urgent(device));
        later.lock().unwrap_or_else(PoisonError::into_inner).extend(others);
        loader.wanted(&urgent)
    };
    let more = || urgent(appeared());
    // First and for themselves, or they would share the processor with the drivers of devices that nobody waits for.
    let mut loaded = finish(loader.load(loader.listed(NODE_MODULES)?, more))?;
    loaded += finish(loader.load(urgent(hotplug::devices(Path::new(SYS))), more))?;
    for _ in 0..MOST_ROUNDS {
        let Some(added) = hotplug.as_ref().and_then(|hotplug| heard_within(hotplug, SETTLED)) else {
            break;
        };
        loaded += finish(loader.load(urgent(added), more))?;
    }
    console::say(&format!("modules loaded ({loaded})"));
    // Not before: checksum modules ask for faster variants of theirs while they are loaded, each time in vain.
    if let Err(error) = modprobe::offer() {
        console::say_error("offer modules to the kernel", &error);
    }
    mark(MODULES_LOADED);

    let more = || loader.wanted(&appeared());
    let load_for = |devices: &BTreeSet<String>| -> Result<(), Damage> {
        let loaded = finish(loader.load(loader.wanted(devices), more))?;
        if loaded > 0 {
            console::say(&format!("modules loaded for a new device ({loaded})"));
            sys::trim_heap();
        }
        Ok(())
    };
    let latest = Monotonic::now().plus(READY_PATIENCE);
    while !is_ready_before(ready, hotplug.as_ref(), latest) {
        load_for(&appeared())?;
    }
    let mut rest = loader.listed(GUESTS_MODULES)?;
    rest.extend(loader.wanted(&hotplug::processor(Path::new(SYS))));
    rest.extend(loader.wanted(&later.into_inner().unwrap_or_else(PoisonError::into_inner)));
    let loaded = finish(loader.load(rest, more))?;
    console::say(&format!("all modules loaded ({loaded})"));
    mark(GUESTS_MODULES_LOADED);
    sys::trim_heap();

    let Some(hotplug) = &hotplug else { return Ok(()) };
    loop {
        if let Some(added) = heard_within(hotplug, Duration::from_secs(60)) {
            load_for(&added)?;
        }
    }
}

/// Waits until the node is ready, a device appears, or the time has come; `false` for the device.
fn is_ready_before(ready: &EventFd, hotplug: Option<&Hotplug>, latest: Monotonic) -> bool {
    let left = latest.since(Monotonic::now());
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![ready.as_fd()];
    descriptors.extend(hotplug.map(AsFd::as_fd));
    let readable = wait::any_readable(&descriptors, left);
    readable.first() == Some(&true) || left.is_zero()
}

/// Modaliases of devices that appeared, or `None` when the time passed without any.
fn heard_within(hotplug: &Hotplug, patience: Duration) -> Option<BTreeSet<String>> {
    if !wait::readable(hotplug.as_fd(), patience) {
        return None;
    }
    Some(match hotplug.heard() {
        Heard::Devices(added) => added,
        Heard::Lost => hotplug::devices(Path::new(SYS)),
    })
}

/// Says what went wrong. A damaged module refuses the image; any other fault costs its device alone.
fn finish(outcome: Outcome) -> Result<usize, Damage> {
    for error in outcome.errors {
        if error.is_no_device() {
            continue;
        }
        match error {
            LoadError::Damaged(damage) => return Err(damage),
            error => console::say(&console::chain(&error)),
        }
    }
    Ok(outcome.loaded)
}
