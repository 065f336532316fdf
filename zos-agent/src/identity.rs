//! The node's identity: three keys, made once, kept on every data disk, found again.
//!
//! The file is described in `docs/format/node.md`. It is written whole or not at all, so a file that does not hold its
//! checksum was damaged or tampered with, and is never replaced by a new identity in silence: a node without its keys is
//! another node.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use ledger::{
    Id,
    body::{Keys, Node},
};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::durable;

/// Where the file is on each data disk.
pub const FILE: &str = "identity/node.key";
/// Length of the file in bytes.
pub const FILE_BYTES: usize = 8 + 3 * 32 + 32;
const MAGIC: [u8; 8] = *b"ZOSNODE1";
const CHECKSUM_CONTEXT: &str = "ZOS 2026 node identity file checksum";

/// The secret keys of a node. They leave the agent's memory only into the identity file.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Identity {
    signing: [u8; 32],
    link: [u8; 32],
    encryption: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Identity({})",
            data_encoding::HEXLOWER.encode(self.signing_key().verifying_key().as_bytes())
        )
    }
}

impl Identity {
    /// Makes new keys from the system's randomness.
    ///
    /// # Errors
    /// The system gave no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seeds = Zeroizing::new([0; 96]);
        getrandom::fill(seeds.as_mut()).map_err(|error| IdentityError::Random(error.into()))?;
        Ok(Self::from_seeds(&seeds))
    }

    fn from_seeds(seeds: &[u8; 96]) -> Self {
        let seed = |at: usize| std::array::from_fn(|i| seeds[at + i]);
        Self {
            signing: seed(0),
            link: seed(32),
            encryption: seed(64),
        }
    }

    /// Signs the node's records and reports.
    #[must_use]
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.signing)
    }

    /// Authenticates the node's end of a peer link.
    #[must_use]
    pub fn link_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.link)
    }

    /// Opens what was sealed for the node.
    #[must_use]
    pub fn encryption_key(&self) -> StaticSecret {
        StaticSecret::from(self.encryption)
    }

    /// What others know of the keys.
    #[must_use]
    pub fn public(&self) -> Keys {
        Keys {
            signing: ledger::SigningKey::from_seed(&self.signing).public(),
            link: ledger::PublicKey::from_bytes(self.link_key().verifying_key().to_bytes()),
            encryption: workload::EncryptionKey::from_seed(&self.encryption).public(),
        }
    }

    /// The node's id, which follows from its first keys.
    #[must_use]
    pub fn node(&self) -> Id {
        Node::founding_id(&self.public())
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES));
        bytes.extend_from_slice(&MAGIC);
        for seed in [&self.signing, &self.link, &self.encryption] {
            bytes.extend_from_slice(seed);
        }
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`Damage`] that names what does not hold.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        if bytes.len() < 8 || bytes[..7] != MAGIC[..7] {
            return Err(Damage::NotAnIdentity);
        }
        if bytes[7] != MAGIC[7] {
            return Err(Damage::Version(bytes[7]));
        }
        if bytes.len() != FILE_BYTES {
            return Err(Damage::Length(bytes.len()));
        }
        let (body, sum) = bytes.split_at(FILE_BYTES - 32);
        if sum != checksum(body) {
            return Err(Damage::Checksum);
        }
        let seeds: Zeroizing<[u8; 96]> = Zeroizing::new(body[8..].try_into().map_err(|_| Damage::Length(bytes.len()))?);
        Ok(Self::from_seeds(&seeds))
    }
}

fn checksum(body: &[u8]) -> [u8; 32] {
    blake3::derive_key(CHECKSUM_CONTEXT, body)
}

/// What does not hold in an identity file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The first bytes are not ours.
    #[error("it is not an identity file")]
    NotAnIdentity,
    /// A version that this release does not know.
    #[error("its version byte is {0:#04x}, which this release does not know")]
    Version(u8),
    /// Too long or too short.
    #[error("it has {0} bytes instead of {FILE_BYTES}")]
    Length(usize),
    /// The checksum does not hold.
    #[error("its checksum does not hold")]
    Checksum,
    /// Others than root may read or write it, or it is no plain file.
    #[error("others than the agent could have read or written it (mode {0:o}, owner {1})")]
    Mode(u32, u32),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Why the node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Copies on two disks are different identities.
    #[error("{} and {} hold different identities; remove the disk that is not this node's", .0.display(), .1.display())]
    Disagree(PathBuf, PathBuf),
    /// Copies exist, and none of them holds.
    #[error("the identity in {} is damaged", .0.display())]
    Damaged(PathBuf, #[source] Damage),
    /// A copy could not be written.
    #[error("write the identity to {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// The system gave no random bytes.
    #[error("make an identity")]
    Random(#[source] io::Error),
    /// There is no data disk to keep it on.
    #[error("no data disk to keep an identity on")]
    NoDisk,
}

/// What one data disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// No identity file.
    Absent,
    /// A file that holds.
    Valid(Identity),
    /// A file that does not hold.
    Damaged(Damage),
}

/// What is to be done about the copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is the identity; write it to these disks.
    Keep(Identity, Vec<PathBuf>),
    /// No disk has one: make one and write it to all.
    Make,
}

