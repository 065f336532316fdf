//! The life of a micro-VM, as seen from the node.
//!
//! The agent opens everything that a monitor needs and starts `vmm` with exactly those descriptors. A monitor is a session of
//! its own and outlives the agent; the next agent finds it by its state file, checks that the process is the one that was
//! started, and goes on.
//!
//! ```text
//! /run/vms/<id>/state.json   pid, start time, slot: written after the start, read by the next agent
//! /run/vms/<id>/control      the monitor's control socket
//! /run/vms/<id>/vsock        the guest's socket device
//! <pool>/vms/<id>/serial.log what the guest's kernel says
//! <pool>/vms/<id>/<name>.raw volumes
//! ```

pub mod config_disk;
pub mod control;
pub mod guest;
pub mod kernel;
pub mod process;
pub mod registry;
pub mod spawn;
mod timed;
pub mod volume;

use std::path::PathBuf;

use ledger::Resources;
use node_api::{guest::Process, vmm};
use serde::{Deserialize, Serialize};

use crate::guest_net::Slot;

/// Where the sockets and states of running monitors are.
pub const RUN: &str = "/run/vms";
/// Where the monitors' cgroups are.
pub const CGROUPS: &str = "/sys/fs/cgroup/vms";
/// Directory of the VMs on a data disk.
pub const ON_POOL: &str = "vms";
/// Longest id of a VM.
pub const MAX_ID: usize = 64;
/// User and group id of the monitor in slot 0. Each slot has its own; no file belongs to it, for everything is opened by the
/// agent.
pub const FIRST_UID: u32 = 1_000_000;

/// Name of a VM: `[a-z0-9-]{1,64}`, which is also the name of its directories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VmId(String);

impl VmId {
    /// Checks a name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let long = !text.is_empty() && text.len() <= MAX_ID;
        (long && text.bytes().all(fine)).then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for VmId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A writable volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Name, unique in the VM: `[a-z0-9-]{1,20}`; the serial of the disk.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Where the guest mounts it.
    pub mount: String,
}

/// What a VM takes of its machine while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Processors.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Size {
    /// The most that these resources allow.
    #[must_use]
    pub fn within(resources: &Resources) -> Self {
        Self {
            vcpus: u8::try_from(resources.cru).unwrap_or(u8::MAX),
            memory_mib: u32::try_from(resources.mru >> 20).unwrap_or(u32::MAX),
        }
    }

    /// Whether this takes more of anything than `other`.
    #[must_use]
    pub const fn exceeds(self, other: Self) -> bool {
        self.vcpus > other.vcpus || self.memory_mib > other.memory_mib
    }
}

/// Whether a VM has an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Networking {
    /// One interface with the internet behind it.
    Internet,
    /// None.
    None,
}

/// What a VM is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmSpec {
    /// Name.
    pub id: VmId,
    /// Processors.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The image's root file system, verified; opened for reading only.
    pub root: PathBuf,
    /// The workload.
    pub process: Process,
    /// Volumes, in the order of their disks.
    pub volumes: Vec<Volume>,
    /// Bytes that the volumes may take together with those of before that are not named any more. More of it makes no other VM.
    #[serde(skip)]
    pub volume_room: u64,
    /// Interface.
    pub networking: Networking,
}

/// A specification that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A number is outside its bounds.
    #[error("{what} of {value}; {least} to {most} wanted")]
    OutOfBounds {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u64,
        /// Lowest allowed.
        least: u64,
        /// Highest allowed.
        most: u64,
    },
    /// A volume's name is not `[a-z0-9-]{1,20}` or is given twice.
    #[error("volume name {0:?} is not allowed or given twice")]
    VolumeName(String),
    /// A volume is mounted at no absolute path.
    #[error("volume {0} is mounted at {1:?}, which is no absolute path")]
    VolumeMount(String, String),
}

/// Least size of a volume, which ext4 with a journal needs, in bytes.
pub const MIN_VOLUME: u64 = 16 << 20;
/// Largest size of a volume, in bytes.
pub const MAX_VOLUME: u64 = 64 << 40;

impl VmSpec {
    /// Checks the numbers and names.
    ///
    /// # Errors
    /// [`SpecError`] for the first that is wrong.
    pub fn check(&self) -> Result<(), SpecError> {
        bounds("processors", self.vcpus.into(), 1, vmm::MAX_VCPUS.into())?;
        bounds(
            "MiB of memory",
            self.memory_mib.into(),
            vmm::MIN_MEMORY_MIB.into(),
            vmm::MAX_MEMORY_MIB.into(),
        )?;
        // Root and configuration take two of the disks.
        let most = u64::try_from(vmm::MAX_DEVICES - 2).unwrap_or(0);
        bounds(
            "volumes",
            u64::try_from(self.volumes.len()).unwrap_or(u64::MAX),
            0,
            most,
        )?;
        let mut names = std::collections::BTreeSet::new();
        for volume in &self.volumes {
            let fine = VmId::new(&volume.name).is_some() && volume.name.len() <= 20;
            let reserved = volume.name.starts_with("zos-");
            if !fine || reserved || !names.insert(&volume.name) {
                return Err(SpecError::VolumeName(volume.name.clone()));
            }
            if !volume.mount.starts_with('/') {
                return Err(SpecError::VolumeMount(volume.name.clone(), volume.mount.clone()));
            }
            bounds("bytes of a volume", volume.bytes, MIN_VOLUME, MAX_VOLUME)?;
        }
        Ok(())
    }

