//! The guest's disks, told apart by their serials, and the configuration that is on one of them.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use node_api::guest::{CONFIG_MAGIC, CONFIG_SERIAL, Config, MAX_CONFIG};

use crate::monotonic::Monotonic;

/// How long a disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Length of what stands before the JSON.
const HEADER: usize = 12;

/// What is wrong with a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No disk has the serial.
    #[error("no disk with serial {serial} within {} s", PATIENCE.as_secs())]
    Missing {
        /// The serial.
        serial: String,
    },
    /// The configuration disk cannot be read.
    #[error("read configuration disk")]
    Read(#[source] io::Error),
    /// The configuration disk does not begin as it should.
    #[error("configuration disk has no configuration")]
    Magic,
    /// The configuration's length is beyond the bound.
    #[error("configuration is {length} bytes, and {MAX_CONFIG} are the most")]
    TooLong {
        /// The length that the disk states.
        length: usize,
    },
    /// The configuration is not the expected JSON. The cause names line and column and quotes no value, since values
    /// are secret.
    #[error("configuration is malformed at line {line} column {column}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
}

/// Waits for the disk with this serial and returns its device file.
///
/// # Errors
/// [`DiskError::Missing`] when it does not appear in time.
pub fn find(serial: &str) -> Result<PathBuf, DiskError> {
    let began = Monotonic::now();
    loop {
        if let Some(name) = find_now(Path::new("/sys/block"), serial) {
            return Ok(Path::new("/dev").join(name));
        }
        if Monotonic::now().since(began) > PATIENCE {
            return Err(DiskError::Missing {
                serial: serial.to_owned(),
            });
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Reads the configuration disk.
///
/// # Errors
/// [`DiskError`] when it is missing, cannot be read or holds no configuration.
pub fn read_config() -> Result<Config, DiskError> {
    let mut disk = File::open(find(CONFIG_SERIAL)?).map_err(DiskError::Read)?;
    parse(&mut disk)
}

fn parse(disk: &mut impl Read) -> Result<Config, DiskError> {
    let mut header = [0; HEADER];
    disk.read_exact(&mut header).map_err(DiskError::Read)?;
    let (magic, length) = header.split_at(CONFIG_MAGIC.len());
    if magic != CONFIG_MAGIC {
        return Err(DiskError::Magic);
    }
    let length = length.try_into().map_or(0, u32::from_le_bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_CONFIG {
        return Err(DiskError::TooLong { length });
    }
    let mut json = vec![0; length];
    disk.read_exact(&mut json).map_err(DiskError::Read)?;
    serde_json::from_slice(&json).map_err(|error| DiskError::Malformed {
        line: error.line(),
        column: error.column(),
    })
}

fn find_now(sys_block: &Path, serial: &str) -> Option<String> {
    for disk in fs::read_dir(sys_block).ok()?.flatten() {
        let found = fs::read_to_string(disk.path().join("serial")).unwrap_or_default();
        if found.trim_end() == serial {
            return disk.file_name().into_string().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use node_api::guest::Process;

    use super::*;

    fn disk(json: &[u8]) -> Vec<u8> {
        let mut bytes = CONFIG_MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(json);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn config() -> Config {
        let process = Process {
            argv: vec!["x".to_owned()],
            env: vec![("SECRET".to_owned(), "hunter2".to_owned())],
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
        };
        Config {
            hostname: "h".to_owned(),
            process,
            network: None,
            volumes: Vec::new(),
        }
    }

    #[test]
    fn a_configuration_is_read_whatever_follows_it() {
        let bytes = disk(&serde_json::to_vec(&config()).unwrap());
        assert_eq!(parse(&mut bytes.as_slice()).unwrap(), config());
    }

    #[test]
    fn bad_disks_are_refused_without_a_word_of_their_secrets() {
        assert!(matches!(parse(&mut [0_u8; 512].as_slice()), Err(DiskError::Magic)));
        assert!(matches!(parse(&mut [0_u8; 3].as_slice()), Err(DiskError::Read(_))));
        let mut long = CONFIG_MAGIC.to_vec();
        long.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(parse(&mut long.as_slice()), Err(DiskError::TooLong { .. })));
        let bad = serde_json::to_string(&config())
            .unwrap()
            .replace("\"uid\":0", "\"uid\":\"hunter2\"");
        let error = parse(&mut disk(bad.as_bytes()).as_slice()).unwrap_err();
        assert!(!error_line::with_causes(&error).contains("hunter2"), "{error}");
    }

    #[test]
    fn disks_are_told_apart_by_serial() {
        let dir = tempfile::tempdir().unwrap();
        for (name, serial) in [("vda", "zos-config\n"), ("vdb", "zos-root")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("serial"), serial).unwrap();
        }
        assert_eq!(find_now(dir.path(), "zos-root").as_deref(), Some("vdb"));
        assert_eq!(find_now(dir.path(), "zos-config").as_deref(), Some("vda"));
        assert_eq!(find_now(dir.path(), "zos"), None);
    }
}
