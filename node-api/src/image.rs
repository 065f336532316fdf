//! Files of the node image that its builder writes and its programs read.

use serde::{Deserialize, Serialize};

pub use crate::manifest::{Entry, Manifest, ManifestError};

/// The manifest: a line a file, `<blake3 hex> <mode octal> <size> <path>`, sorted by path, then one line
/// `manifest <blake3 hex of all lines before>`. Symbolic links are lines `link <target> <path>` in the same order. Read and
/// written by [`Manifest`].
pub const MANIFEST: &str = "/etc/zos/manifest";
/// Modules that the node itself needs whatever its devices are, and that drive none; one name a line, `#` begins a comment.
pub const NODE_MODULES: &str = "/etc/zos/modules/node";
/// Modules that guests need, loaded once the node is ready; the same form.
pub const GUESTS_MODULES: &str = "/etc/zos/modules/guests";
/// Directory of kernel modules, `<name>.ko.zst` each, with `modules.alias`, `modules.dep` and `modules.softdep` beside
/// them in the formats of depmod.
pub const MODULES: &str = "/lib/modules";
/// The node agent.
pub const AGENT: &str = "/bin/zos-agent";
/// The micro-VM monitor.
pub const VMM: &str = "/bin/vmm";
/// The agent that causes faults from within, for scenarios; in the test flavour of the image alone.
pub const TEST_AGENT: &str = "/bin/zos-test-agent";
/// Guest kernel: an ELF `vmlinux`, zstd-compressed.
pub const GUEST_KERNEL: &str = "/lib/guest/vmlinux.zst";
/// Guest initial ram file system, an uncompressed cpio.
pub const GUEST_INITRD: &str = "/lib/guest/initrd.cpio";
/// Inside the guest's initial ram file system: the modules that `guest-init` loads, in order, the path of a `.ko` file a line.
pub const GUEST_MODULES: &str = "/etc/modules";
/// What a farm adds to the image, unpacked by the kernel from a second initramfs. Absent in the plain image.
pub const FARM_MEDIA: &str = "/etc/zos/farm.json";
/// Least memory of a node in MiB.
pub const MIN_MEMORY_MIB: u64 = 1024;

/// What a farm's boot media say: which chain, whom to ask first, and the right to join the farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmMedia {
    /// Hash of the chain's genesis, 64 hexadecimal digits.
    pub genesis: String,
    /// Peers to ask first, `<link key hex>@<ip>:<port>` each.
    pub peers: Vec<String>,
    /// The farm's id, 64 hexadecimal digits.
    pub farm: String,
    /// Seed of the enrolment key, 64 hexadecimal digits. Secret: whoever has it may join nodes within the farm's limits.
    pub enrolment_seed: String,
}
