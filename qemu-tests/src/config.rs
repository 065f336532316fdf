//! What a machine is made of.

use std::path::PathBuf;

use crate::Acceleration;

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct Config {
    /// What it boots.
    pub boot: Boot,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub processors: u32,
    /// How they run.
    pub acceleration: Acceleration,
    /// Its disks, in this order.
    pub disks: Vec<Disk>,
    /// Whether it has a network adapter, behind QEMU's own NAT: the host is 10.0.2.2.
    pub network: bool,
    /// Ports of the host's loopback address that lead into the machine.
    pub forwards: Vec<Forward>,
    /// What a reset of the machine by itself does.
    pub on_reset: OnReset,
    /// Whether it has a second serial line, for [`crate::Faults`].
    pub faults: bool,
    /// Further arguments for QEMU.
    pub extra: Vec<String>,
}

/// Where the machine's software comes from.
#[derive(Debug, Clone)]
pub enum Boot {
    /// An ISO, by firmware.
    Iso {
        /// The image.
        path: PathBuf,
        /// The firmware.
        firmware: Firmware,
        /// What the image is written on.
        medium: Medium,
    },
    /// Kernel and initial root, as a network would boot them. [`crate::boot_directly`] makes these of an ISO.
    Direct {
        /// The bzImage.
        kernel: PathBuf,
        /// The initial root, with the farm slot after it if there is one.
        initramfs: PathBuf,
        /// The command line.
        command_line: String,
    },
}

/// A machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, without Secure Boot.
    Uefi,
}

/// What an ISO is written on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// A CD.
    Cd,
    /// A disk, as a stick looks to the firmware.
    Stick,
}

/// A disk.
#[derive(Debug, Clone)]
pub struct Disk {
    /// Its contents.
    pub source: DiskSource,
    /// Its serial number, at most 20 characters.
    pub serial: String,
    /// How it is attached.
    pub bus: Bus,
}

/// A disk's contents.
#[derive(Debug, Clone)]
pub enum DiskSource {
    /// A file with the disk's bytes.
    File(PathBuf),
    /// A server of network block devices, such as `nbd://127.0.0.1:10809/disk` or `nbd+unix:///disk?socket=/tmp/s`.
    Nbd(String),
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk over PCI.
    Virtio,
    /// NVMe.
    Nvme,
    /// A solid-state disk on SATA by AHCI.
    Sata,
}

/// A port that leads into the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of 127.0.0.1 on the host.
    pub host: u16,
    /// Port of the machine.
    pub machine: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a reset of the machine by itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReset {
    /// It boots again.
    Boot,
    /// QEMU ends.
    End,
}

impl Config {
    /// A machine with 2 GiB, two processors, a network and no disk.
    #[must_use]
    pub fn new(boot: Boot) -> Self {
        Self {
            boot,
            memory_mib: 2048,
            processors: 2,
            acceleration: Acceleration::detect(),
            disks: Vec::new(),
            network: true,
            forwards: Vec::new(),
            on_reset: OnReset::Boot,
            faults: false,
            extra: Vec::new(),
        }
    }

    /// A machine that boots the ISO at `path` from a CD.
    #[must_use]
    pub fn iso(path: impl Into<PathBuf>, firmware: Firmware) -> Self {
        Self::new(Boot::Iso {
            path: path.into(),
            firmware,
            medium: Medium::Cd,
        })
    }

    /// The same with one more disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// The same with one more port that leads into it.
    #[must_use]
    pub fn forward(mut self, protocol: Protocol, host: u16, machine: u16) -> Self {
        self.forwards.push(Forward {
            protocol,
            host,
            machine,
        });
        self
    }

    /// The same with this much memory.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }
}

impl Disk {
    /// A virtio disk whose bytes are in the file at `path`.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>, serial: impl Into<String>) -> Self {
        Self {
            source: DiskSource::File(path.into()),
            serial: serial.into(),
            bus: Bus::Virtio,
        }
    }

    /// A virtio disk served as a network block device at `url`.
    #[must_use]
    pub fn nbd(url: impl Into<String>, serial: impl Into<String>) -> Self {
        Self {
            source: DiskSource::Nbd(url.into()),
            serial: serial.into(),
            bus: Bus::Virtio,
        }
    }
}