/// Decides which identity holds. A damaged copy is replaced by a valid one from another disk, never by a new identity.
///
/// # Errors
/// [`IdentityError::Disagree`], [`IdentityError::Damaged`] or [`IdentityError::NoDisk`].
pub fn judge(copies: &[(PathBuf, Copy)]) -> Result<Verdict, IdentityError> {
    let mut kept: Option<(&PathBuf, &Identity)> = None;
    for (path, copy) in copies {
        match (copy, kept) {
            (Copy::Valid(identity), None) => kept = Some((path, identity)),
            (Copy::Valid(identity), Some((first, held))) if identity != held => {
                return Err(IdentityError::Disagree(first.clone(), path.clone()));
            }
            _ => {}
        }
    }
    if let Some((_, identity)) = kept {
        let missing = copies.iter().filter(|(_, copy)| !matches!(copy, Copy::Valid(_)));
        return Ok(Verdict::Keep(
            identity.clone(),
            missing.map(|(path, _)| path.clone()).collect(),
        ));
    }
    for (path, copy) in copies {
        if let Copy::Damaged(damage) = copy {
            return Err(IdentityError::Damaged(path.clone(), damage.clone()));
        }
    }
    if copies.is_empty() {
        Err(IdentityError::NoDisk)
    } else {
        Ok(Verdict::Make)
    }
}

/// Finds the identity on the data disks mounted at `directories`, makes one if none of them has one, and sees to it that each
/// holds a copy.
///
/// # Errors
/// [`IdentityError`].
pub fn load_or_make(directories: &[PathBuf]) -> Result<Identity, IdentityError> {
    let copies: Vec<_> = directories
        .iter()
        .map(|directory| (directory.join(FILE), read(directory)))
        .collect();
    let (identity, missing) = match judge(&copies)? {
        Verdict::Keep(identity, missing) => (identity, missing),
        Verdict::Make => (
            Identity::generate()?,
            copies.into_iter().map(|(path, _)| path).collect(),
        ),
    };
    for path in missing {
        write(&path, &identity).map_err(|source| IdentityError::Write(path, source))?;
    }
    Ok(identity)
}

/// What the data disk mounted at `directory` holds.
#[must_use]
pub fn read(directory: &Path) -> Copy {
    let path = directory.join(FILE);
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Copy::Absent,
        Err(error) => return Copy::Damaged(Damage::Unreadable(error.to_string())),
    };
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 || metadata.uid() != own {
        return Copy::Damaged(Damage::Mode(metadata.mode() & 0o7777, metadata.uid()));
    }
    if usize::try_from(metadata.len()) != Ok(FILE_BYTES) {
        return Copy::Damaged(Damage::Length(usize::try_from(metadata.len()).unwrap_or(usize::MAX)));
    }
    match fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => Identity::decode(&bytes).map_or_else(Copy::Damaged, Copy::Valid),
        Err(error) => Copy::Damaged(Damage::Unreadable(error.to_string())),
    }
}

fn write(path: &Path, identity: &Identity) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    durable::sync_parent(directory)?;
    durable::write(path, &identity.encode(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn disks(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let disks: Vec<_> = (0..count).map(|n| root.path().join(n.to_string())).collect();
        disks.iter().for_each(|disk| fs::create_dir(disk).unwrap());
        (root, disks)
    }

    #[test]
    fn identity_is_made_once_and_found_again_on_every_disk() {
        let (_root, disks) = disks(2);
        let made = load_or_make(&disks[..1]).unwrap();
        assert_eq!(load_or_make(&disks).unwrap(), made);
        assert_eq!(load_or_make(&disks[1..]).unwrap(), made, "the second disk got its copy");
        let path = disks[1].join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_ne!(made.signing, made.link);
        assert_ne!(made.link, made.encryption);
    }

    #[test]
    fn every_flipped_bit_and_every_shortening_is_noticed() {
        let bytes = Identity::generate().unwrap().encode();
        for at in 0..bytes.len() {
            let mut tampered = bytes.to_vec();
            tampered[at] ^= 1;
            assert!(Identity::decode(&tampered).is_err(), "byte {at}");
            assert!(Identity::decode(&bytes[..at]).is_err(), "length {at}");
        }
        assert!(Identity::decode(&bytes).is_ok());
    }

    #[test]
    fn damaged_copy_is_healed_by_a_good_one_and_alone_it_is_never_replaced() {
        let (_root, disks) = disks(2);
        let made = load_or_make(&disks).unwrap();
        let path = disks[0].join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 0xff;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(
            load_or_make(&disks[..1]).unwrap_err(),
            IdentityError::Damaged(_, Damage::Checksum)
        ));
        assert_eq!(fs::read(&path).unwrap(), bytes, "the damaged file is kept");
        assert_eq!(load_or_make(&disks).unwrap(), made);
        assert_eq!(load_or_make(&disks[..1]).unwrap(), made);
    }

    #[test]
    fn disks_of_two_nodes_are_refused() {
        let (_root, disks) = disks(2);
        load_or_make(&disks[..1]).unwrap();
        load_or_make(&disks[1..]).unwrap();
        assert!(matches!(load_or_make(&disks).unwrap_err(), IdentityError::Disagree(..)));
    }

    #[test]
    fn file_that_others_could_read_does_not_hold() {
        let (_root, disks) = disks(1);
        load_or_make(&disks).unwrap();
        fs::set_permissions(disks[0].join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            load_or_make(&disks).unwrap_err(),
            IdentityError::Damaged(_, Damage::Mode(0o640, _))
        ));
    }

    #[test]
    fn no_disk_is_said_plainly() {
        assert!(matches!(load_or_make(&[]).unwrap_err(), IdentityError::NoDisk));
    }
}
