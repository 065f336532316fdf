//! Where the programs are that run on the computer itself.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::place::zos_directory;

/// Where `cargo` puts programs, beside `target/zos`.
const BUILT: &str = "../x86_64-unknown-linux-gnu/debug";

/// The programs of a grid.
#[derive(Debug, Clone)]
pub struct Programs {
    pub(super) ledgerd: PathBuf,
    pub(super) threebot: PathBuf,
}

impl Programs {
    /// The programs in `directory`.
    ///
    /// # Errors
    /// If one is not there.
    pub fn find(directory: &Path) -> Result<Self> {
        let find = |name: &str| {
            let path = directory.join(name);
            ensure!(
                path.is_file(),
                "{} is not there: run `cargo xtask build`",
                path.display()
            );
            Ok(path)
        };
        Ok(Self {
            ledgerd: find("ledgerd")?,
            threebot: find("threebot")?,
        })
    }

    /// The programs that `cargo xtask build` made.
    ///
    /// # Errors
    /// If one is not there.
    pub fn built() -> Result<Self> {
        Self::find(&zos_directory().join(BUILT))
    }

    /// The validators' program, for people to run themselves.
    #[must_use]
    pub fn ledgerd(&self) -> &Path {
        &self.ledgerd
    }

    /// The bots' program, for people to run themselves.
    #[must_use]
    pub fn threebot(&self) -> &Path {
        &self.threebot
    }
}
