//! The monitor's configuration and its control socket.
//!
//! The agent opens everything first and execs `vmm --config-fd N` with exactly the descriptors named here and standard
//! error. After the jail has closed the monitor can open nothing more, so a disk, a tap queue or a socket that is not in
//! the configuration does not exist for it.

use serde::{Deserialize, Serialize};

/// Highest number of virtual processors of a micro-VM.
pub const MAX_VCPUS: u8 = 64;
/// Least guest memory in MiB that a guest kernel starts in.
pub const MIN_MEMORY_MIB: u32 = 64;
/// Highest guest memory in MiB (1 TiB).
pub const MAX_MEMORY_MIB: u32 = 1024 * 1024;
/// Highest number of disks, and of network interfaces, of a micro-VM.
pub const MAX_DEVICES: usize = 16;

/// What one monitor runs. Every `*_fd` is the number of a descriptor inherited at exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names the micro-VM in logs; `[a-z0-9-]{1,64}`.
    pub id: String,
    /// Virtual processors, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest memory in MiB, [`MIN_MEMORY_MIB`] to [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// Kernel: an uncompressed ELF `vmlinux` with a PVH note.
    pub kernel_fd: i32,
    /// Initial ram file system.
    pub initrd_fd: Option<i32>,
    /// Kernel command line, printable ASCII, at most 2,047 bytes.
    pub command_line: String,
    /// `/dev/kvm`.
    pub kvm_fd: i32,
    /// Block devices, in the order `vda`, `vdb`, …
    pub disks: Vec<Disk>,
    /// Network interfaces, in the order `eth0`, `eth1`, …
    pub networks: Vec<Network>,
    /// Socket device between host and guest.
    pub vsock: Option<Vsock>,
    /// What the guest writes to its first serial port.
    pub serial: Serial,
    /// A listening unix stream socket on which the monitor answers [`ControlRequest`]s.
    pub control_fd: i32,
    /// What closes around the monitor before the first guest instruction. Absent only in tests of the devices.
    pub jail: Option<Jail>,
}

/// A virtio block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A regular file or block device, opened read-write unless `access` is read-only.
    pub fd: i32,
    /// Whether the guest may write.
    pub access: Access,
    /// What the guest reads in `/sys/block/vdX/serial`; at most 20 bytes of printable ASCII.
    pub serial: String,
}

/// Whether a device may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reads only.
    ReadOnly,
    /// Reads and writes; a flush of the guest reaches stable storage before it is answered.
    ReadWrite,
}

/// A virtio network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// A queue of a tap device opened with `IFF_TAP | IFF_NO_PI | IFF_VNET_HDR`.
    pub fd: i32,
    /// The guest's hardware address.
    pub mac: [u8; 6],
}

/// A virtio socket device. Only the host opens connections: a client connects to the listening unix socket, sends
/// `CONNECT <port>\n` and gets `OK <port>\n` once the guest accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context id, 3 or more.
    pub cid: u32,
    /// A listening unix stream socket.
    pub listener_fd: i32,
}

/// Where the guest's console goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// A regular file or a pipe, opened for writing.
    pub fd: i32,
    /// Upper bound of a regular file in bytes; when it is reached the older half is dropped.
    pub limit: u64,
}

/// The identity and the cgroup that the monitor takes on. Everything else of the jail is fixed and not configurable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jail {
    /// User id of this monitor alone; not 0.
    pub uid: u32,
    /// Group id of this monitor alone; not 0.
    pub gid: u32,
    /// `cgroup.procs` of the monitor's cgroup v2 group, opened for writing; the monitor moves itself there first.
    pub cgroup_procs_fd: Option<i32>,
}

/// A question to a running monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum ControlRequest {
    /// How the guest is.
    Status,
    /// Presses the ACPI power button once.
    PowerButton,
    /// Ends the monitor at once, as pulling the plug would.
    Kill,
}

/// The monitor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ControlAnswer {
    /// Answer to [`ControlRequest::Status`].
    Status(Status),
    /// The request was carried out.
    Done,
    /// The request was refused, with one line that says why.
    Refused {
        /// The reason.
        reason: String,
    },
}

/// State of a running monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The configured id.
    pub id: String,
    /// Milliseconds since the first guest instruction.
    pub uptime_ms: u64,
    /// Counters, by a dotted name such as `block.0.flushes`.
    pub metrics: std::collections::BTreeMap<String, u64>,
}

/// Beginning of the line on the monitor's standard error that says how far the kernel's Landlock closes its jail.
pub const LANDLOCK_LINE: &str = "vmm: landlock ";

/// Exit codes of the monitor.
pub mod exit {
    /// The guest powered off by itself or after the power button.
    pub const POWERED_OFF: i32 = 0;
    /// The configuration or a descriptor in it is wrong; standard error has one line that names the field.
    pub const BAD_CONFIG: i32 = 2;
    /// `/dev/kvm` refused what is needed.
    pub const KVM: i32 = 3;
    /// The jail could not be closed.
    pub const JAIL: i32 = 4;
    /// The guest asked for a reset; the agent starts it again.
    pub const RESET: i32 = 5;
    /// The guest did something that its processor cannot do, such as a triple fault.
    pub const GUEST_FAULT: i32 = 6;
    /// A device on the host's side failed, such as a disk that vanished.
    pub const HOST_IO: i32 = 7;
    /// Ended by [`super::ControlRequest::Kill`].
    pub const KILLED: i32 = 8;
    /// A thread made a system call outside its filter; standard error names the call.
    pub const SECCOMP: i32 = 9;
    /// The monitor has met a bug of its own; standard error says where.
    pub const BUG: i32 = 10;
}
