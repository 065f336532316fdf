//! The manifest of a tree: made for an image, and checked against one.

use anyhow::{Context, Result};
use node_api::image::{Entry, FARM_MEDIA, MANIFEST, Manifest};

use crate::cpio::{Node, Tree};

/// Adds the manifest of all that is in `tree` to it.
///
/// # Errors
/// If a path cannot be listed, or the tree has a manifest.
pub fn add(tree: &mut Tree) -> Result<()> {
    let text = list(tree)?.to_string();
    tree.add_file(MANIFEST, 0o444, text.into_bytes())
}

/// What the manifest of `tree` says.
fn list(tree: &Tree) -> Result<Manifest> {
    let mut manifest = Manifest::new();
    for (path, node) in tree.nodes() {
        if path == MANIFEST || path == FARM_MEDIA {
            continue;
        }
        if let Some(entry) = entry(node) {
            manifest.insert(path, entry).with_context(|| format!("list {path}"))?;
        }
    }
    Ok(manifest)
}

fn entry(node: &Node) -> Option<Entry> {
    match node {
        Node::Directory { .. } => None,
        Node::File { mode, bytes } => Some(Entry::file(bytes, *mode)),
        Node::Link { target } => Some(Entry::Link { target: target.clone() }),
    }
}

/// How a tree differs from its manifest, a line a path; empty if it does not.
///
/// # Errors
/// If the tree has no manifest, or one that is damaged itself.
pub fn differences(tree: &Tree) -> Result<Vec<String>> {
    let text = tree
        .file(MANIFEST)
        .with_context(|| format!("the image has no {MANIFEST}"))?;
    let text = std::str::from_utf8(text).with_context(|| format!("{MANIFEST} is not text"))?;
    let stated = Manifest::parse(text).with_context(|| format!("read {MANIFEST}"))?;
    let mut lines = Vec::new();
    for (path, expected) in stated.entries() {
        match tree.get(path) {
            None => lines.push(format!("{path}: missing")),
            Some(node) if entry(node).as_ref() != Some(expected) => {
                lines.push(format!("{path}: differs from the manifest"));
            }
            Some(_) => {}
        }
    }
    for path in list(tree)?.entries().keys() {
        if !stated.entries().contains_key(path) {
            lines.push(format!("{path}: not in the manifest"));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Tree {
        let mut tree = Tree::new();
        tree.add_file("/bin/zos-agent", 0o755, b"agent".to_vec()).unwrap();
        tree.add_link("/lib/x", "y").unwrap();
        add(&mut tree).unwrap();
        tree
    }

    #[test]
    fn tree_agrees_with_its_own_manifest() {
        assert_eq!(differences(&listed()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn changed_missing_and_additional_files_are_named() {
        let mut changed = listed();
        changed.replace("/bin/zos-agent", b"agenT".to_vec()).unwrap();
        assert_eq!(
            differences(&changed).unwrap(),
            ["/bin/zos-agent: differs from the manifest"]
        );

        let mut more = listed();
        more.add_file("/bin/sh", 0o755, Vec::new()).unwrap();
        assert_eq!(differences(&more).unwrap(), ["/bin/sh: not in the manifest"]);

        let mut less = Tree::new();
        less.add_file("/bin/zos-agent", 0o755, b"agent".to_vec()).unwrap();
        less.add_file(MANIFEST, 0o444, listed().file(MANIFEST).unwrap().to_vec())
            .unwrap();
        assert_eq!(differences(&less).unwrap(), ["/lib/x: missing"]);
    }

    #[test]
    fn mode_counts() {
        let mut tree = Tree::new();
        tree.add_file("/bin/zos-agent", 0o4755, b"agent".to_vec()).unwrap();
        tree.add_link("/lib/x", "y").unwrap();
        tree.add_file(MANIFEST, 0o444, listed().file(MANIFEST).unwrap().to_vec())
            .unwrap();
        assert_eq!(
            differences(&tree).unwrap(),
            ["/bin/zos-agent: differs from the manifest"]
        );
    }

    #[test]
    fn damaged_manifest_is_refused() {
        let mut tree = listed();
        let mut text = tree.file(MANIFEST).unwrap().to_vec();
        text[0] ^= 1;
        tree.replace(MANIFEST, text).unwrap();
        assert!(differences(&tree).is_err());
    }
}
