//! Where things are.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use image::Sources;

/// The target triple that .cargo/config.toml names.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The workspace's directories.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the workspace has no directory")?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => env::current_dir().context("find the current directory")?.join(target),
            None => root.join("target"),
        };
        Ok(Self {
            root: root.to_owned(),
            target,
        })
    }

    /// The workspace's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's directory for what it builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Where the packages and images are.
    pub(crate) fn sources(&self) -> Sources {
        Sources::new(self.target.join("zos"))
    }

    /// A path below `target/zos`.
    pub(crate) fn zos(&self, path: &str) -> PathBuf {
        self.target.join("zos").join(path)
    }

    /// Where cargo puts programs of the profile's directory (`debug`, `release`).
    pub(crate) fn programs(&self, profile: &str) -> PathBuf {
        self.target.join(TRIPLE).join(profile)
    }

    /// Cargo, in the workspace.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}
