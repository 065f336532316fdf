//! A service's output in a file of bounded length.
//!
//! Lines go to `NAME.log`. When it reaches half of the bound it becomes `NAME.old.log`, in place of the one before, so
//! the two together never hold more than the bound.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Most bytes of one service's output that are kept.
pub const LIMIT: u64 = 1024 * 1024;

/// An open log.
#[derive(Debug)]
pub struct LogFile {
    current: PathBuf,
    old: PathBuf,
    file: File,
    length: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the log of `name` in `dir` for at most `limit` bytes; what it held stays.
    ///
    /// # Errors
    /// When the directory or the file cannot be made.
    pub fn open(dir: &Path, name: &str, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let current = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&current)?;
        let length = file.metadata()?.len();
        Ok(Self {
            old: dir.join(format!("{name}.old.log")),
            current,
            file,
            length,
            limit,
        })
    }

    /// Adds a line, which is cut at half of the bound.
    ///
    /// # Errors
    /// When the file cannot be written or replaced.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let half = self.limit / 2;
        let line = line.get(..usize::try_from(half).unwrap_or(usize::MAX)).unwrap_or(line);
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.length.saturating_add(added) > half {
            fs::rename(&self.current, &self.old)?;
            self.file = File::options().create(true).append(true).open(&self.current)?;
            self.length = 0;
        }
        self.file.write_all(line)?;
        self.length += added;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_the_bound_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(dir.path(), "agent", 100).unwrap();
        for number in 0..1000 {
            log.append(format!("line {number}\n").as_bytes()).unwrap();
            let size: u64 = fs::read_dir(dir.path())
                .unwrap()
                .map(|file| file.unwrap().metadata().unwrap().len())
                .sum();
            assert!(size <= 100, "{size}");
        }
        log.append(&[b'x'; 500]).unwrap();
        let size: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(size <= 100, "{size}");
        let old = fs::read_to_string(dir.path().join("agent.old.log")).unwrap();
        assert!(old.ends_with("line 999\n"), "{old}");
    }
}
