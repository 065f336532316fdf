//! What `guest-init` is told and what it answers.
//!
//! The configuration reaches the guest as a read-only disk with the serial [`CONFIG_SERIAL`]: [`CONFIG_MAGIC`], the length
//! of the JSON as a little-endian `u32`, the JSON of [`Config`], zeros up to a multiple of 512 bytes. It lives in the
//! agent's and the guest's memory only, for it holds the workload's secrets.

use serde::{Deserialize, Serialize};

/// Serial of the disk that carries [`Config`].
pub const CONFIG_SERIAL: &str = "zos-config";
/// First bytes of the configuration disk.
pub const CONFIG_MAGIC: [u8; 8] = *b"ZOSGCFG1";
/// Longest JSON on the configuration disk, in bytes.
pub const MAX_CONFIG: usize = 256 * 1024;
/// Serial of the read-only disk with the image's root file system (squashfs).
pub const ROOT_SERIAL: &str = "zos-root";
/// Vsock port on which `guest-init` answers [`Request`]s.
pub const PORT: u32 = 1024;
/// Bytes of the workload's output that `guest-init` keeps.
pub const LOG_BYTES: usize = 256 * 1024;
/// Most bytes of output in one [`Answer::Log`].
pub const LOG_CHUNK: usize = 64 * 1024;
/// Where a program is looked for when neither the image nor the workload says.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a micro-VM is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Host name inside the guest.
    pub hostname: String,
    /// The workload's process.
    pub process: Process,
    /// The only interface, `eth0`. Absent: no network.
    pub network: Option<Network>,
    /// Writable disks, formatted ext4 by the node before first use.
    pub volumes: Vec<Volume>,
}

/// The workload's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Program and arguments; the program is looked up in `PATH` of `env` when it has no slash.
    pub argv: Vec<String>,
    /// Environment, name and value.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Static address configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The guest's IPv4 address.
    pub address: std::net::Ipv4Addr,
    /// Length of the network prefix in bits.
    pub prefix: u8,
    /// Default gateway.
    pub gateway: std::net::Ipv4Addr,
    /// Name servers for `/etc/resolv.conf`.
    pub dns: Vec<std::net::Ipv4Addr>,
    /// Largest packet in bytes.
    pub mtu: u16,
}

/// A writable disk and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Serial of the disk.
    pub serial: String,
    /// Absolute path inside the guest. What the image has there is copied in when the volume is empty.
    pub mount: String,
}

/// A question to `guest-init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// How the workload is.
    Status,
    /// Output of the workload from byte `from`, counted since the guest started.
    Log {
        /// Offset of the first wanted byte.
        from: u64,
    },
    /// Stop the workload (SIGTERM, then SIGKILL after 10 s), unmount, power off.
    Shutdown,
}

/// The answer of `guest-init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Answer to [`Request::Status`].
    Status {
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
        /// The workload's process.
        workload: Workload,
    },
    /// Answer to [`Request::Log`].
    Log {
        /// Offset of the first byte in `bytes`; larger than asked where older output was dropped.
        from: u64,
        /// Output, at most [`LOG_CHUNK`] bytes, as it was written.
        bytes: Vec<u8>,
    },
    /// The request was accepted.
    Done,
}

/// State of the workload's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Workload {
    /// It runs.
    Running {
        /// Times it was started before this one.
        restarts: u32,
    },
    /// It ended and is started again after a pause.
    BackingOff {
        /// Times it was started so far.
        restarts: u32,
        /// Exit code, or 128 plus the signal.
        code: i32,
    },
    /// It cannot be started, with one line that says why.
    Failed {
        /// The reason.
        reason: String,
    },
}
