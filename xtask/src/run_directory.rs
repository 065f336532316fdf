//! A directory of its own for each run of the demo or of a bench.
//!
//! Runs are numbered, so that the paths of sockets stay short. What an earlier run left is removed, unless it still goes
//! on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use qemu_tests::grid::last_lines;

/// Held locked in a run's directory for as long as it goes on.
const LOCK: &str = "lock";
/// Lines that are shown of each log.
const SHOWN: usize = 15;

/// A directory that no other run uses while this value lives.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes an empty directory below `runs` and removes those of runs that are over.
pub(crate) fn fresh(runs: &Path) -> Result<RunDirectory> {
    fs::create_dir_all(runs).with_context(|| format!("make {}", runs.display()))?;
    let mut highest = 0;
    for entry in fs::read_dir(runs).with_context(|| format!("list {}", runs.display()))? {
        let path = entry.with_context(|| format!("list {}", runs.display()))?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        highest = highest.max(number.unwrap_or(0));
        if number.is_some() && is_over(&path) {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    let path = runs.join((highest + 1).to_string());
    fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
    let lock = File::create(path.join(LOCK)).and_then(|file| file.lock().map(|()| file));
    let lock = lock.with_context(|| format!("lock {}", path.display()))?;
    Ok(RunDirectory { path, _lock: lock })
}

fn is_over(path: &Path) -> bool {
    File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

/// The ends of all logs in a run's directory, by their paths in it.
pub(crate) fn last_lines_of_logs(directory: &Path) -> Vec<(String, String)> {
    let mut logs = Vec::new();
    collect(directory, &mut logs);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), &mut logs);
        }
    }
    logs.sort();
    let name = |log: &PathBuf| log.strip_prefix(directory).unwrap_or(log).display().to_string();
    logs.iter()
        .map(|log| (name(log), last_lines(log, SHOWN)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect()
}

fn collect(directory: &Path, logs: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    logs.extend(
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log")),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-run-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn runs_that_are_over_are_removed_and_those_that_go_on_are_left() {
        let runs = scratch("directories");
        let first = fresh(&runs).unwrap();
        let second = fresh(&runs).unwrap();
        let over = second.path().to_owned();
        drop(second);
        let third = fresh(&runs).unwrap();
        assert!(first.path().exists() && third.path().exists() && !over.exists());
        assert_eq!(third.path(), runs.join("3"));
        fs::remove_dir_all(&runs).unwrap();
    }

    #[test]
    fn logs_are_found_beside_and_in_the_programs_directories() {
        let run = scratch("logs");
        fs::create_dir_all(run.join("node")).unwrap();
        fs::write(run.join("ledgerd.log"), "one\n").unwrap();
        fs::write(run.join("node/console.log"), "two\n").unwrap();
        fs::write(run.join("node/qemu.log"), "").unwrap();
        let found = last_lines_of_logs(&run);
        let expected = [("ledgerd.log", "one"), ("node/console.log", "two")];
        assert_eq!(found, expected.map(|(name, lines)| (name.to_owned(), lines.to_owned())));
        fs::remove_dir_all(&run).unwrap();
    }
}
