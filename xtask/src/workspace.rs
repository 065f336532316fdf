//! Where things are.

use std::env;
use std::ffi::{OsStr, OsString};
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

    /// The workspace itself.
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
        self.cargo_tool(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
    }

    /// A tool that builds as cargo does, in the workspace.
    ///
    /// It does not see what cargo told this program about its package: build scripts that watch those variables would run
    /// again, and all that depends on them, each time that a build by hand and one by this program follow each other.
    pub(crate) fn cargo_tool(&self, tool: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(tool);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        for (name, _) in env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
            command.env_remove(name);
        }
        command
    }
}

/// Whether cargo sets this variable anew for each package.
fn is_of_a_package(variable: &OsStr) -> bool {
    let name = variable.as_encoded_bytes();
    name.starts_with(b"CARGO_PKG_") || name.starts_with(b"CARGO_MANIFEST_") || name == b"OUT_DIR"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_do_not_see_the_package_of_this_program() {
        let workspace = Workspace::find().expect("a workspace");
        let command = workspace.cargo();
        let removed = |name: &str| command.get_envs().any(|(key, value)| key == name && value.is_none());
        assert!(env::var_os("CARGO_PKG_NAME").is_some(), "cargo sets it for tests");
        assert!(removed("CARGO_PKG_NAME") && removed("CARGO_MANIFEST_DIR"));
        assert!(!removed("PATH"));
    }
}
