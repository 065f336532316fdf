//! The identity file: the seed, encrypted by a passphrase. `docs/format/identity.md` says what stands in it.

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
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::Identity;

/// Longest identity file in bytes.
pub const MAX_IDENTITY_FILE: u64 = 4_096;
/// Memory of argon2id in KiB, its passes and lanes: the second recommended choice of RFC 9106, section 4.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Most memory and passes that a file may ask for.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 64;
/// Goes into the cipher's associated data.
const FORMAT: &str = "zos threebot identity 1";

/// How the seed lies on the disk.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// Encrypted by this passphrase.
    Passphrase(&'a str),
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
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: String,
        nonce: String,
        ciphertext: String,
    },
    Plain {
        format: String,
        seed: String,
    },
}

impl Drop for Stored {
    fn drop(&mut self) {
        if let Self::Plain { seed, .. } = self {
            seed.zeroize();
        }
    }
}

/// Writes a new identity file, readable by its owner alone.
///
/// # Errors
/// [`IdentityFileError::Exists`] when there is one; otherwise why it could not be written.
pub fn write(path: &Path, identity: &Identity, protection: Protection<'_>) -> Result<(), IdentityFileError> {
    let io_error = |source| IdentityFileError::Io {
        path: path.to_owned(),
        source,
    };
    let stored = match protection {
        Protection::Passphrase(passphrase) => encrypt(identity, passphrase)?,
        Protection::Plain => Stored::Plain {
            format: FORMAT.into(),
            seed: HEXLOWER.encode(identity.seed()),
        },
    };
    let text = serde_json::to_vec_pretty(&stored).map(Zeroizing::new);
    let text = text.map_err(|error| io_error(io::Error::other(error)))?;
    // Made complete under another name first, so that a full disk leaves no half identity.
    let partial = path.with_extension("partial");
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::hard_link(&partial, path)
    })();
    let _ = fs::remove_file(&partial);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(IdentityFileError::Exists(path.to_owned())),
        other => other.map_err(io_error),
    }
}

/// Reads an identity file. `passphrase` is asked only when the file is encrypted.
///
/// # Errors
/// [`IdentityFileError`] says why not.
pub fn read(
    path: &Path,
    passphrase: impl FnOnce() -> Option<Zeroizing<String>>,
) -> Result<Identity, IdentityFileError> {
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
    match &stored {
        Stored::Plain { format, seed } if format == FORMAT => {
            let seed = unhex::<32>(seed).map_err(bad)?;
            Ok(Identity::from_seed(Zeroizing::new(seed)))
        }
        Stored::Sealed { format, .. } if format == FORMAT => {
            let passphrase = passphrase().ok_or(IdentityFileError::PassphraseNeeded)?;
            decrypt(&stored, &passphrase, bad)
        }
        _ => Err(bad("its format is not known".into())),
    }
}

fn encrypt(identity: &Identity, passphrase: &str) -> Result<Stored, IdentityFileError> {
    let mut drawn = [0_u8; 28];
    getrandom::fill(&mut drawn).map_err(|error| IdentityFileError::Derivation(error.to_string()))?;
    let (salt, nonce) = drawn.split_at(16);
    let key = derive(passphrase, salt, (MEMORY_KIB, PASSES, LANES))?;
    let payload = Payload {
        msg: identity.seed(),
        aad: FORMAT.as_bytes(),
    };
    let nonce = <[u8; 12]>::try_from(nonce).expect("28 bytes less 16 are 12");
    let ciphertext = ChaCha20Poly1305::new(&Key::from(*key))
        .encrypt(&Nonce::from(nonce), payload)
        .expect("32 bytes can be encrypted");
    Ok(Stored::Sealed {
        format: FORMAT.into(),
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
    let ciphertext = unhex::<48>(ciphertext).map_err(&bad)?;
    let key = derive(passphrase, &salt, (*memory_kib, *passes, *lanes))?;
    let payload = Payload {
        msg: &ciphertext,
        aad: FORMAT.as_bytes(),
    };
    let seed = ChaCha20Poly1305::new(&Key::from(*key))
        .decrypt(&Nonce::from(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| IdentityFileError::WrongPassphrase)?;
    let seed = <[u8; 32]>::try_from(seed.as_slice()).map_err(|_| IdentityFileError::WrongPassphrase)?;
    Ok(Identity::from_seed(Zeroizing::new(seed)))
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

    fn identity() -> Identity {
        Identity::from_seed(Zeroizing::new([7; 32]))
    }

    fn given(text: &str) -> impl FnOnce() -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(text.to_owned());
        move || Some(text)
    }

    #[test]
    fn the_passphrase_and_no_other_opens_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        write(&path, &identity(), Protection::Passphrase("correct horse")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&path, given("correct horse")).unwrap().id(), identity().id());
        assert!(matches!(
            read(&path, given("wrong")),
            Err(IdentityFileError::WrongPassphrase)
        ));
        assert!(matches!(read(&path, || None), Err(IdentityFileError::PassphraseNeeded)));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("0707"), "{text}");
    }

    #[test]
    fn a_plain_file_asks_for_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        write(&path, &identity(), Protection::Plain).unwrap();
        let never = || panic!("asked for a passphrase");
        assert_eq!(read(&path, never).unwrap().id(), identity().id());
    }

    #[test]
    fn an_identity_is_never_overwritten_and_a_missing_one_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        assert!(matches!(read(&path, || None), Err(IdentityFileError::Absent(_))));
        write(&path, &identity(), Protection::Plain).unwrap();
        let other = Identity::from_seed(Zeroizing::new([8; 32]));
        assert!(matches!(
            write(&path, &other, Protection::Plain),
            Err(IdentityFileError::Exists(_))
        ));
        assert_eq!(read(&path, || None).unwrap().id(), identity().id());
    }

    #[test]
    fn garbage_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("identity.json");
        for text in ["", "{}", "{\"kind\":\"plain\",\"format\":\"other\",\"seed\":\"00\"}"] {
            fs::write(&path, text).unwrap();
            assert!(
                matches!(read(&path, || None), Err(IdentityFileError::Format { .. })),
                "{text}"
            );
        }
    }
}
