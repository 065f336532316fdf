//! Files of JSON that appear whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::Serialize;

use super::HomeError;

/// Reads a file.
pub(super) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, HomeError> {
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

/// Reads a file that some command writes: what it holds and which command are named when it is not so.
pub(super) fn read_made_by<T: serde::de::DeserializeOwned>(
    path: &Path,
    what: &str,
    made_by: &'static str,
) -> Result<T, HomeError> {
    read(path).map_err(|error| match error {
        HomeError::Missing(path) => HomeError::NotMade { path, made_by },
        HomeError::Malformed { path, reason } => HomeError::Malformed {
            path,
            reason: format!("no {what} ({reason}); {made_by} writes one"),
        },
        error => error,
    })
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> Result<(), HomeError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(HomeError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Writes a file that is not there yet: whole and on stable storage under another name, then by its own.
pub(super) fn write_new(path: &Path, mode: u32, content: &impl Serialize) -> Result<(), HomeError> {
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
