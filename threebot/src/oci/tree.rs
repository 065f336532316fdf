//! Layers on top of each other: which file is seen in the end.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

/// Most symbolic links that are followed on the way to one entry; as Linux has it.
const MAX_LINKS: usize = 40;
/// Prefix of a whiteout (OCI image specification, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// Hides all that layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Owner, mode and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: u32,
}

/// A directory that no layer names.
const IMPLIED: Meta = Meta {
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0,
};

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What an entry of a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File(Content),
    Symlink(PathBuf),
    /// Another name of an earlier file; never in a finished tree.
    Hardlink(PathBuf),
    Fifo,
}

/// One entry of a layer, its path below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: PathBuf,
    pub(super) meta: Meta,
    pub(super) kind: Kind,
}

/// What is seen in the end, by path below the root, parents before children.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) root: Option<Meta>,
    pub(super) entries: BTreeMap<PathBuf, (Meta, Kind)>,
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Puts a layer on top: first its whiteouts, which hide what layers below have, then what it adds.
    pub(super) fn apply(&mut self, layer: Vec<Change>) -> Result<(), String> {
        let (whiteouts, additions): (Vec<_>, Vec<_>) = layer.into_iter().partition(is_whiteout);
        for whiteout in whiteouts {
            self.hide(&whiteout.path)?;
        }
        for addition in additions {
            self.add(addition)?;
        }
        Ok(())
    }

    fn hide(&mut self, marker: &Path) -> Result<(), String> {
        let parent = self.resolve(marker.parent().unwrap_or(Path::new("")))?;
        let name = marker.file_name().map(OsStr::as_bytes).unwrap_or_default();
        if name == OPAQUE {
            self.entries
                .retain(|path, _| path == &parent || !path.starts_with(&parent));
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|hidden| !hidden.is_empty()) {
            self.remove(&parent.join(OsStr::from_bytes(hidden)));
        }
        Ok(())
    }

    /// Removes an entry and all below it.
    fn remove(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self
            .entries
            .range(path.to_owned()..)
            .map(|(known, _)| known)
            .take_while(|known| known.starts_with(path))
            .cloned()
            .collect();
        for known in below {
            self.entries.remove(&known);
        }
    }

    fn add(&mut self, change: Change) -> Result<(), String> {
        let Change { path, meta, kind } = change;
        let Some(name) = path.file_name() else {
            self.root = Some(meta);
            return Ok(());
        };
        let parent = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        self.make_directories(&parent)?;
        let path = parent.join(name);
        let (meta, kind) = match kind {
            Kind::Hardlink(target) => self.linked(&target)?,
            kind => (meta, kind),
        };
        let both_directories = kind == Kind::Directory && matches!(self.entries.get(&path), Some((_, Kind::Directory)));
        if !both_directories {
            self.remove(&path);
        }
        self.entries.insert(path, (meta, kind));
        Ok(())
    }

    fn linked(&self, target: &Path) -> Result<(Meta, Kind), String> {
        let parent = self.resolve(target.parent().unwrap_or(Path::new("")))?;
        let path = parent.join(target.file_name().unwrap_or_default());
        match self.entries.get(&path) {
            Some((meta, kind @ (Kind::File(_) | Kind::Symlink(_) | Kind::Fifo))) => Ok((*meta, kind.clone())),
            _ => Err(format!("a hard link names {}, which is no file", target.display())),
        }
    }

    fn make_directories(&mut self, path: &Path) -> Result<(), String> {
        let mut known: Vec<&Path> = path.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
        known.reverse();
        for directory in known {
            match self.entries.get(directory) {
                Some((_, Kind::Directory)) => {}
                Some(_) => return Err(format!("{} is no directory and has entries", directory.display())),
                None => {
                    self.entries.insert(directory.to_owned(), (IMPLIED, Kind::Directory));
                }
            }
        }
        Ok(())
    }

    /// The directory that a path names, symbolic links on the way followed inside the root.
    fn resolve(&self, path: &Path) -> Result<PathBuf, String> {
        let mut links = 0;
        let mut rest: Vec<PathBuf> = vec![path.to_owned()];
        let mut resolved = PathBuf::new();
        while let Some(next) = rest.pop() {
            let mut parts = next.components();
            let Some(part) = parts.next() else { continue };
            let remaining = parts.as_path().to_owned();
            if !remaining.as_os_str().is_empty() {
                rest.push(remaining);
            }
            match part {
                Component::RootDir => resolved = PathBuf::new(),
                Component::CurDir | Component::Prefix(_) => {}
                Component::ParentDir => {
                    resolved.pop();
                }
                Component::Normal(name) => {
                    let candidate = resolved.join(name);
                    if let Some((_, Kind::Symlink(target))) = self.entries.get(&candidate) {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(format!("{} passes too many symbolic links", path.display()));
                        }
                        rest.push(target.clone());
                    } else {
                        resolved = candidate;
                    }
                }
            }
        }
        Ok(resolved)
    }
}

fn is_whiteout(change: &Change) -> bool {
    let name = change.path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    name.starts_with(WHITEOUT)
}
