//! The short list of programs in an image (invariant 1), and Debian's among them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::Flavour;
use crate::cpio::{Node, Tree};
use crate::elf;

/// Path in the image and below the unpacked packages, of Debian's programs that the agent starts: it formats its disks
/// and its guests' volumes with the first two and sets its packet filter with the third. None of them listens, reads a
/// script or starts another program.
pub const DEBIAN: [(&str, &str); 3] = [
    ("/sbin/mkfs.xfs", "sbin/mkfs.xfs"),
    ("/sbin/mke2fs", "sbin/mke2fs"),
    ("/sbin/nft", "usr/sbin/nft"),
];

/// The dynamic loader, for Debian's programs; ours are static.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
pub use node_api::image::TEST_AGENT;

/// All programs of an image, sorted. An image with one more or one fewer is not built.
#[must_use]
pub fn expected(flavour: Flavour) -> Vec<&'static str> {
    let mut programs = vec!["/init", node_api::image::AGENT, node_api::image::VMM, LOADER];
    programs.extend(DEBIAN.map(|(path, _)| path));
    if flavour == Flavour::Test {
        programs.push(TEST_AGENT);
    }
    programs.sort_unstable();
    programs
}

/// The programs that are in `tree`, sorted: whatever is an ELF program, begins with `#!`, or may be executed and is no
/// library.
#[must_use]
pub fn present(tree: &Tree) -> Vec<&str> {
    let mut programs = Vec::new();
    for (path, node) in tree.nodes() {
        let Node::File { mode, bytes } = node else {
            continue;
        };
        let library = path.starts_with("/lib/x86_64-linux-gnu/");
        if elf::is_program(bytes) && !library || bytes.starts_with(b"#!") || mode & 0o111 != 0 && !library {
            programs.push(path.as_str());
        }
    }
    programs
}

/// Adds Debian's programs, and the libraries that they need, from the packages unpacked at `root`.
///
/// # Errors
/// If one is missing.
pub fn add_debian(tree: &mut Tree, root: &Path) -> Result<()> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut programs = Vec::new();
    for (path, source) in DEBIAN {
        let source = root.join(source);
        tree.add_file(path, 0o755, read(&source)?)?;
        programs.push(source);
    }
    for (path, source) in elf::closure(root, &programs)? {
        tree.add_file(&path, 0o755, read(&source)?)?;
    }
    // What mke2fs makes by default is said here; without it, it falls back to ext2.
    tree.add_file("/etc/mke2fs.conf", 0o644, read(&root.join("etc/mke2fs.conf"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_names_neither_shell_nor_login_nor_daemon() {
        for flavour in [Flavour::Release, Flavour::Test] {
            for program in expected(flavour) {
                let name = program.rsplit('/').next().unwrap();
                assert!(
                    ![
                        "sh", "bash", "dash", "busybox", "login", "agetty", "sshd", "perl", "python3"
                    ]
                    .contains(&name)
                );
            }
        }
    }

    #[test]
    fn test_agent_is_in_the_test_flavour_alone() {
        assert!(!expected(Flavour::Release).contains(&TEST_AGENT));
        assert!(expected(Flavour::Test).contains(&TEST_AGENT));
    }

    #[test]
    fn scripts_and_whatever_may_be_executed_are_programs() {
        let mut tree = Tree::new();
        tree.add_file("/etc/rc", 0o644, b"#!/bin/sh".to_vec()).unwrap();
        tree.add_file("/etc/odd", 0o755, b"text".to_vec()).unwrap();
        tree.add_file("/etc/plain", 0o644, b"text".to_vec()).unwrap();
        tree.add_file("/lib/x86_64-linux-gnu/libc.so.6", 0o755, b"library".to_vec())
            .unwrap();
        assert_eq!(present(&tree), ["/etc/odd", "/etc/rc"]);
    }
}
