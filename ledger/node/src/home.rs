//! A validator's directory: its keys, the genesis and the chain.
//!
//! ```text
//! genesis.json     the chain's genesis
//! validator.key    seeds of the consensus and link keys, 0600
//! chain.redb       blocks, records, indexes
//! consensus/       write-ahead log and undecided blocks
//! ```
//!
//! Each file appears whole or not at all, the genesis last: a directory with a genesis is complete, and one without holds at
//! most keys that signed nothing yet, with which another init goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ledger::{
    Genesis, PublicKey, SigningKey, Tokens, Validator, ValidatorSet,
    body::Entity,
    genesis::{GenesisEntity, GenesisError, Issuance},
    text::{Text, TextError},
};
use peer_link::LinkKey;
use serde::{Deserialize, Serialize};

use crate::Clock;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is a chain already.
    #[error("{0} exists already; choose another directory")]
    Exists(PathBuf),
    /// There is no chain yet.
    #[error("{0} is missing; run `ledgerd init --dir DIR` first")]
    Missing(PathBuf),
    /// There is no such entity.
    #[error("{0} is missing; `threebot entity > FILE` writes one")]
    NoEntity(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file does not say what it should.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The chain's name is not usable.
    #[error("name of the chain")]
    Name(#[source] TextError),
    /// The options form no genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The system gave no randomness.
    #[error("system randomness: {0}")]
    Randomness(getrandom::Error),
}

/// What a new chain of one validator starts with.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// A name for people.
    pub name: String,
    /// Time between blocks in milliseconds.
    pub interval_ms: u32,
    /// Files with an entity as JSON, and what each owns from the start.
    pub entities: Vec<(PathBuf, Tokens)>,
}

/// Keys of a validator, as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    consensus_seed: String,
    link_seed: String,
}

impl KeyFile {
    fn random() -> Result<Self, HomeError> {
        let hex = |seed: [u8; 32]| data_encoding::HEXLOWER.encode(&seed);
        Ok(Self {
            consensus_seed: hex(random_seed()?),
            link_seed: hex(random_seed()?),
        })
    }

    /// The keys; `path` is where they were read.
    fn keys(&self, path: &Path) -> Result<(SigningKey, LinkKey), HomeError> {
        let seed = |text: &str| -> Result<[u8; 32], HomeError> {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
            let seed = bytes.and_then(|bytes| bytes.try_into().ok());
            seed.ok_or_else(|| HomeError::Malformed {
                path: path.to_owned(),
                reason: "a seed is not 64 hexadecimal digits".into(),
            })
        };
        Ok((
            SigningKey::from_seed(&seed(&self.consensus_seed)?),
            LinkKey::from_seed(&seed(&self.link_seed)?),
        ))
    }
}

/// A validator's directory.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    /// The chain's genesis.
    pub genesis: Genesis,
    /// Key that signs votes.
    pub consensus_key: SigningKey,
    /// Key of the peer link.
    pub link_key: LinkKey,
}

impl Home {
    /// Makes a new chain with one validator.
    ///
    /// # Errors
    /// [`HomeError`] when there is one already, an option is wrong or a file cannot be written.
    pub fn init(directory: &Path, options: &InitOptions) -> Result<Self, HomeError> {
        let genesis_path = directory.join("genesis.json");
        // A chain without its genesis is no half-made directory: its keys have signed.
        for left in ["genesis.json", "chain.redb", "consensus"].map(|name| directory.join(name)) {
            if left.exists() {
                return Err(HomeError::Exists(left));
            }
        }
        let entities = options.entities.iter().map(read_entity).collect::<Result<_, _>>()?;
        let key_path = directory.join("validator.key");
        let keys = match read::<KeyFile>(&key_path) {
            Ok(keys) => keys,
            Err(HomeError::Missing(_)) => KeyFile::random()?,
            Err(error) => return Err(error),
        };
        let (consensus_key, link_key) = keys.keys(&key_path)?;
        let validator = Validator {
            key: consensus_key.public(),
            link: PublicKey::from_bytes(*link_key.id().as_bytes()),
            power: 1,
        };
        let genesis = Genesis {
            name: Text::new(&options.name).map_err(HomeError::Name)?,
            time: Clock::default().now(),
            block_interval_ms: options.interval_ms,
            validators: ValidatorSet::new(vec![validator]).map_err(GenesisError::Validators)?,
            entities,
            issuance: Issuance::Fixed,
        };
        genesis.check()?;
        fs::create_dir_all(directory).map_err(|source| HomeError::Io {
            path: directory.to_owned(),
            source,
        })?;
        if !key_path.exists() {
            write_new(&key_path, 0o600, &keys)?;
        }
        write_new(&genesis_path, 0o644, &genesis)?;
        Ok(Self {
            directory: directory.to_owned(),
            genesis,
            consensus_key,
            link_key,
        })
    }