    /// What it takes of the machine.
    #[must_use]
    pub const fn size(&self) -> Size {
        Size {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
        }
    }

    /// Tells this specification from another of the same VM; the state file keeps it, so that a new agent knows whether what
    /// runs is what is wanted.
    #[must_use]
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(self).expect("a specification of plain values is always JSON");
        blake3::hash(&json).to_hex().to_string()
    }

    /// What the guest is told.
    #[must_use]
    pub fn guest_config(&self, slot: Slot) -> node_api::guest::Config {
        node_api::guest::Config {
            hostname: self.id.as_str().to_owned(),
            process: self.process.clone(),
            network: (self.networking == Networking::Internet).then(|| node_api::guest::Network {
                address: slot.guest(),
                prefix: crate::guest_net::GUEST_PREFIX,
                gateway: slot.gateway(),
                dns: vec![slot.gateway()],
                mtu: 1500,
            }),
            volumes: self
                .volumes
                .iter()
                .map(|volume| node_api::guest::Volume {
                    serial: volume.name.clone(),
                    mount: volume.mount.clone(),
                })
                .collect(),
        }
    }
}

fn bounds(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), SpecError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(SpecError::OutOfBounds {
            what,
            value,
            least,
            most,
        })
    }
}

/// User and group id of the monitor in a slot.
#[must_use]
pub fn uid(slot: Slot) -> u32 {
    FIRST_UID + u32::from(slot.number())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec(id: &str) -> VmSpec {
        VmSpec {
            id: VmId::new(id).unwrap(),
            vcpus: 1,
            memory_mib: 128,
            root: "/data/images/x".into(),
            process: Process {
                argv: vec!["/bin/x".to_owned()],
                env: vec![],
                cwd: "/".to_owned(),
                uid: 0,
                gid: 0,
            },
            volumes: vec![Volume {
                name: "data".to_owned(),
                bytes: 64 << 20,
                mount: "/srv".to_owned(),
            }],
            volume_room: 1 << 30,
            networking: Networking::Internet,
        }
    }

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for name in ["", ".", "..", "a/b", "A", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(VmId::new(name), None, "{name}");
        }
        assert!(VmId::new(&"0f-".repeat(21)).is_some());
    }

    #[test]
    fn wrong_numbers_and_volumes_are_refused_by_name() {
        let volume = |name: &str, bytes, mount: &str| Volume {
            name: name.to_owned(),
            bytes,
            mount: mount.to_owned(),
        };
        assert_eq!(spec("a").check(), Ok(()));
        let text = |change: &dyn Fn(&mut VmSpec)| {
            let mut spec = spec("a");
            change(&mut spec);
            spec.check().unwrap_err().to_string()
        };
        assert_eq!(text(&|spec| spec.vcpus = 0), "processors of 0; 1 to 64 wanted");
        assert_eq!(
            text(&|spec| spec.memory_mib = 32),
            "MiB of memory of 32; 64 to 1048576 wanted"
        );
        assert_eq!(
            text(&|spec| spec.volumes[0].bytes = 1),
            "bytes of a volume of 1; 16777216 to 70368744177664 wanted"
        );
        for name in ["zos-root", "../x", "data"] {
            assert!(
                text(&|spec| spec.volumes.push(volume(name, 1 << 30, "/x"))).starts_with("volume name"),
                "{name}"
            );
        }
        assert!(text(&|spec| spec.volumes = vec![volume("a", 1 << 30, "srv")]).contains("no absolute path"));
    }

    #[test]
    fn guest_is_told_its_own_addresses() {
        let config = spec("a").guest_config(Slot::new(1).unwrap());
        let network = config.network.unwrap();
        assert_eq!(
            (network.address.to_string(), network.gateway.to_string()),
            ("100.64.0.6".into(), "100.64.0.5".into())
        );
        assert_eq!(network.dns, [network.gateway]);
        assert_eq!(config.volumes[0].serial, "data");
        let silent = VmSpec {
            networking: Networking::None,
            ..spec("a")
        };
        assert_eq!(silent.guest_config(Slot::new(1).unwrap()).network, None);
    }
}
