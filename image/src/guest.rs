//! The initial root of a micro-VM: guest-init and the modules that a guest's few devices need.

use std::fs;

use anyhow::{Context, Result};

use node_api::image::GUEST_MODULES;

use crate::cpio::Tree;
use crate::modules::{Index, Selection};
use crate::sources::KernelTree;

/// Modules of a guest. All are loaded at once, for a guest has all of these devices.
const MODULES: [&str; 13] = [
    "virtio",
    "virtio_ring",
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "vmw_vsock_virtio_transport",
    "virtio_rng",
    "virtio_balloon",
    "crc32c_generic",
    "ext4",
    "squashfs",
    "overlay",
    "button",
];

/// The guest's initial root as an archive, not compressed: its kernel unpacks it in the least time so, and inside the
/// node's image it is compressed with the rest.
///
/// # Errors
/// If a module is missing.
pub fn initramfs(guest_init: &[u8], kernel: &KernelTree) -> Result<Vec<u8>> {
    let index = Index::load(&kernel.modules)?;
    let selection = index.select(MODULES.into_iter())?;
    let mut tree = Tree::new();
    for directory in ["/dev", "/proc", "/sys", "/run", "/mnt", "/tmp"] {
        tree.directory(directory, 0o755)?;
    }
    tree.add_file("/init", 0o755, guest_init.to_vec())?;
    tree.add_file(GUEST_MODULES, 0o444, list(&selection).into_bytes())?;
    for name in &selection {
        let path = index.path(name).with_context(|| format!("module {name}"))?;
        let path = kernel.modules.join(path);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        tree.add_file(&place(name), 0o444, bytes)?;
    }
    tree.to_cpio()
}

fn list(selection: &Selection) -> String {
    selection
        .iter()
        .fold(String::new(), |text, name| text + &place(name) + "\n")
}

fn place(module: &str) -> String {
    format!("/lib/modules/{module}.ko")
}
