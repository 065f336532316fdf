//! The newc cpio archive that Linux unpacks as its initial root.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. The writer leaves nothing to
//! chance: entries in the order of their paths, inode numbers from 1, everything owned by root, time stamps zero.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// File type bits of `st_mode`.
const TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &str = "TRAILER!!!";

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Permission bits.
        mode: u32,
        /// Contents.
        bytes: Vec<u8>,
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: String,
    },
}

/// Files by absolute path. Parents of every path are present.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// A tree with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All nodes in the order of their paths.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// What `path` holds.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The contents of the regular file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.nodes.get(path) {
            Some(Node::File { bytes, .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Adds a directory and its parents, the latter with mode 0755.
    ///
    /// # Errors
    /// If the path is not absolute and plain, or taken by something else.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        if let Some(Node::Directory { mode: present }) = self.nodes.get_mut(path) {
            *present = mode;
            return Ok(());
        }
        self.insert(path, Node::Directory { mode })
    }

    /// Adds a file and its parent directories.
    ///
    /// # Errors
    /// If the path is not absolute and plain, or taken.
    pub fn add_file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.insert(path, Node::File { mode, bytes })
    }

    /// Adds a symbolic link and its parent directories.
    ///
    /// # Errors
    /// If the path is not absolute and plain, or taken.
    pub fn add_link(&mut self, path: &str, target: &str) -> Result<()> {
        self.insert(
            path,
            Node::Link {
                target: target.to_owned(),
            },
        )
    }

    /// Puts other contents into the file at `path`, without touching anything else.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn replace(&mut self, path: &str, contents: Vec<u8>) -> Result<()> {
        match self.nodes.get_mut(path) {
            Some(Node::File { bytes, .. }) => *bytes = contents,
            _ => bail!("no file {path} in the tree"),
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<()> {
        let rest = path
            .strip_prefix('/')
            .with_context(|| format!("path {path} is not absolute"))?;
        ensure!(
            rest.split('/').all(|part| !matches!(part, "" | "." | "..")),
            "path {path} is not plain"
        );
        for (end, _) in path.match_indices('/').skip(1) {
            match self
                .nodes
                .entry(path[..end].to_owned())
                .or_insert(Node::Directory { mode: 0o755 })
            {
                Node::Directory { .. } => {}
                other => bail!("{} of {path} is taken by {other:?}", &path[..end]),
            }
        }
        ensure!(
            self.nodes.insert(path.to_owned(), node).is_none(),
            "path {path} is in the tree twice"
        );
        Ok(())
    }

    /// The tree as an archive.
    ///
    /// # Errors
    /// If a file is larger than the format can say (4 GiB).
    pub fn to_cpio(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut inode = 0_u32;
        for (path, node) in &self.nodes {
            inode += 1;
            let (mode, body): (u32, &[u8]) = match node {
                Node::Directory { mode } => (DIRECTORY | mode, &[]),
                Node::File { mode, bytes } => (REGULAR | mode, bytes),
                Node::Link { target } => (SYMLINK | 0o777, target.as_bytes()),
            };
            append(&mut out, inode, path.trim_start_matches('/'), mode, body)
                .with_context(|| format!("archive {path}"))?;
        }
        append(&mut out, 0, TRAILER, 0, &[])?;
        Ok(out)
    }

    /// Reads the first archive of `bytes`.
    ///
    /// # Errors
    /// If it is not a newc archive, is cut off, or holds what this project's images never hold.
    pub fn from_cpio(bytes: &[u8]) -> Result<Self> {
        let mut tree = Self::new();
        let mut at = 0;
        loop {
            let entry = read_entry(bytes, &mut at).with_context(|| format!("read the archive's entry at {at}"))?;
            if entry.name == TRAILER {
                return Ok(tree);
            }
            let path = format!("/{}", entry.name);
            let permissions = entry.mode & 0o7777;
            match entry.mode & TYPE_MASK {
                DIRECTORY => tree.directory(&path, permissions)?,
                REGULAR => tree.add_file(&path, permissions, entry.body.to_vec())?,
                SYMLINK => tree.add_link(&path, std::str::from_utf8(entry.body).context("link target")?)?,
                other => bail!("{path} has the unexpected type {other:o}"),
            }
        }
    }
}

