//! The initial root of a node: all of its userland.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use node_api::image::{AGENT, GUEST_INITRD, GUEST_KERNEL, GUESTS_MODULES, MODULES, NODE_MODULES, VMM};

use crate::build::Flavour;
use crate::cpio::Tree;
use crate::drivers::Drivers;
use crate::modules::Index;
use crate::sources::KernelTree;
use crate::{executables, manifest};

/// Suffix of a module's file in the image.
const MODULE_SUFFIX: &str = "ko.zst";
/// Mount points and directories that programs expect, with their modes.
const DIRECTORIES: [(&str, u32); 12] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/run", 0o755),
    ("/tmp", 0o1777),
    ("/mnt", 0o755),
    ("/data", 0o755),
    ("/var", 0o755),
    ("/var/empty", 0o555),
    ("/root", 0o700),
    ("/etc", 0o755),
    ("/etc/zos", 0o755),
];

/// How hard to compress: zstd levels for single files and for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    /// For kernel modules and the guest's kernel, each on its own.
    pub files: i32,
    /// For the archive.
    pub archive: i32,
}

impl Levels {
    /// Small, whatever time it takes.
    pub const RELEASE: Self = Self { files: 19, archive: 19 };
    /// Quick to make.
    pub const DEV: Self = Self { files: 6, archive: 3 };
}

/// What a node's initial root is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Path and contents of our own programs.
    pub programs: Vec<(&'static str, Vec<u8>)>,
    /// Root of Debian's unpacked tools.
    pub tools: &'a std::path::Path,
    /// The node's kernel.
    pub kernel: &'a KernelTree,
    /// The guest's kernel, an ELF file.
    pub guest_kernel: Vec<u8>,
    /// The guest's initial root, an archive.
    pub guest_initramfs: Vec<u8>,
}

/// Our programs with the paths at which they are in the image.
#[must_use]
pub fn programs(init: Vec<u8>, agent: Vec<u8>, vmm: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
    vec![("/init", init), (AGENT, agent), (VMM, vmm)]
}

/// Puts the tree together, adds its manifest and checks it against the list of programs.
///
/// # Errors
/// If a part is missing, or a program is in the tree that should not be.
pub fn tree(parts: Parts<'_>, levels: Levels, flavour: Flavour) -> Result<Tree> {
    let mut tree = Tree::new();
    for (path, mode) in DIRECTORIES {
        tree.directory(path, mode)?;
    }
    for (path, bytes) in parts.programs {
        tree.add_file(path, 0o755, bytes)?;
    }
    executables::add_debian(&mut tree, parts.tools)?;
    add_modules(&mut tree, parts.kernel, levels)?;
    tree.add_file(GUEST_KERNEL, 0o444, compress(&parts.guest_kernel, levels.files)?)?;
    tree.add_file(GUEST_INITRD, 0o444, parts.guest_initramfs)?;
    let (present, expected) = (executables::present(&tree), executables::expected(flavour));
    ensure!(
        present == expected,
        "the image's programs are {present:?}, expected {expected:?}"
    );
    manifest::add(&mut tree)?;
    Ok(tree)
}

fn add_modules(tree: &mut Tree, kernel: &KernelTree, levels: Levels) -> Result<()> {
    let drivers = Drivers::read()?;
    let index = Index::load(&kernel.modules)?;
    let selection = index.select(drivers.names())?;
    for name in &selection {
        let path = index.path(name).with_context(|| format!("module {name}"))?;
        let path = kernel.modules.join(path);
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let packed = compress(&bytes, levels.files)?;
        tree.add_file(&format!("{MODULES}/{name}.{MODULE_SUFFIX}"), 0o444, packed)?;
    }
    for (file, text) in [
        ("modules.dep", index.dep_list(&selection, MODULE_SUFFIX)),
        ("modules.alias", index.alias_list(&selection)),
        ("modules.softdep", index.softdep_list(&selection)),
    ] {
        tree.add_file(&format!("{MODULES}/{file}"), 0o444, text.into_bytes())?;
    }
    for (file, group) in [(NODE_MODULES, &drivers.node), (GUESTS_MODULES, &drivers.guests)] {
        let names = group
            .modules
            .iter()
            .fold(String::new(), |text, name| text + name + "\n");
        tree.add_file(file, 0o444, names.into_bytes())?;
    }
    Ok(())
}

/// Compresses `bytes` into one zstd frame that states its size and carries a checksum. The same bytes, level and
/// version of zstd give the same frame.
///
/// # Errors
/// If zstd runs out of memory.
pub fn compress(bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).context("start zstd")?;
    encoder.include_checksum(true).context("set up zstd")?;
    encoder
        .set_pledged_src_size(Some(u64::try_from(bytes.len())?))
        .context("set up zstd")?;
    encoder.write_all(bytes).context("compress")?;
    encoder.finish().context("compress")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_frame_is_the_same_each_time_and_unpacks() {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let frame = compress(&bytes, 6).unwrap();
        assert_eq!(frame, compress(&bytes, 6).unwrap());
        assert!(zstd::decode_all(&frame[..]).unwrap() == bytes);
    }
}
