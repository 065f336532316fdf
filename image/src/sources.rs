//! Where the builder unpacked the Debian packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directory in which the builder keeps what it downloads and makes, `target/zos`.
#[derive(Debug, Clone)]
pub struct Sources {
    directory: PathBuf,
}

/// An unpacked kernel package.
#[derive(Debug, Clone)]
pub struct KernelTree {
    /// The kernel's release, such as `6.1.0-9-amd64`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`, with the lists that depmod makes.
    pub modules: PathBuf,
}

impl Sources {
    /// The sources below `directory`, which need not exist yet.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Root of the unpacked packages of one set of packages.toml.
    #[must_use]
    pub fn set(&self, name: &str) -> PathBuf {
        self.directory.join("root").join(name)
    }

    /// The kernel of the set `name`.
    ///
    /// # Errors
    /// If there is not exactly one.
    pub fn kernel(&self, name: &str) -> Result<KernelTree> {
        let root = self.set(name);
        let boot = root.join("boot");
        let mut releases = Vec::new();
        for entry in fs::read_dir(&boot).with_context(|| format!("list {}: run `cargo xtask setup`", boot.display()))? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            if let Some(release) = file.strip_prefix("vmlinuz-") {
                releases.push(release.to_owned());
            }
        }
        let [release] = &releases[..] else {
            bail!("{} holds {} kernels, expected one", boot.display(), releases.len());
        };
        Ok(KernelTree {
            release: release.clone(),
            image: boot.join(format!("vmlinuz-{release}")),
            modules: root.join("lib/modules").join(release),
        })
    }
}
