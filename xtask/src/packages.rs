//! The list of Debian packages in image/packages.toml, and which versions of them are here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The list itself.
const LIST: &str = include_str!("../../image/packages.toml");

/// What the builder needs of Debian.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packages {
    /// Packages whose programs run here.
    pub(crate) install: Vec<Install>,
    /// Packages that are unpacked only, by the directory they are unpacked into.
    pub(crate) set: BTreeMap<String, Set>,
}

/// A package to install.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Install {
    /// Its name.
    pub(crate) package: String,
    /// What for.
    pub(crate) why: String,
    /// A file that is there once it is installed.
    pub(crate) has: PathBuf,
}

/// Packages to unpack into one directory.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    /// What for.
    pub(crate) why: String,
    /// A package that stands for the newest of its kind: what it depends on first is unpacked.
    pub(crate) metapackage: Option<String>,
    /// Packages by name.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    /// The suite of Debian that they are of, if not that of the system. What does not come from there is done without.
    pub(crate) suite: Option<String>,
    /// Whether what they depend on is unpacked too.
    #[serde(default)]
    pub(crate) depends: bool,
    /// What is left out of that.
    #[serde(default)]
    pub(crate) without: BTreeSet<String>,
    /// Whether the modules' lists are made afterwards.
    #[serde(default)]
    pub(crate) depmod: bool,
}

impl Packages {
    /// Reads packages.toml.
    pub(crate) fn read() -> Result<Self> {
        toml::from_str(LIST).context("read packages.toml")
    }

    /// Names this version of the list.
    pub(crate) fn hash() -> String {
        blake3::hash(LIST.as_bytes()).to_hex().to_string()
    }

    /// Packages that are not installed.
    pub(crate) fn missing(&self) -> Vec<&Install> {
        self.install.iter().filter(|install| !install.has.exists()).collect()
    }
}

/// Versions by package.
pub(crate) type Versions = BTreeMap<String, String>;

/// What was unpacked, in target/zos/packages.json.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// [`Packages::hash`] of the list that was followed.
    pub(crate) list: String,
    /// What is there of each set.
    pub(crate) sets: BTreeMap<String, Versions>,
}

impl Record {
    /// Reads the record; one that is absent or damaged says that nothing was unpacked.
    pub(crate) fn read(path: &Path) -> Self {
        fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// Replaces the record at `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("encode the record of packages")?;
        let partial = path.with_extension("partial");
        fs::write(&partial, text + "\n").with_context(|| format!("write {}", partial.display()))?;
        fs::rename(&partial, path).with_context(|| format!("write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_says_what_it_is_made_of() {
        let packages = Packages::read().unwrap();
        for (name, set) in &packages.set {
            assert_ne!(set.metapackage.is_some(), !set.packages.is_empty(), "{name}");
        }
        assert!(packages.set.contains_key("kernel"));
    }

    #[test]
    fn damaged_record_says_that_nothing_is_there() {
        assert!(Record::read(Path::new("/dev/null")).sets.is_empty());
    }
}
