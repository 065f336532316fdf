//! Damaged images, for the scenarios that must refuse them.

use std::path::Path;

use anyhow::{Context, Result};

use crate::build::Built;
use crate::{iso, iso_read, node, verify};

/// Level for the damaged archive: it is used once.
const LEVEL: i32 = 3;

/// Makes at `out` a copy of the ISO at `sound` in which one byte of the file `path` of the initial root is flipped. The
/// manifest is the sound one's, and the archive is sound as such.
///
/// # Errors
/// If the image cannot be read, has no such file or an empty one, or the copy cannot be made.
pub fn iso(sound: &Path, path: &str, out: &Path) -> Result<()> {
    let built = iso_read::built(sound)?;
    let initramfs = initramfs(&built.initramfs, path)?;
    iso::write(&Built { initramfs, ..built }, out)
}

/// The initial root with one byte in the middle of the file `path` flipped.
///
/// # Errors
/// If it cannot be read, or has no such file or an empty one.
pub fn initramfs(sound: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut tree = verify::unpack(sound)?;
    let mut bytes = tree
        .file(path)
        .with_context(|| format!("the image has no {path}"))?
        .to_vec();
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).with_context(|| format!("{path} is empty"))? ^= 1;
    tree.replace(path, bytes)?;
    node::compress(&tree.to_cpio()?, LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::Tree;
    use crate::manifest;

    #[test]
    fn damage_is_found_and_named() {
        let mut tree = Tree::new();
        tree.add_file("/bin/zos-agent", 0o755, vec![7; 1000]).unwrap();
        manifest::add(&mut tree).unwrap();
        let sound = node::compress(&tree.to_cpio().unwrap(), 1).unwrap();
        assert_eq!(verify::root(&sound).unwrap().problems, Vec::<String>::new());
        let damaged = initramfs(&sound, "/bin/zos-agent").unwrap();
        assert_eq!(
            verify::root(&damaged).unwrap().problems,
            ["/bin/zos-agent: differs from the manifest"]
        );
        assert!(initramfs(&sound, "/bin/none").is_err());
    }
}
