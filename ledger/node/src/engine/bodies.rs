//! The bytes of proposed blocks, durable until their height is decided.
//!
//! The write-ahead log holds block ids only. So a body is on disk before the engine hears of it: after a crash the log is
//! played back, and what it decides must be at hand. A proposal of our own is found again for its height and round, so
//! that no second one is ever signed.
//!
//! One file a body, `<height>-<round>-<block id>`, written beside and renamed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use borsh::{BorshDeserialize, BorshSerialize};
use ledger::{Hash, PublicKey};
use tracing::warn;

use super::types::Head;

/// Most bodies of other proposers kept for one height.
const MAX_PER_HEIGHT: usize = 32;
/// Suffix of a file that is being written.
const PARTIAL: &str = ".partial";

/// Why a body could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// A file or the directory could not be read or written.
    #[error("undecided blocks in {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A proposed block.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Body {
    pub(super) head: Head,
    pub(super) bytes: Vec<u8>,
}

/// All undecided bodies, in memory and on disk.
#[derive(Debug)]
pub(super) struct Bodies {
    directory: PathBuf,
    bodies: BTreeMap<(u64, u32, Hash), Body>,
}

impl Bodies {
    /// Reads what is in the directory, which is made if need be. Files that are no bodies are left aside.
    pub(super) fn open(directory: &Path) -> Result<Self, BodyError> {
        let at = |source| BodyError::Io {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(at)?;
        let mut bodies = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if path.to_string_lossy().ends_with(PARTIAL) {
                fs::remove_file(&path).map_err(at)?;
                continue;
            }
            match borsh::from_slice::<Body>(&fs::read(&path).map_err(at)?) {
                Ok(body) => {
                    bodies.insert(key(&body.head), body);
                }
                Err(error) => warn!(path = %path.display(), %error, "not an undecided block, left aside"),
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            bodies,
        })
    }

    /// Makes a body durable. `false`: others proposed too many for this height already, and it is not kept.
    pub(super) fn keep(&mut self, body: Body, own: &PublicKey) -> Result<bool, BodyError> {
        let key = key(&body.head);
        if self.bodies.contains_key(&key) {
            return Ok(true);
        }
        let of_height = self
            .bodies
            .range((key.0, 0, Hash::ZERO)..)
            .take_while(|(other, _)| other.0 == key.0)
            .count();
        if body.head.proposer != *own && of_height >= MAX_PER_HEIGHT {
            return Ok(false);
        }
        self.write(&body).map_err(|source| BodyError::Io {
            path: self.directory.clone(),
            source,
        })?;
        self.bodies.insert(key, body);
        Ok(true)
    }

    /// What `proposer` proposed for a height and round.
    pub(super) fn by_proposer(&self, height: u64, round: u32, proposer: &PublicKey) -> Option<&Body> {
        let mut of_round = self.bodies.range((height, round, Hash::ZERO)..);
        of_round
            .by_ref()
            .take_while(|((h, r, _), _)| (*h, *r) == (height, round))
            .find(|(_, body)| body.head.proposer == *proposer)
            .map(|(_, body)| body)
    }

    /// The body with this block id, of whichever round.
    pub(super) fn get(&self, height: u64, block: Hash) -> Option<&Body> {
        self.of_height(height).find(|body| body.head.block == block)
    }

    /// All bodies of a height, by round.
    pub(super) fn of_height(&self, height: u64) -> impl Iterator<Item = &Body> {
        self.bodies
            .range((height, 0, Hash::ZERO)..)
            .take_while(move |((h, ..), _)| *h == height)
            .map(|(_, body)| body)
    }

    /// Deletes the bodies of heights up to and including `height`, which is committed.
    pub(super) fn prune(&mut self, height: u64) {
        let kept = self.bodies.split_off(&(height.saturating_add(1), 0, Hash::ZERO));
        for body in std::mem::replace(&mut self.bodies, kept).into_values() {
            let path = self.directory.join(name(&body.head));
            if let Err(error) = fs::remove_file(&path) {
                warn!(path = %path.display(), %error, "decided block's body stays until the next start");
            }
        }
    }

    fn write(&self, body: &Body) -> io::Result<()> {
        let path = self.directory.join(name(&body.head));
        let partial = self.directory.join(name(&body.head) + PARTIAL);
        let mut file = File::create(&partial)?;
        file.write_all(&borsh::to_vec(body)?)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(&self.directory)?.sync_all()
    }
}

fn key(head: &Head) -> (u64, u32, Hash) {
    (head.height, head.round, head.block)
}

fn name(head: &Head) -> String {
    format!("{:020}-{:010}-{}", head.height, head.round, head.block)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: PublicKey = PublicKey::from_bytes([1; 32]);
    const THEM: PublicKey = PublicKey::from_bytes([2; 32]);

    fn body(height: u64, round: u32, proposer: PublicKey, block: u8) -> Body {
        let block = Hash::from_bytes([block; 32]);
        Body {
            head: Head {
                height,
                round,
                valid_round: None,
                proposer,
                block,
                size: 3,
            },
            bytes: b"abc".to_vec(),
        }
    }

    #[test]
    fn own_proposal_is_found_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut bodies = Bodies::open(directory.path()).unwrap();
        bodies.keep(body(4, 1, THEM, 9), &US).unwrap();
        bodies.keep(body(4, 1, US, 8), &US).unwrap();
        fs::write(directory.path().join("x.partial"), b"torn").unwrap();
        let bodies = Bodies::open(directory.path()).unwrap();
        assert_eq!(bodies.by_proposer(4, 1, &US), Some(&body(4, 1, US, 8)));
        assert_eq!(bodies.by_proposer(4, 0, &US), None);
        assert_eq!(bodies.get(4, Hash::from_bytes([9; 32])), Some(&body(4, 1, THEM, 9)));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn only_decided_heights_are_pruned() {
        let directory = tempfile::tempdir().unwrap();
        let mut bodies = Bodies::open(directory.path()).unwrap();
        for height in 1..=4 {
            bodies.keep(body(height, 0, US, 1), &US).unwrap();
        }
        bodies.prune(2);
        for bodies in [bodies, Bodies::open(directory.path()).unwrap()] {
            assert!(bodies.by_proposer(2, 0, &US).is_none());
            assert!(bodies.by_proposer(3, 0, &US).is_some());
        }
    }

    #[test]
    fn others_cannot_fill_the_disk_and_our_own_is_always_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut bodies = Bodies::open(directory.path()).unwrap();
        let kept = (0..100)
            .filter(|n| bodies.keep(body(1, 0, THEM, *n), &US).unwrap())
            .count();
        assert_eq!(kept, MAX_PER_HEIGHT);
        assert!(bodies.keep(body(1, 0, US, 200), &US).unwrap());
    }
}
