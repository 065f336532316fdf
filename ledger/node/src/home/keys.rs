//! A validator's keys as they are stored, and what it tells others of them.

use std::path::Path;

use ledger::{PublicKey, SigningKey, Validator};
use peer_link::{LinkKey, PeerAddress, PeerId};
use serde::{Deserialize, Serialize};

use super::{HomeError, files};

/// The file with the seeds.
const FILE: &str = "validator.key";

/// What a validator tells those who found a chain with it: its keys, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introduction {
    /// Key that signs its votes.
    pub key: PublicKey,
    /// Key of its link, and the addresses of it.
    pub peer: PeerAddress,
}

impl Introduction {
    /// The validator of power 1 that introduces itself.
    #[must_use]
    pub fn validator(&self) -> Validator {
        validator(self.key, self.peer.id())
    }

    /// Reads one that [`super::Home::introduce`] gave.
    ///
    /// # Errors
    /// [`HomeError`] when there is none at `path`.
    pub fn read(path: &Path) -> Result<Self, HomeError> {
        files::read_made_by(
            path,
            "introduction",
            "`ledgerd keys --dir DIR --advertise IP:PORT > FILE`",
        )
    }
}

/// A validator of power 1, as a genesis names it.
pub(super) fn validator(key: PublicKey, link: PeerId) -> Validator {
    Validator {
        key,
        link: PublicKey::from_bytes(*link.as_bytes()),
        power: 1,
    }
}

/// The seeds, as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seeds {
    consensus_seed: String,
    link_seed: String,
}

/// A validator's keys.
pub(super) struct Keys {
    seeds: Seeds,
    pub(super) consensus: SigningKey,
    pub(super) link: LinkKey,
}

impl Keys {
    /// The keys in a directory.
    pub(super) fn read(directory: &Path) -> Result<Self, HomeError> {
        let path = directory.join(FILE);
        let seeds: Seeds = files::read(&path)?;
        let seed = |text: &str| -> Result<[u8; 32], HomeError> {
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
            let seed = bytes.and_then(|bytes| bytes.try_into().ok());
            seed.ok_or_else(|| HomeError::Malformed {
                path: path.clone(),
                reason: "a seed is not 64 hexadecimal digits".into(),
            })
        };
        Ok(Self {
            consensus: SigningKey::from_seed(&seed(&seeds.consensus_seed)?),
            link: LinkKey::from_seed(&seed(&seeds.link_seed)?),
            seeds,
        })
    }

    /// The keys in a directory, or new ones that [`Self::keep`] puts there.
    pub(super) fn read_or_make(directory: &Path) -> Result<Self, HomeError> {
        match Self::read(directory) {
            Err(HomeError::Missing(_)) => {}
            read => return read,
        }
        let hex = |seed: &[u8; 32]| data_encoding::HEXLOWER.encode(seed);
        let (consensus, link) = (random_seed()?, random_seed()?);
        Ok(Self {
            seeds: Seeds {
                consensus_seed: hex(&consensus),
                link_seed: hex(&link),
            },
            consensus: SigningKey::from_seed(&consensus),
            link: LinkKey::from_seed(&link),
        })
    }

    /// Makes sure that the keys are in the directory, on stable storage.
    pub(super) fn keep(&self, directory: &Path) -> Result<(), HomeError> {
        let path = directory.join(FILE);
        if path.exists() {
            return Ok(());
        }
        files::write_new(&path, 0o600, &self.seeds)
    }
}

fn random_seed() -> Result<[u8; 32], HomeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(HomeError::Randomness)?;
    Ok(seed)
}