    /// Reads a directory that [`Self::init`] made.
    ///
    /// # Errors
    /// [`HomeError`] when a file is missing or damaged.
    pub fn open(directory: &Path) -> Result<Self, HomeError> {
        let genesis_path = directory.join("genesis.json");
        let genesis: Genesis = read(&genesis_path)?;
        genesis.check()?;
        let key_path = directory.join("validator.key");
        let keys: KeyFile = read(&key_path)?;
        let (consensus_key, link_key) = keys.keys(&key_path)?;
        Ok(Self {
            directory: directory.to_owned(),
            genesis,
            consensus_key,
            link_key,
        })
    }

    /// The database file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.directory.join("chain.redb")
    }

    /// The consensus engine's directory.
    #[must_use]
    pub fn consensus(&self) -> PathBuf {
        self.directory.join("consensus")
    }
}

fn read_entity((path, balance): &(PathBuf, Tokens)) -> Result<GenesisEntity, HomeError> {
    let entity: Entity = read(path).map_err(|error| match error {
        HomeError::Missing(path) => HomeError::NoEntity(path),
        HomeError::Malformed { path, reason } => HomeError::Malformed {
            path,
            reason: format!("no entity record ({reason}); `threebot entity > FILE` writes one"),
        },
        error => error,
    })?;
    Ok(GenesisEntity {
        entity,
        balance: *balance,
    })
}

fn random_seed() -> Result<[u8; 32], HomeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(HomeError::Randomness)?;
    Ok(seed)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, HomeError> {
    let text = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => HomeError::Missing(path.to_owned()),
        _ => HomeError::Io {
            path: path.to_owned(),
            source,
        },
    })?;
    serde_json::from_slice(&text).map_err(|error| HomeError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Writes a file that is not there yet: whole and on stable storage under another name, then by its own.
fn write_new(path: &Path, mode: u32, content: &impl Serialize) -> Result<(), HomeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => HomeError::Exists(path.to_owned()),
        _ => HomeError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let text = serde_json::to_string_pretty(content).map_err(|error| HomeError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let next = path.with_extension("next");
    let write = || -> io::Result<()> {
        // A killed init may have left one.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        // Unlike a rename, a link replaces nothing.
        fs::hard_link(&next, path)?;
        fs::remove_file(&next)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions {
            name: "test".into(),
            interval_ms: 1_000,
            entities: vec![],
        };
        assert!(matches!(Home::open(folder.path()), Err(HomeError::Missing(_))));
        let made = Home::init(folder.path(), &options).unwrap();
        let read = Home::open(folder.path()).unwrap();
        assert_eq!(made.genesis.hash(), read.genesis.hash());
        assert_eq!(made.link_key.id(), read.link_key.id());
        assert!(matches!(Home::init(folder.path(), &options), Err(HomeError::Exists(_))));
    }

    #[test]
    fn an_init_that_was_killed_between_its_files_is_completed_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions {
            name: "test".into(),
            interval_ms: 1_000,
            entities: vec![],
        };
        let killed = Home::init(folder.path(), &options).unwrap();
        // Cut off in the middle of the second file.
        fs::remove_file(folder.path().join("genesis.json")).unwrap();
        fs::write(folder.path().join("genesis.next"), "{\"na").unwrap();
        assert!(matches!(Home::open(folder.path()), Err(HomeError::Missing(_))));
        let made = Home::init(folder.path(), &options).unwrap();
        assert_eq!(made.link_key.id(), killed.link_key.id());
        // Cut off in the middle of the first one.
        let fresh = tempfile::tempdir().unwrap();
        fs::write(fresh.path().join("validator.next"), "{").unwrap();
        Home::init(fresh.path(), &options).unwrap();
        let old = tempfile::tempdir().unwrap();
        fs::write(old.path().join("chain.redb"), "").unwrap();
        assert!(matches!(Home::init(old.path(), &options), Err(HomeError::Exists(_))));
        for folder in [folder.path(), fresh.path()] {
            Home::open(folder).unwrap();
            assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
        }
    }

    #[test]
    fn an_interval_out_of_bounds_is_refused_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = InitOptions {
            name: "test".into(),
            interval_ms: 1,
            entities: vec![],
        };
        assert!(matches!(
            Home::init(folder.path(), &options),
            Err(HomeError::Genesis(_))
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
