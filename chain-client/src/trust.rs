//! The verified head over a restart: a file that is replaced whole.
//!
//! ```text
//! 0   8  "ZOSTRST1"
//! 8   .. LightClient in Borsh
//! end 32 blake3 of all before
//! ```

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use ledger::{
    LightClient,
    encoding::{decode, encode},
};

use crate::{ClientError, Reason};

const MAGIC: &[u8; 8] = b"ZOSTRST1";
/// A set of 100 validators and a header are below 10 KiB.
const MAX_FILE: usize = 64 * 1024;

/// Where the verified head is kept, if anywhere.
#[derive(Debug, Clone)]
pub(crate) struct TrustFile(Option<PathBuf>);

impl TrustFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    fn error(path: &Path, source: io::Error) -> ClientError {
        let path = path.to_owned();
        ClientError::Trust { path, source }
    }

    /// What was kept. A damaged file is an error and not a fresh start: acting on an older head could undo what was agreed.
    pub(crate) fn load(&self) -> Result<Option<LightClient>, ClientError> {
        let Some(path) = &self.0 else {
            return Ok(None);
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Self::error(path, error)),
        };
        let damaged = || {
            let text = "the file is damaged; remove it to verify again from the genesis";
            Self::error(path, io::Error::new(io::ErrorKind::InvalidData, text))
        };
        let (content, sum) = bytes.split_last_chunk::<32>().ok_or_else(damaged)?;
        if blake3::hash(content).as_bytes() != sum {
            return Err(damaged());
        }
        let body = content.strip_prefix(MAGIC).ok_or_else(damaged)?;
        decode(body, MAX_FILE).map(Some).map_err(|_| damaged())
    }

    /// Keeps what was verified; on stable storage when it returns.
    pub(crate) fn store(&self, light: &LightClient) -> Result<(), Reason> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        let mut content = MAGIC.to_vec();
        content.extend_from_slice(&encode(light));
        let sum = blake3::hash(&content);
        content.extend_from_slice(sum.as_bytes());
        replace(path, &content).map_err(|source| Reason::Disk {
            path: path.clone(),
            source,
        })
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Genesis, SigningKey, Timestamp, Validator, ValidatorSet, genesis::Issuance, text::Text};

    use super::*;

    fn light() -> LightClient {
        let key = SigningKey::from_seed(&[1; 32]).public();
        let genesis = Genesis {
            name: Text::lossy("test"),
            time: Timestamp::from_millis(0),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: ledger::Tokens::from_micro(5),
            validators: ValidatorSet::new(vec![Validator {
                key,
                link: key,
                power: 1,
            }])
            .unwrap(),
            entities: vec![],
            issuance: Issuance::Fixed,
        };
        LightClient::new(genesis.hash(), &genesis).unwrap()
    }

    #[test]
    fn what_was_kept_comes_back_and_a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let file = TrustFile::new(Some(path.clone()));
        assert!(file.load().unwrap().is_none());
        file.store(&light()).unwrap();
        assert_eq!(file.load().unwrap(), Some(light()));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(file.load().is_err());
    }
    #[test]
    fn a_full_disk_is_named_and_what_was_kept_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head");
        let file = TrustFile::new(Some(path.clone()));
        file.store(&light()).unwrap();
        std::os::unix::fs::symlink("/dev/full", path.with_extension("next")).unwrap();
        let failed = file.store(&light());
        let full = |source: &io::Error| source.kind() == io::ErrorKind::StorageFull;
        assert!(
            matches!(&failed, Err(Reason::Disk { source, .. }) if full(source)),
            "{failed:?}"
        );
        assert_eq!(file.load().unwrap(), Some(light()));
    }
}
