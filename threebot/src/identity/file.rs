//! The identity file: the seeds, encrypted by a passphrase. `docs/format/identity.md` says what stands in it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use data_encoding::HEXLOWER;
use ledger::Id;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{Identity, MAX_FORMER, Seed};

/// Longest identity file in bytes.
pub const MAX_IDENTITY_FILE: u64 = 4_096;
/// Memory of argon2id in KiB, its passes and lanes: the second recommended choice of RFC 9106, section 4.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Most memory and passes that a file may ask for.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 64;
/// Goes into the cipher's associated data, with the entity.
const FORMAT: &str = "zos threebot identity 2";

/// How the seeds lie on the disk.
#[derive(Debug, Clone)]
pub enum Protection {
    /// Encrypted by this passphrase.
    Passphrase(Zeroizing<String>),
    /// Readable by whoever can read the file.
    Plain,
}

/// Why an identity file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// There is one already, and it is not overwritten.
    #[error("{0} exists; an identity is never overwritten, choose another --home")]
    Exists(PathBuf),
    /// There is none.
    #[error("{0} does not exist; run `threebot init` first")]
    Absent(PathBuf),
    /// It cannot be read or written.
    #[error("identity file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It is not of this format.
    #[error("{path} is not an identity file: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// It needs a passphrase and none was given.
    #[error(
        "the identity is encrypted; give the passphrase by $THREEBOT_PASSPHRASE, --passphrase-file or at the prompt"
    )]
    PassphraseNeeded,
    /// The passphrase is wrong or the file damaged; which of the two cannot be told apart.
    #[error("wrong passphrase, or a damaged identity file")]
    WrongPassphrase,
    /// The system gives no randomness, or no memory for the key.
    #[error("derive the file's key: {0}")]
    Derivation(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
enum Stored {
    Sealed {
        format: String,
        entity: Id,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: String,
        nonce: String,
        ciphertext: String,
    },
    Plain {
        format: String,
        entity: Id,
        secret: String,
    },
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Self::Plain { secret, .. } = self {
            secret.zeroize();
        }
    }
}

/// An identity file, and how what it holds is protected.
#[derive(Debug, Clone)]
pub struct IdentityFile {
    path: PathBuf,
    protection: Protection,
}

impl IdentityFile {
    /// Writes a new identity file, readable by its owner alone.
    ///
    /// # Errors
    /// [`IdentityFileError::Exists`] when there is one; otherwise why it could not be written.
    pub fn create(path: &Path, identity: &Identity, protection: Protection) -> Result<Self, IdentityFileError> {
        let file = Self {
            path: path.to_owned(),
            protection,
        };
        file.write(identity, |partial| fs::hard_link(partial, path))?;
        Ok(file)
    }

    /// Opens an identity file. `passphrase` is asked only when it is encrypted.
    ///
    /// # Errors
    /// [`IdentityFileError`] says why not.
    pub fn open(
        path: &Path,
        passphrase: impl FnOnce() -> Option<Zeroizing<String>>,
    ) -> Result<(Self, Identity), IdentityFileError> {
        let io_error = |source| IdentityFileError::Io {
            path: path.to_owned(),
            source,
        };
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityFileError::Absent(path.to_owned()));
            }
            other => other.map_err(io_error)?,
        };
        let mut text = Zeroizing::new(Vec::new());
        file.take(MAX_IDENTITY_FILE).read_to_end(&mut text).map_err(io_error)?;
        let bad = |reason: String| IdentityFileError::Format {
            path: path.to_owned(),
            reason,
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let (protection, identity) = match &stored {
            Stored::Plain { format, entity, secret } if format == FORMAT => {
                let secret = HEXLOWER.decode(secret.as_bytes()).map(Zeroizing::new);
                let secret = secret.map_err(|error| bad(error.to_string()))?;
                (Protection::Plain, unpack(*entity, &secret).map_err(bad)?)
            }
            Stored::Sealed { format, .. } if format == FORMAT => {
                let passphrase = passphrase().ok_or(IdentityFileError::PassphraseNeeded)?;
                let identity = decrypt(&stored, &passphrase, bad)?;
                (Protection::Passphrase(passphrase), identity)
            }
            _ => return Err(bad("its format is not known".into())),
        };
        let file = Self {
            path: path.to_owned(),
            protection,
        };
        Ok((file, identity))
    }

    /// Puts an identity in the place of the one that the file holds: either stays whole, whatever happens.
    ///
    /// # Errors
    /// [`IdentityFileError`] says why not; the file then is as it was.
    pub fn replace(&self, identity: &Identity) -> Result<(), IdentityFileError> {
        self.write(identity, |partial| {
            fs::rename(partial, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        })
    }

    /// Makes the file complete under another name, so that a full disk leaves no half identity, and puts it in its place.
    fn write(&self, identity: &Identity, put: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), IdentityFileError> {
        let io_error = |source| IdentityFileError::Io {
            path: self.path.clone(),
            source,
        };
        let stored = match &self.protection {
            Protection::Passphrase(passphrase) => encrypt(identity, passphrase)?,
            Protection::Plain => Stored::Plain {
                format: FORMAT.into(),
                entity: identity.id(),
                secret: HEXLOWER.encode(&pack(identity)),
            },
        };
        let text = serde_json::to_vec_pretty(&stored).map(Zeroizing::new);
        let text = text.map_err(|error| io_error(io::Error::other(error)))?;
        let partial = self.path.with_extension("partial");
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            put(&partial)
        })();
        let _ = fs::remove_file(&partial);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(IdentityFileError::Exists(self.path.clone()))
            }
            other => other.map_err(io_error),
        }
    }
}

