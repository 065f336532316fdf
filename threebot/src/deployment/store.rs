//! Deployments on disk, a file each.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::Deployment;
use crate::{home::HomeError, replacement::replace};

/// Most deployments of one bot.
const MAX_DEPLOYMENTS: usize = 512;
/// Longest file of a deployment in bytes: two sealed workloads in hexadecimal digits and what stands beside them.
const MAX_FILE: u64 = 512 * 1024;

/// Why deployments cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or removed.
    #[error("deployment file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file is damaged.
    #[error("deployment file {path} is damaged: {reason}; move it away to go on without it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be written.
    #[error("keep deployment")]
    Write(#[source] HomeError),
    /// There are too many.
    #[error("{MAX_DEPLOYMENTS} deployments are kept already; cancel what is no longer needed and `threebot forget` it")]
    Full,
}

/// All deployments of a bot.
#[derive(Debug)]
pub struct Deployments {
    directory: PathBuf,
    all: BTreeMap<String, Deployment>,
}

impl Deployments {
    /// Reads the directory.
    ///
    /// # Errors
    /// [`StoreError`] names a file that cannot be read; nothing is run on half of what is known.
    pub fn open(directory: PathBuf) -> Result<Self, StoreError> {
        let read_error = |path: &Path, source| StoreError::Read {
            path: path.to_owned(),
            source,
        };
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&directory).map_err(|source| read_error(&directory, source))? {
            let path = entry.map_err(|source| read_error(&directory, source))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let file = fs::File::open(&path).map_err(|source| read_error(&path, source))?;
            let deployment: Deployment =
                serde_json::from_reader(io::Read::take(file, MAX_FILE)).map_err(|error| StoreError::Damaged {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
            all.insert(deployment.plan.name.clone(), deployment);
        }
        Ok(Self { directory, all })
    }

    /// All of them by name.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<String, Deployment> {
        &self.all
    }

    /// One by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Deployment> {
        self.all.get(name)
    }

    /// Keeps one; it is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`] when it could not be written; what was known before is still known.
    pub fn put(&mut self, deployment: Deployment) -> Result<(), StoreError> {
        let name = deployment.plan.name.clone();
        if self.all.len() >= MAX_DEPLOYMENTS && !self.all.contains_key(&name) {
            return Err(StoreError::Full);
        }
        // The name is a host name's label, so it is a file's name as well.
        let path = self.directory.join(format!("{name}.json"));
        let text = serde_json::to_vec_pretty(&deployment).map_err(|error| StoreError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        replace(&path, &text).map_err(StoreError::Write)?;
        self.all.insert(name, deployment);
        Ok(())
    }

    /// Forgets one.
    ///
    /// # Errors
    /// [`StoreError`] when its file could not be removed; it is still known then.
    pub fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        let path = self.directory.join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Read { path, source }),
            _ => {
                self.all.remove(name);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::tests::{deployment, placement};

    #[test]
    fn deployments_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Deployments::open(directory.path().to_owned()).unwrap();
        let mut kept = deployment();
        kept.placement = Some(placement());
        kept.displace(Default::default(), ledger::Timestamp::from_millis(3));
        store.put(kept.clone()).unwrap();
        let again = Deployments::open(directory.path().to_owned()).unwrap();
        assert_eq!(again.get("web"), Some(&kept));
        store.remove("web").unwrap();
        let without = Deployments::open(directory.path().to_owned()).unwrap();
        assert_eq!(without.get("web"), None);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("web.json"), "{").unwrap();
        let opened = Deployments::open(directory.path().to_owned());
        assert!(matches!(opened, Err(StoreError::Damaged { path, .. }) if path.ends_with("web.json")));
    }
}
