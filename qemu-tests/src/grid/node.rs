//! A node: the image with the farm's media, in QEMU.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Bot;
use crate::config::{Bus, Config, Disk, Firmware, Protocol};
use crate::faults::Faults;
use crate::machine::Machine;
use crate::media::iso_with_arguments;
use crate::ports::free_udp_port;

/// Port of a node's peer link.
pub const LINK: u16 = 7770;
/// From power-on to init; far more than that takes on a busy computer without virtualization.
const BOOT: Duration = Duration::from_secs(180);
/// From init to the next thing that the node says by itself.
const STEP: Duration = Duration::from_secs(180);
/// Memory in MiB.
const MEMORY: u32 = 2048;
/// Its empty disk, in its directory.
const DISK: &str = "disk.img";

/// How a node is made.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name, and its directory's in the grid's.
    pub name: String,
    /// The image, without a farm's media.
    pub iso: PathBuf,
    /// What its kernel's command line has besides the image's.
    pub arguments: Vec<String>,
    /// By what it boots.
    pub firmware: Firmware,
    /// Disks besides the empty one.
    pub disks: Vec<Disk>,
    /// Size in bytes of its empty disk; 0 means none.
    pub disk_bytes: u64,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Whether its image is of the test flavour, with an agent that causes faults.
    pub faults: bool,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
}

impl NodeOptions {
    /// A node that boots `iso` by BIOS, with an empty disk.
    #[must_use]
    pub fn new(name: &str, iso: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            iso,
            arguments: Vec::new(),
            firmware: Firmware::Bios,
            disks: Vec::new(),
            disk_bytes: 3 << 30,
            memory_mib: MEMORY,
            faults: false,
            extra: Vec::new(),
        }
    }
}

/// A running node. Dropping it cuts its power.
#[derive(Debug)]
pub struct Node {
    /// Its machine.
    pub machine: Machine,
    config: Config,
    directory: PathBuf,
}

/// A node whose power was cut.
#[derive(Debug)]
pub struct NodeWithoutPower {
    config: Config,
    directory: PathBuf,
}

impl NodeWithoutPower {
    /// Switches it on again.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn switch_on(self) -> Result<Node> {
        Ok(Node {
            machine: Machine::start(&self.config, &self.directory)?,
            config: self.config,
            directory: self.directory,
        })
    }
}

impl Node {
    /// Boots a node of the only farm of `farmer`, its files below `grid`; it asks `peer` for the chain.
    pub(super) fn boot(grid: &Path, farmer: &Bot, peer: &str, options: &NodeOptions) -> Result<Self> {
        let directory = grid.join(&options.name);
        std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let link = free_udp_port().context("find a port for a node")?;
        let iso = directory.join("zos.iso");
        let advertise = format!("zos.advertise=127.0.0.1:{link}");
        let arguments: Vec<&str> = options
            .arguments
            .iter()
            .map(String::as_str)
            .chain([&*advertise])
            .collect();
        iso_with_arguments(&options.iso, &arguments, &iso)?;
        farmer.write_media(peer, &directory.join("media.json"), &iso)?;
        let mut config = Config::iso(iso, options.firmware)
            .memory_mib(options.memory_mib)
            .forward(Protocol::Udp, link, LINK);
        config.faults = options.faults;
        config.disks.clone_from(&options.disks);
        config.extra.clone_from(&options.extra);
        if options.disk_bytes > 0 {
            let disk = directory.join(DISK);
            let made = File::create(&disk).and_then(|file| file.set_len(options.disk_bytes));
            made.with_context(|| format!("make {}", disk.display()))?;
            // A virtio disk calls itself a rotating one.
            config = config.disk(Disk {
                bus: Bus::Nvme,
                ..Disk::file(disk, "data-1")
            });
        }
        Ok(Self {
            machine: Machine::start(&config, &directory)?,
            config,
            directory,
        })
    }

    /// Cuts its power and switches it on again.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn restart(self) -> Result<Self> {
        self.cut_power().switch_on()
    }

    /// Cuts its power.
    #[must_use]
    pub fn cut_power(self) -> NodeWithoutPower {
        self.machine.cut_power();
        NodeWithoutPower {
            config: self.config,
            directory: self.directory,
        }
    }

    /// The agent that causes faults in it.
    ///
    /// # Errors
    /// If the node was made without one.
    pub fn faults(&mut self) -> Result<&mut Faults> {
        self.machine.faults.as_mut().context("the node has no test agent")
    }

    /// Where its peer link is on this computer.
    #[must_use]
    pub fn link(&self) -> SocketAddrV4 {
        let forwarded = self.config.forwards.iter().find(|forward| forward.machine == LINK);
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, forwarded.map_or(0, |forward| forward.host))
    }

    /// Destroys it: its power is cut, and its own disk is gone with all that was on it.
    ///
    /// # Errors
    /// If it has no such disk.
    pub fn destroy(self) -> Result<()> {
        self.machine.cut_power();
        let disk = self.directory.join(DISK);
        std::fs::remove_file(&disk).with_context(|| format!("destroy {}", disk.display()))
    }

    /// Waits until the agent is started.
    ///
    /// # Errors
    /// If it is not within three minutes.
    pub fn wait_until_booted(&mut self) -> Result<()> {
        self.machine.console.wait_for("init: agent started", BOOT).map(drop)
    }

    /// Waits until the node has an identity, and returns its id.
    ///
    /// # Errors
    /// If it has none within three minutes.
    pub fn wait_for_identity(&mut self) -> Result<String> {
        self.say("identity ")
    }

    /// Waits until the node has verified the chain.
    ///
    /// # Errors
    /// If it has not within three minutes.
    pub fn wait_for_chain(&mut self) -> Result<()> {
        self.say("chain verified from its genesis").map(drop)
    }

    /// Waits until the node is registered, and returns what it offers.
    ///
    /// # Errors
    /// If it is not within three minutes.
    pub fn wait_until_registered(&mut self) -> Result<String> {
        let said = self.say("registered as node ")?;
        Ok(said
            .split_once(": ")
            .map_or(said.clone(), |(_, capacity)| capacity.to_owned()))
    }

    /// Waits until somebody in the machine says a line that has `text` in it.
    ///
    /// # Errors
    /// If nobody does within three minutes.
    pub fn hear(&mut self, text: &str) -> Result<String> {
        self.machine.console.wait_for(text, STEP)
    }

    /// Waits until the agent says a line that begins with `text`, and returns the rest of it.
    ///
    /// # Errors
    /// If it does not within three minutes.
    pub fn say(&mut self, text: &str) -> Result<String> {
        let wanted = format!("agent: {text}");
        let line = self.machine.console.wait_for(&wanted, STEP)?;
        let rest = line.split_once(&wanted).map_or("", |(_, rest)| rest);
        Ok(rest.to_owned())
    }
}
