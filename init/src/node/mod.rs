//! The node's PID 1.
//!
//! Boot, in this order: mounts; the machine's memory; the image's manifest; modules for the devices that are there (in
//! the background, each verified as it is loaded) beside the check of everything that runs; settings; services, which do
//! not wait for the devices. Then the event loop ([`running`]) for as long as the machine is on.

pub mod control;
pub mod devices;
pub mod modprobe;
pub mod running;
pub mod services;
pub mod supervisor;
pub mod watchdog;

use std::{fs, path::Path, sync::Arc};

use nix::sys::eventfd::{EfdFlags, EventFd};
use node_api::{image::MIN_MEMORY_MIB, init::PROGRAMS_VERIFIED};

use crate::{
    background, cgroup, console, ending, link,
    mounts::{self, NODE},
    sys, sysctl,
    verify::{Image, Stage},
};
use running::{Findings, Node};
use services::Service;

/// Part of the memory, in percent, that firmware and kernel may keep from what the machine's maker states.
const RESERVED_PERCENT: u64 = 12;

/// Something without which the machine cannot be used.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error("prepare {what}")]
    Prepare {
        what: &'static str,
        #[source]
        cause: std::io::Error,
    },
}

/// Runs the machine until it ends.
pub fn run() -> ! {
    sys::keep_heap_small();
    ending::restart_on_panic();
    let mounted = mounts::apply(NODE, Path::new("/"));
    console::open("init");
    match mounted.map_err(BootError::from).and_then(|()| boot()) {
        Ok((node, services)) => node.run(&services),
        Err(error) => ending::fatal(&error_line::with_causes(&error)),
    }
}

/// Returns the machine that is to run, and its services.
fn boot() -> Result<(Node, Vec<Service>), BootError> {
    console::say("mounts");
    refuse_too_little_memory();
    let image = match Image::open(Path::new("/")) {
        Ok(image) => Arc::new(image),
        Err(damage) => ending::refuse(&error_line::with_causes(&damage)),
    };
    let prepare = |what| move |cause: std::io::Error| BootError::Prepare { what, cause };
    let (findings, inbox) = Findings::new().map_err(prepare("findings"))?;
    let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
    let ready = Arc::new(ready.map_err(|error| prepare("sign of readiness")(error.into()))?);
    let node = Node::new(inbox, Arc::clone(&ready)).map_err(prepare("event loop"))?;
    devices::load_in_background(Arc::clone(&image), ready, findings.clone()).map_err(prepare("device thread"))?;
    match image.check(Stage::Start) {
        Ok(files) => console::say(&format!("image verified ({files} files)")),
        Err(damage) => ending::refuse(&error_line::with_causes(&damage)),
    }
    configure();
    let services = services::of_image(|path| image.lists(path));
    check_rest_when_idle(image, findings).map_err(prepare("image thread"))?;
    Ok((node, services))
}

/// Says so and powers off when the machine has less memory than a node needs. This comes before the image is checked:
/// an image that did not fit would look damaged.
fn refuse_too_little_memory() {
    let information = rustix::system::sysinfo();
    let total = information.totalram.saturating_mul(u64::from(information.mem_unit)) / (1024 * 1024);
    if !is_enough_memory(total) {
        ending::refuse(&format!(
            "too little memory: {total} MiB usable, and a node needs a machine with {MIN_MEMORY_MIB} MiB; add memory"
        ));
    }
}

const fn is_enough_memory(usable_mib: u64) -> bool {
    usable_mib * 100 >= MIN_MEMORY_MIB * (100 - RESERVED_PERCENT)
}

/// What the kernel is told. A setting that it refuses is said, and the boot goes on.
fn configure() {
    for refused in sysctl::apply(sysctl::NODE, Path::new("/proc/sys")) {
        console::say(&refused);
    }
    if let Err(error) = rustix::system::sethostname(b"zos") {
        console::say_error("set host name", &error);
    }
    if let Err(error) = link::up("lo", None) {
        console::say_error("loopback", &error);
    }
    if let Err(error) = cgroup::make_tree(Path::new(cgroup::ROOT)) {
        console::say_error("make cgroups", &error);
    }
    let mut byte = [0_u8];
    if rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK).is_err() {
        console::say("entropy: the kernel has too little yet; whoever needs some waits for it");
    }
}

/// Hashes what no service needed to start, when nobody else wants the processor.
fn check_rest_when_idle(image: Arc<Image>, findings: Findings) -> std::io::Result<()> {
    background::start("image", move || {
        sys::run_when_idle();
        let programs = image.check(Stage::Programs).inspect(|_| mark(PROGRAMS_VERIFIED));
        match programs.and_then(|programs| Ok(programs + image.check(Stage::Rest)?)) {
            Ok(files) => console::say(&format!("whole image verified ({files} files)")),
            Err(damage) => findings.send(damage),
        }
        drop(image);
        sys::trim_heap();
    })
}

/// Makes an empty file for whoever waits for it.
fn mark(path: &str) {
    if let Err(error) = fs::write(path, "") {
        console::say_error(&format!("make {path}"), &error);
    }
}

/// The kernel's command line; empty when it cannot be read.
pub(crate) fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_the_least_size_passes_with_what_its_firmware_keeps() {
        assert!(is_enough_memory(MIN_MEMORY_MIB * 90 / 100));
        assert!(!is_enough_memory(MIN_MEMORY_MIB * 80 / 100));
        assert!(!is_enough_memory(480));
    }
}
