//! The manifest's text: parsed and written here alone, so that builder and reader cannot differ.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest manifest that is parsed, in bytes. The largest image has some thousand modules at about 140 bytes a line.
pub const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// Longest path, and longest link target, in bytes (`PATH_MAX` of Linux without its terminator).
pub const MAX_PATH: usize = 4095;

/// What the image holds, by absolute path. Directories, mount points and the manifest itself are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    entries: BTreeMap<String, Entry>,
}

/// One path of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File {
        /// Hash of the contents.
        hash: [u8; 32],
        /// Permission bits, `0o7777` at most.
        mode: u32,
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// What the link says, as it is stored.
        target: String,
    },
}

impl Entry {
    /// The entry of a regular file with these contents.
    #[must_use]
    pub fn file(contents: &[u8], mode: u32) -> Self {
        let size = u64::try_from(contents.len()).unwrap_or(u64::MAX);
        Self::File {
            hash: *blake3::hash(contents).as_bytes(),
            mode: mode & 0o7777,
            size,
        }
    }
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`MAX_MANIFEST`].
    #[error("manifest longer than {MAX_MANIFEST} bytes")]
    TooLong,
    /// The last line is not `manifest <hash>` followed by a newline.
    #[error("manifest does not end with its own hash")]
    NoHash,
    /// The last line's hash is not that of the lines before.
    #[error("manifest does not match its own hash")]
    Damaged,
    /// A line is not of the documented form. Lines count from 1.
    #[error("manifest line {line} is malformed")]
    Malformed {
        /// Number of the line.
        line: usize,
    },
    /// A line's path is not greater than the one before.
    #[error("manifest line {line} is out of order")]
    OutOfOrder {
        /// Number of the line.
        line: usize,
    },
    /// A path is not absolute and normal, or a path or target holds white space or a control character.
    #[error("path {path:?} cannot be listed")]
    BadPath {
        /// The path or the target.
        path: String,
    },
}

impl Manifest {
    /// An empty manifest.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists `path`; a second entry for the same path replaces the first.
    ///
    /// # Errors
    /// [`ManifestError::BadPath`] when the path or the link's target cannot be written on a line.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), ManifestError> {
        let normal = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
        if !normal || !is_word(path) {
            return Err(ManifestError::BadPath { path: path.to_owned() });
        }
        if let Entry::Link { target } = &entry
            && !is_word(target)
        {
            return Err(ManifestError::BadPath { path: target.clone() });
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// What is listed, by path.
    #[must_use]
    pub const fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Parses a manifest and checks it against its own last line.
    ///
    /// # Errors
    /// [`ManifestError`], which names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        let lines = text.strip_suffix('\n').ok_or(ManifestError::NoHash)?;
        let last_line = lines.rfind('\n').map_or(0, |newline| newline + 1);
        let stated = lines[last_line..]
            .strip_prefix("manifest ")
            .and_then(parse_hash)
            .ok_or(ManifestError::NoHash)?;
        let body = &text[..last_line];
        if blake3::hash(body.as_bytes()) != stated {
            return Err(ManifestError::Damaged);
        }
        let mut manifest = Self::new();
        for (index, text) in body.lines().enumerate() {
            let line = index + 1;
            let (path, entry) = parse_line(text).ok_or(ManifestError::Malformed { line })?;
            if manifest
                .entries
                .last_key_value()
                .is_some_and(|(last, _)| last.as_str() >= path)
            {
                return Err(ManifestError::OutOfOrder { line });
            }
            manifest.insert(path, entry)?;
        }
        Ok(manifest)
    }
}

impl FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        Self::parse(text)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut body = String::new();
        for (path, entry) in &self.entries {
            match entry {
                Entry::File { hash, mode, size } => {
                    let hash = blake3::Hash::from_bytes(*hash).to_hex();
                    body.push_str(&format!("{hash} {mode:04o} {size} {path}\n"));
                }
                Entry::Link { target } => body.push_str(&format!("link {target} {path}\n")),
            }
        }
        let own = blake3::hash(body.as_bytes()).to_hex();
        writeln!(formatter, "{body}manifest {own}")
    }
}

/// Whether `text` can stand between two spaces of a line.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PATH && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// A hash as the builder writes it: 64 lower-case hexadecimal digits.
fn parse_hash(text: &str) -> Option<blake3::Hash> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    (hash.to_hex().as_str() == text).then_some(hash)
}

fn parse_line(line: &str) -> Option<(&str, Entry)> {
    if let Some(link) = line.strip_prefix("link ") {
        let (target, path) = link.split_once(' ')?;
        return Some((
            path,
            Entry::Link {
                target: target.to_owned(),
            },
        ));
    }
    let mut words = line.splitn(4, ' ');
    let hash = *parse_hash(words.next()?)?.as_bytes();
    let mode = words
        .next()
        .filter(|word| word.len() == 4)
        .and_then(|word| u32::from_str_radix(word, 8).ok())?;
    let size = words.next()?.parse().ok()?;
    Some((words.next()?, Entry::File { hash, mode, size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let mut manifest = Manifest::new();
        manifest.insert("/init", Entry::file(b"init", 0o100_755)).unwrap();
        manifest.insert("/bin/vmm", Entry::file(b"", 0o755)).unwrap();
        manifest
            .insert(
                "/lib64",
                Entry::Link {
                    target: "usr/lib64".to_owned(),
                },
            )
            .unwrap();
        manifest
    }

    #[test]
    fn what_is_written_is_parsed_back() {
        let text = example().to_string();
        assert_eq!(Manifest::parse(&text).unwrap(), example());
        let paths: Vec<&str> = text.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(paths[..3], ["/bin/vmm", "/init", "/lib64"]);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let text = example().to_string();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Manifest::parse(&changed).is_err(), "byte {at} of {text}");
        }
    }

    #[test]
    fn truncation_at_any_byte_is_refused() {
        let text = example().to_string();
        for end in 0..text.len() {
            assert!(Manifest::parse(&text[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn lines_out_of_order_and_bad_lines_are_named() {
        let sign = |body: &str| format!("{body}manifest {}\n", blake3::hash(body.as_bytes()).to_hex());
        let same = sign("link a /x\nlink b /x\n");
        assert_eq!(Manifest::parse(&same), Err(ManifestError::OutOfOrder { line: 2 }));
        assert_eq!(
            Manifest::parse(&sign("link a /x\nnonsense\n")),
            Err(ManifestError::Malformed { line: 2 })
        );
        let escape = sign("link a /x/../y\n");
        assert_eq!(
            Manifest::parse(&escape),
            Err(ManifestError::BadPath {
                path: "/x/../y".to_owned()
            })
        );
        assert_eq!(Manifest::parse(&sign("")), Ok(Manifest::new()));
    }

    #[test]
    fn paths_that_would_break_a_line_are_refused() {
        for path in ["", "x", "/", "/a b", "/a\n", "/a//b", "/../a"] {
            assert!(
                Manifest::new().insert(path, Entry::file(b"", 0o644)).is_err(),
                "{path:?}"
            );
        }
    }
}