fn append(out: &mut Vec<u8>, inode: u32, name: &str, mode: u32, body: &[u8]) -> Result<()> {
    let size = u32::try_from(body.len()).context("file larger than 4 GiB")?;
    let name_size = u32::try_from(name.len() + 1).context("name longer than 4 GiB")?;
    let links = if mode & TYPE_MASK == DIRECTORY { 2 } else { 1 };
    // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, checksum
    out.extend_from_slice(MAGIC);
    for field in [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

struct RawEntry<'a> {
    name: &'a str,
    mode: u32,
    body: &'a [u8],
}

fn read_entry<'a>(bytes: &'a [u8], at: &mut usize) -> Result<RawEntry<'a>> {
    let header = bytes.get(*at..*at + HEADER).context("archive ends early")?;
    ensure!(header.starts_with(MAGIC), "not a newc entry");
    let field = |index: usize| -> Result<u32> {
        let start = MAGIC.len() + index * 8;
        let digits = std::str::from_utf8(&header[start..start + 8]).context("header field")?;
        u32::from_str_radix(digits, 16).context("header field")
    };
    let (mode, size, name_size) = (field(1)?, usize::try_from(field(6)?)?, usize::try_from(field(11)?)?);
    let name_start = *at + HEADER;
    let name = bytes
        .get(name_start..name_start + name_size)
        .context("archive ends in a name")?;
    let name = std::str::from_utf8(name.strip_suffix(&[0]).context("name without end")?).context("name")?;
    let body_start = (name_start + name_size).next_multiple_of(4);
    let body = bytes
        .get(body_start..body_start + size)
        .context("archive ends in a file")?;
    *at = (body_start + size).next_multiple_of(4);
    Ok(RawEntry { name, mode, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(order: &[usize]) -> Tree {
        let files = [
            ("/bin/b", "two"),
            ("/bin/a", "one"),
            ("/etc/zos/x", ""),
            ("/init", "#!"),
        ];
        let mut tree = Tree::new();
        for index in order {
            let (path, text) = files[*index];
            tree.add_file(path, 0o755, text.as_bytes().to_vec()).unwrap();
        }
        tree.add_link("/lib/link", "../bin/a").unwrap();
        tree.directory("/proc", 0o555).unwrap();
        tree
    }

    #[test]
    fn order_of_insertion_does_not_show_in_the_archive() {
        let first = sample(&[0, 1, 2, 3]).to_cpio().unwrap();
        assert_eq!(first, sample(&[3, 1, 0, 2]).to_cpio().unwrap());
    }

    #[test]
    fn archive_reads_back_as_it_was_written() {
        let tree = sample(&[0, 1, 2, 3]);
        assert_eq!(Tree::from_cpio(&tree.to_cpio().unwrap()).unwrap(), tree);
    }

    #[test]
    fn parents_come_before_their_children() {
        let tree = sample(&[0, 1, 2, 3]);
        let paths: Vec<_> = tree.nodes().keys().map(String::as_str).collect();
        let expected = [
            "/bin",
            "/bin/a",
            "/bin/b",
            "/etc",
            "/etc/zos",
            "/etc/zos/x",
            "/init",
            "/lib",
            "/lib/link",
            "/proc",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn path_is_taken_once_and_must_be_plain() {
        let mut tree = sample(&[0]);
        for path in ["/bin/b", "bin/c", "/bin/../c", "/bin//c", "/bin/b/c"] {
            assert!(tree.add_file(path, 0o644, Vec::new()).is_err(), "{path}");
        }
    }

    #[test]
    fn archive_that_is_cut_off_is_refused() {
        let bytes = sample(&[0, 1]).to_cpio().unwrap();
        for end in [0, 50, HEADER + 2, bytes.len() - HEADER - 20] {
            assert!(Tree::from_cpio(&bytes[..end]).is_err(), "{end}");
        }
    }
}