/// The seeds: 1 if there is a next one, otherwise 0; the current, the next, the former.
fn pack(identity: &Identity) -> Zeroizing<Vec<u8>> {
    let seeds = std::iter::once(&identity.current)
        .chain(&identity.next)
        .chain(&identity.former);
    // Of its full length from the start: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + 32 * seeds.clone().count()));
    bytes.push(u8::from(identity.next.is_some()));
    seeds.for_each(|seed| bytes.extend_from_slice(seed.bytes()));
    bytes
}

/// Back from [`pack`].
fn unpack(entity: Id, bytes: &[u8]) -> Result<Identity, String> {
    let wrong = || "its secret is not that of an identity".to_owned();
    let (flag, seeds) = bytes.split_first().ok_or_else(wrong)?;
    let (chunks, rest) = seeds.as_chunks::<32>();
    let mut seeds = chunks.iter().map(|bytes| Seed::from_bytes(Zeroizing::new(*bytes)));
    let current = seeds.next().ok_or_else(wrong)?;
    let next = match flag {
        0 => None,
        1 => Some(seeds.next().ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    let former: Vec<Seed> = seeds.collect();
    if !rest.is_empty() || former.len() > MAX_FORMER {
        return Err(wrong());
    }
    Ok(Identity {
        entity,
        current,
        next,
        former,
    })
}

fn associated(entity: Id) -> String {
    format!("{FORMAT} {entity}")
}

fn encrypt(identity: &Identity, passphrase: &str) -> Result<Stored, IdentityFileError> {
    let mut drawn = [0_u8; 28];
    getrandom::fill(&mut drawn).map_err(|error| IdentityFileError::Derivation(error.to_string()))?;
    let (salt, nonce) = drawn.split_at(16);
    let key = derive(passphrase, salt, (MEMORY_KIB, PASSES, LANES))?;
    let (secret, associated) = (pack(identity), associated(identity.id()));
    let payload = Payload {
        msg: &secret,
        aad: associated.as_bytes(),
    };
    let nonce = <[u8; 12]>::try_from(nonce).expect("28 bytes less 16 are 12");
    let ciphertext = ChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&Nonce::from(nonce), payload)
        .expect("so few bytes can be encrypted");
    Ok(Stored::Sealed {
        format: FORMAT.into(),
        entity: identity.id(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt: HEXLOWER.encode(salt),
        nonce: HEXLOWER.encode(&nonce),
        ciphertext: HEXLOWER.encode(&ciphertext),
    })
}

fn decrypt(
    stored: &Stored,
    passphrase: &str,
    bad: impl Fn(String) -> IdentityFileError,
) -> Result<Identity, IdentityFileError> {
    let Stored::Sealed {
        entity,
        memory_kib,
        passes,
        lanes,
        salt,
        nonce,
        ciphertext,
        ..
    } = stored
    else {
        return Err(bad("it is not encrypted".into()));
    };
    if *memory_kib > MAX_MEMORY_KIB || *passes > MAX_PASSES {
        return Err(bad("it asks for more memory or passes than any identity file".into()));
    }
    let salt = unhex::<16>(salt).map_err(&bad)?;
    let nonce = unhex::<12>(nonce).map_err(&bad)?;
    let ciphertext = HEXLOWER
        .decode(ciphertext.as_bytes())
        .map_err(|error| bad(error.to_string()))?;
    let key = derive(passphrase, &salt, (*memory_kib, *passes, *lanes))?;
    let associated = associated(*entity);
    let payload = Payload {
        msg: &ciphertext,
        aad: associated.as_bytes(),
    };
    let secret = ChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| IdentityFileError::WrongPassphrase)?;
    unpack(*entity, &secret).map_err(bad)
}

fn derive(
    passphrase: &str,
    salt: &[u8],
    (memory_kib, passes, lanes): (u32, u32, u32),
) -> Result<Zeroizing<[u8; 32]>, IdentityFileError> {
    let failed = |error: argon2::Error| IdentityFileError::Derivation(error.to_string());
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(failed)?;
    Ok(key)
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|error| error.to_string())?;
    bytes.try_into().map_err(|_| format!("a field has not {N} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn seed(byte: u8) -> Seed {
        Seed::from_bytes(Zeroizing::new([byte; 32]))
    }

    fn identity() -> Identity {
        Identity::founded(seed(7))
    }

    fn passphrase(text: &str) -> Protection {
        Protection::Passphrase(Zeroizing::new(text.to_owned()))
    }

    fn given(text: &str) -> impl FnOnce() -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(text.to_owned());
        move || Some(text)
    }

    fn same(one: &Identity, other: &Identity) -> bool {
        one.id() == other.id() && pack(one) == pack(other)
    }

    #[test]
    fn the_passphrase_and_no_other_opens_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        let file = IdentityFile::create(&path, &identity(), passphrase("correct horse")).unwrap();
        let open = |given| IdentityFile::open(&path, given);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(same(&open(given("correct horse")).unwrap().1, &identity()));
        assert!(matches!(open(given("wrong")), Err(IdentityFileError::WrongPassphrase)));
        assert!(matches!(
            IdentityFile::open(&path, || None),
            Err(IdentityFileError::PassphraseNeeded)
        ));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("0707"), "{text}");

        // Another entity's id is not taken with these seeds.
        let other = Identity::founded(seed(8)).id();
        fs::write(&path, text.replace(&identity().id().to_string(), &other.to_string())).unwrap();
        assert!(matches!(
            open(given("correct horse")),
            Err(IdentityFileError::WrongPassphrase)
        ));
        // What takes the file's place is under the same passphrase.
        let renewed = identity().with_next(seed(9));
        file.replace(&renewed).unwrap();
        assert!(same(&open(given("correct horse")).unwrap().1, &renewed));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_seeds_come_back_and_the_file_stays_within_its_bound() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        let mut identity = identity();
        let file = IdentityFile::create(&path, &identity, Protection::Plain).unwrap();
        for byte in 8..=60 {
            identity = identity.with_next(seed(byte));
            for identity in [&identity, &identity.clone().renewed()] {
                file.replace(identity).unwrap();
                let never = || panic!("asked for a passphrase");
                assert!(same(&IdentityFile::open(&path, never).unwrap().1, identity));
            }
            identity = identity.renewed();
        }
        let sealed = IdentityFile {
            path: path.clone(),
            protection: passphrase("x"),
        };
        sealed.replace(&identity.with_next(seed(61))).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < MAX_IDENTITY_FILE);
    }

    #[test]
    fn an_identity_is_never_overwritten_and_a_missing_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        let open = || IdentityFile::open(&path, || None);
        assert!(matches!(open(), Err(IdentityFileError::Absent(_))));
        IdentityFile::create(&path, &identity(), Protection::Plain).unwrap();
        let other = Identity::founded(seed(8));
        assert!(matches!(
            IdentityFile::create(&path, &other, Protection::Plain),
            Err(IdentityFileError::Exists(_))
        ));
        assert!(same(&open().unwrap().1, &identity()));
    }

    #[test]
    fn garbage_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        IdentityFile::create(&path, &identity(), Protection::Plain).unwrap();
        let right = fs::read_to_string(&path).unwrap();
        let secret = HEXLOWER.encode(&pack(&identity()));
        let texts = [
            String::new(),
            "{}".to_owned(),
            right.replace(FORMAT, "other"),
            right.replace(&secret, ""),
            right.replace(&secret, "00"),
            right.replace(&secret, &secret[..64]),
            // A next one that is not there, and a flag that is none.
            right.replace(&secret, &secret.replacen("00", "01", 1)),
            right.replace(&secret, &secret.replacen("00", "02", 1)),
            right.replace(&secret, &format!("{secret}{}", "07".repeat(32 * MAX_FORMER + 32))),
        ];
        for text in texts {
            fs::write(&path, &text).unwrap();
            assert!(
                matches!(
                    IdentityFile::open(&path, || None),
                    Err(IdentityFileError::Format { .. })
                ),
                "{text}"
            );
        }
    }
}
