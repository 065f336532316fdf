//! Replacing a file so that it is whole and on disk, old or new, whatever happens meanwhile.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::home::HomeError;

/// A file's new content, beside it until it takes its place. Dropped before that, it leaves the old one as it was.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    partial: PathBuf,
    file: fs::File,
}

impl Replacement {
    /// Begins, so that whoever has something to lose meanwhile learns first whether the file can be written.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn begin(path: &Path) -> Result<Self, HomeError> {
        let failed = |source| at(path, source);
        if path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let partial = path.with_extension("partial");
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        Ok(Self {
            path: path.to_owned(),
            file: options.open(&partial).map_err(failed)?,
            partial,
        })
    }

    /// Puts the content in the file's place. It is readable by its owner alone.
    ///
    /// # Errors
    /// [`HomeError::Io`].
    pub fn finish(mut self, content: &[u8]) -> Result<(), HomeError> {
        let written = (|| {
            self.file.write_all(content)?;
            self.file.sync_all()?;
            fs::rename(&self.partial, &self.path)?;
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
        })();
        written.map_err(|source| at(&self.path, source))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After the end it is not there any more.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Replaces a file at once. It is readable by its owner alone.
///
/// # Errors
/// [`HomeError::Io`].
pub fn replace(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    Replacement::begin(path)?.finish(content)
}

fn at(path: &Path, source: io::Error) -> HomeError {
    HomeError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_the_old_content_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("media.json");
        replace(&path, b"old").unwrap();
        drop(Replacement::begin(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        Replacement::begin(&path).unwrap().finish(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_written_is_said_at_the_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("nowhere/media.json");
        for path in [directory.path(), missing.as_path()] {
            let HomeError::Io { path: named, .. } = Replacement::begin(path).unwrap_err() else {
                panic!("another error");
            };
            assert_eq!(named, path);
        }
    }
}
