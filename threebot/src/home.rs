//! The home directory of a 3bot.
//!
//! | file | content |
//! |---|---|
//! | `identity.json` | the seed, encrypted ([`crate::identity`]) |
//! | `config.toml` | chain, peers, addresses ([`Config`]) |
//! | `policy.toml` | what a farmer's bot may agree to ([`crate::policy`]); optional |
//! | `deployments/NAME.json` | what runs and where it last stood |
//! | `blobs/` | images |
//! | `head` | the newest verified block header |
//! | `lock`, `control.sock` | held by the running daemon |

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ledger::{Hash, text::Text};
use peer_link::PeerAddress;
use serde::{Deserialize, Serialize};

use crate::{
    policy::{Policy, PolicyError},
    replacement,
};

/// Longest configuration or policy file in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Where a 3bot keeps its things.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// `config.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A name for people, on the chain.
    pub name: Text<64>,
    /// Hash of the chain's genesis; all trust begins here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Hash>,
    /// Peers of the chain, `<link key>@<ip>:<port>` each.
    #[serde(default)]
    pub peers: Vec<PeerAddress>,
    /// Where the link is bound.
    pub listen: SocketAddr,
    /// Where others reach it; empty: where this machine is seen from the chain's peers.
    #[serde(default)]
    pub advertise: Vec<SocketAddr>,
}

/// Why the home directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file or directory.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The configuration is missing.
    #[error("{0} does not exist; run `threebot init` first")]
    NoConfig(PathBuf),
    /// The configuration is not valid.
    #[error("{path}: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The policy is not valid.
    #[error("{path}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: PolicyError,
    },
    /// No chain is configured.
    #[error("no chain is configured; run `threebot chain --genesis HASH --peer KEY@IP:PORT`")]
    NoChain,
    /// Another daemon holds the directory.
    #[error("another `threebot serve` runs on {0}")]
    Locked(PathBuf),
}

/// Held while a daemon runs on a home directory.
#[derive(Debug)]
pub struct HomeLock {
    _file: fs::File,
}

impl Home {
    /// The home directory at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the directory, open to its owner alone, if it is not there.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn create(&self) -> Result<(), HomeError> {
        for path in [self.0.clone(), self.deployments()] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| HomeError::Io { path, source })?;
        }
        Ok(())
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The identity file.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }

    /// The daemon's control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// The verified head.
    #[must_use]
    pub fn head(&self) -> PathBuf {
        self.0.join("head")
    }

    /// The blob store.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.0.join("blobs")
    }

    /// Deployments, a file each.
    #[must_use]
    pub fn deployments(&self) -> PathBuf {
        self.0.join("deployments")
    }

    /// The configuration.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`HomeError`] when it is missing or not valid.
    pub fn config(&self) -> Result<Config, HomeError> {
        let path = self.config_path();
        let Some(text) = read_text(&path)? else {
            return Err(HomeError::NoConfig(path));
        };
        toml::from_str(&text).map_err(|error| HomeError::Config {
            path,
            reason: error.to_string(),
        })
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn write_config(&self, config: &Config) -> Result<(), HomeError> {
        let path = self.config_path();
        let text = toml::to_string_pretty(config).map_err(|error| HomeError::Config {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        replacement::replace(&path, text.as_bytes())
    }

    /// Reads the farmer's policy; the default one where there is no file.
    ///
    /// # Errors
    /// [`HomeError`] when it cannot be read or followed.
    pub fn policy(&self) -> Result<Policy, HomeError> {
        let path = self.0.join("policy.toml");
        let text = read_text(&path)?.unwrap_or_default();
        Policy::parse(&text).map_err(|source| HomeError::Policy { path, source })
    }

    /// Takes the directory for one daemon.
    ///
    /// # Errors
    /// [`HomeError::Locked`] when another one has it.
    pub fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.0.join("lock");
        let opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let file = opened.map_err(|source| HomeError::Io {
            path: path.clone(),
            source,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(HomeError::Locked(self.0.clone())),
            Err(fs::TryLockError::Error(source)) => Err(HomeError::Io { path, source }),
        }
    }
}

impl Config {
    /// The chain, which every command that needs the network must know.
    ///
    /// # Errors
    /// [`HomeError::NoChain`].
    pub fn chain(&self) -> Result<(Hash, Vec<PeerAddress>), HomeError> {
        match self.genesis {
            Some(genesis) if !self.peers.is_empty() => Ok((genesis, self.peers.clone())),
            _ => Err(HomeError::NoChain),
        }
    }
}

fn read_text(path: &Path) -> Result<Option<String>, HomeError> {
    let failed = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(file) => io::read_to_string(io::Read::take(file, MAX_FILE))
            .map(Some)
            .map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            name: Text::new("alice").unwrap(),
            genesis: Some(Hash::from_bytes([1; 32])),
            peers: Vec::new(),
            listen: "127.0.0.1:7100".parse().unwrap(),
            advertise: vec!["10.0.2.2:7100".parse().unwrap()],
        }
    }

    #[test]
    fn configuration_round_trips_and_unknown_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().join("home"));
        home.create().unwrap();
        assert!(matches!(home.config(), Err(HomeError::NoConfig(_))));
        home.write_config(&config()).unwrap();
        assert_eq!(home.config().unwrap(), config());
        assert!(matches!(config().chain(), Err(HomeError::NoChain)));
        fs::write(home.config_path(), "colour = 1").unwrap();
        assert!(matches!(home.config(), Err(HomeError::Config { .. })));
    }

    #[test]
    fn only_one_daemon_holds_a_home() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        let lock = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Locked(_))));
        drop(lock);
        home.lock().unwrap();
    }

    #[test]
    fn a_missing_policy_is_the_default_and_a_wrong_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        assert_eq!(home.policy().unwrap(), Policy::default());
        fs::write(directory.path().join("policy.toml"), "accept = 3").unwrap();
        assert!(matches!(home.policy(), Err(HomeError::Policy { .. })));
    }
}
