//! The micro-VM's PID 1.
//!
//! Boot, in this order: mounts; the modules that `/etc/modules` lists; the configuration disk; the image as the lower and
//! memory as the upper layer of the new root; switch to it; network; volumes; the workload. Then the event loop
//! ([`running`]) for as long as the guest is on. Any failure before the workload is said on the console and the guest
//! starts again after a pause; the node's agent sees that and backs off.

pub mod disks;
pub mod fill;
pub mod root;
pub mod running;
pub mod server;
pub mod volumes;
pub mod workload;

use std::{ffi::CString, fs, io, path::Path};

use node_api::{
    guest::{Config, Network},
    image::GUEST_MODULES,
};

use crate::{
    console, ending, link,
    mounts::{self, GUEST_EARLY},
    sys,
};

/// The only network interface.
const INTERFACE: &str = "eth0";

/// Why a guest cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A required file system cannot be mounted.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// A disk is missing or cannot be read.
    #[error(transparent)]
    Disk(#[from] disks::DiskError),
    /// The new root cannot be made.
    #[error(transparent)]
    Root(#[from] root::RootError),
    /// A volume cannot be used.
    #[error(transparent)]
    Volume(#[from] volumes::VolumeError),
    /// The network cannot be configured.
    #[error("configure network")]
    Network(#[from] link::LinkError),
    /// Something the event loop needs is missing.
    #[error("prepare {what}")]
    Prepare {
        /// What it is.
        what: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

/// Runs the guest until it ends.
pub fn run() -> ! {
    sys::keep_heap_small();
    ending::restart_on_panic();
    let mounted = mounts::apply(GUEST_EARLY, Path::new("/"));
    console::open("guest-init");
    match mounted.map_err(GuestError::from).and_then(|()| boot()) {
        Ok(guest) => guest.run(),
        Err(error) => ending::fatal(&error_line::with_causes(&error)),
    }
}

fn boot() -> Result<running::Guest, GuestError> {
    console::say("mounts");
    load_modules();
    let config = disks::read_config()?;
    root::switch(&config)?;
    console::say("root mounted");
    if let Err(error) = rustix::system::sethostname(config.hostname.as_bytes()) {
        console::say_error("set host name", &error);
    }
    link::up("lo", None)?;
    config.network.as_ref().map_or(Ok(()), configure)?;
    volumes::mount_all(&config.volumes)?;
    let Config { process, .. } = config;
    running::Guest::new(process).map_err(|cause| GuestError::Prepare {
        what: "event loop",
        cause,
    })
}

/// Loads what the list names. A module that the machine has no device for costs nothing; one that is needed is missed
/// soon enough, with the reason already on the console.
fn load_modules() {
    let list = fs::read_to_string(GUEST_MODULES).unwrap_or_default();
    let mut loaded = 0_usize;
    for path in list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match load_module(path) {
            Ok(()) => loaded += 1,
            Err(error) => console::say_error(&format!("load module {path}"), &error),
        }
    }
    console::say(&format!("modules loaded ({loaded})"));
}

fn load_module(path: &str) -> io::Result<()> {
    let file = fs::File::open(path)?;
    match rustix::system::finit_module(&file, &CString::default(), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn configure(network: &Network) -> Result<(), link::LinkError> {
    link::add_address(INTERFACE, network.address, network.prefix)?;
    link::up(INTERFACE, Some(network.mtu))?;
    link::add_default_route(INTERFACE, network.gateway)
}
