//! What `zos-agent` tells `init`, over a unix stream socket on which `init` answers the agent's process alone.

use serde::{Deserialize, Serialize};

/// Path of the socket, made by `init` before the agent starts.
pub const SOCKET: &str = "/run/init.sock";
/// The agent must say [`Request::Alive`] at least this often, in milliseconds, or `init` stops feeding the hardware
/// watchdog and restarts the agent.
pub const LIVENESS_MS: u64 = 30_000;

/// An empty file that `init` makes once the disks and network interfaces that were there at boot have their modules. The
/// agent starts before: they appear while it runs. What guests and other devices need is loaded after [`Request::Ready`].
pub const MODULES_LOADED: &str = "/run/modules-loaded";

/// An empty file that `init` makes once the image's programs match the manifest. It checks the agent itself before it starts
/// it; the agent starts none of the others before this file is there.
pub const PROGRAMS_VERIFIED: &str = "/run/programs-verified";

/// An empty file that `init` makes once the modules that guests need are loaded.
pub const GUESTS_MODULES_LOADED: &str = "/run/guests-modules-loaded";

/// A message of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// The agent's reconcile loop has turned once more. Says nothing of the chain: an outage must not stop guests.
    Alive,
    /// The agent is ready: disks scanned, network up, peer link bound, reconcile loop running.
    Ready,
    /// Ordered restart of the machine.
    Reboot,
    /// Ordered shutdown of the machine.
    PowerOff,
}

/// The answer of `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Accepted.
    Done,
    /// Refused, with one line that says why.
    Refused {
        /// The reason.
        reason: String,
    },
}
