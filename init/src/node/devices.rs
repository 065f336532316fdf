//! The thread that loads modules: for the devices that are there, for the list of the image, for devices that come later.

use std::{collections::BTreeSet, io, os::fd::AsFd, path::Path, sync::Arc, time::Duration};

use node_api::init::MODULES_LOADED;

use super::running::{Notice, Notices};
use crate::{
    background, console,
    modules::{
        hotplug::{self, Heard, Hotplug},
        load::{LoadError, Loader, Outcome},
    },
    sys,
    verify::{Damage, Image},
    wait,
};

const SYS: &str = "/sys";
/// A pause without events after which the devices that are there are taken to be complete.
const SETTLED: Duration = Duration::from_millis(5);
/// Most rounds of loading before the devices are taken to be complete whatever comes.
const MOST_ROUNDS: usize = 32;

/// Starts the thread. It sends [`Notice::DevicesReady`] when the devices that were there have their modules.
///
/// # Errors
/// When there can be no thread.
pub fn load_in_background(image: Arc<Image>, notices: Notices) -> io::Result<()> {
    background::start("devices", move || match load(image, &notices) {
        Ok(()) => {}
        Err(damage) => notices.send(Notice::Damaged(damage)),
    })
}

fn load(image: Arc<Image>, notices: &Notices) -> Result<(), Damage> {
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
    let more = || loader.wanted(&appeared());
    let mut loaded = finish(loader.load(loader.wanted(&hotplug::devices(Path::new(SYS))), more))?;
    for _ in 0..MOST_ROUNDS {
        let Some(added) = hotplug.as_ref().and_then(|hotplug| heard_within(hotplug, SETTLED)) else {
            break;
        };
        loaded += finish(loader.load(loader.wanted(&added), more))?;
    }
    console::say(&format!("modules loaded ({loaded})"));
    notices.send(Notice::DevicesReady);

    let mut at_boot = loader.boot_modules()?;
    at_boot.extend(loader.wanted(&hotplug::processor(Path::new(SYS))));
    let loaded = finish(loader.load(at_boot, more))?;
    if let Err(error) = std::fs::write(MODULES_LOADED, "") {
        console::say_error("mark modules as loaded", &error);
    }
    console::say(&format!("boot modules loaded ({loaded})"));
    sys::trim_heap();

    let Some(hotplug) = &hotplug else { return Ok(()) };
    loop {
        if let Some(added) = heard_within(hotplug, Duration::from_secs(60)) {
            let loaded = finish(loader.load(loader.wanted(&added), more))?;
            if loaded > 0 {
                console::say(&format!("modules loaded for a new device ({loaded})"));
                sys::trim_heap();
            }
        }
    }
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
