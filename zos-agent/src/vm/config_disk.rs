//! The disk that carries a guest's configuration, in memory only: it holds the workload's secrets.

use std::{
    fs::File,
    io,
    io::{Seek, Write},
    os::fd::OwnedFd,
};

use node_api::guest::{CONFIG_MAGIC, Config, MAX_CONFIG};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use zeroize::Zeroizing;

/// Why there is no configuration disk.
#[derive(Debug, thiserror::Error)]
pub enum ConfigDiskError {
    /// The configuration is longer than the guest reads.
    #[error("a configuration of {0} bytes; at most {MAX_CONFIG} fit")]
    TooLong(usize),
    /// It is no JSON.
    #[error("write the configuration")]
    Json(#[source] serde_json::Error),
    /// No memory for it.
    #[error("make the configuration disk")]
    Memory(#[source] io::Error),
}

/// The bytes of the disk: magic, length, JSON, zeros up to a multiple of 512.
///
/// # Errors
/// [`ConfigDiskError::TooLong`] or [`ConfigDiskError::Json`].
pub fn encode(config: &Config) -> Result<Zeroizing<Vec<u8>>, ConfigDiskError> {
    let json = Zeroizing::new(serde_json::to_vec(config).map_err(ConfigDiskError::Json)?);
    let length = u32::try_from(json.len()).ok().filter(|_| json.len() <= MAX_CONFIG);
    let length = length.ok_or(ConfigDiskError::TooLong(json.len()))?;
    let mut disk = Zeroizing::new(Vec::with_capacity((12 + json.len()).next_multiple_of(512)));
    disk.extend_from_slice(&CONFIG_MAGIC);
    disk.extend_from_slice(&length.to_le_bytes());
    disk.extend_from_slice(&json);
    let whole = disk.len().next_multiple_of(512);
    disk.resize(whole, 0);
    Ok(disk)
}

/// The disk as a sealed file in memory.
///
/// # Errors
/// [`ConfigDiskError`].
pub fn open(config: &Config) -> Result<OwnedFd, ConfigDiskError> {
    sealed("zos-config", &encode(config)?).map_err(ConfigDiskError::Memory)
}

/// A file in memory that nobody can change any more, read from its beginning.
pub(super) fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    // Whoever inherits the descriptor reads on from its position.
    file.rewind()?;
    fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_file_is_read_from_its_beginning_by_whoever_inherits_it() {
        let mut file = File::from(sealed("test", b"content").unwrap());
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "content");
        assert!(file.write_all(b"more").is_err());
    }
    use crate::{guest_net::Slot, vm::tests::spec};
    use std::os::unix::fs::FileExt;

    #[test]
    fn disk_has_the_form_that_the_guest_reads_and_cannot_be_changed() {
        let config = spec("a").guest_config(Slot::new(0).unwrap());
        let bytes = encode(&config).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        assert_eq!(bytes[..8], CONFIG_MAGIC);
        let length = usize::try_from(u32::from_le_bytes(bytes[8..12].try_into().unwrap())).unwrap();
        assert_eq!(
            serde_json::from_slice::<Config>(&bytes[12..12 + length]).unwrap(),
            config
        );
        assert!(bytes[12 + length..].iter().all(|byte| *byte == 0));
        let file = File::from(open(&config).unwrap());
        assert!(file.write_all_at(b"x", 0).is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn configuration_that_does_not_fit_is_refused() {
        let mut config = spec("a").guest_config(Slot::new(0).unwrap());
        config.process.env = vec![("A".to_owned(), "x".repeat(MAX_CONFIG))];
        assert!(matches!(encode(&config), Err(ConfigDiskError::TooLong(_))));
    }
}
