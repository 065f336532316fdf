//! The contracts that this node keeps, on its home disk, over a restart of the agent or the machine.
//!
//! ```text
//! <home>/contracts/<id>/contract   the newest proven version of the contract's record, Borsh
//! <home>/contracts/<id>/image      the version of the image's record that was agreed on, Borsh
//! <home>/contracts/<id>/sealed     the ciphertext that the contract names
//! <home>/contracts/<id>/config     the image's OCI configuration
//! <home>/contracts/<id>/uptime     when the workload ran, Borsh
//! <home>/contracts/<id>/place      the data disk that holds its volumes, text
//! ```
//!
//! Every file is replaced whole and flushed before anything is done by it, so that a node without reach of the chain goes on
//! with what was proven to it last.

use std::{fs, io, path::PathBuf};

use ledger::{
    Id, Record,
    encoding::{MAX_RECORD, decode},
};

use super::{docket::Docket, docket::Entry};
use crate::durable;

/// A file of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The newest proven version.
    Contract,
    /// The image's record.
    Image,
    /// The ciphertext.
    Sealed,
    /// The image's configuration.
    Config,
    /// When it ran.
    Uptime,
    /// Which disk holds its volumes.
    Place,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Contract => "contract",
            Self::Image => "image",
            Self::Sealed => "sealed",
            Self::Config => "config",
            Self::Uptime => "uptime",
            Self::Place => "place",
        }
    }
}

/// The directory of all contracts. Every call blocks until the disk has answered.
#[derive(Debug, Clone)]
pub struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// Opens or makes the directory.
    ///
    /// # Errors
    /// The error of making it.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    fn folder(&self, id: Id) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Replaces a file of a contract; it is on the disk when this returns.
    ///
    /// # Errors
    /// The error of writing; the file is then as it was.
    pub fn keep(&self, id: Id, part: Part, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder(id);
        if !folder.try_exists()? {
            fs::create_dir(&folder)?;
            durable::sync_parent(&folder)?;
        }
        durable::write(&folder.join(part.name()), bytes, 0o600)
    }

    /// Removes all files of a contract. One of which there are none is no error.
    ///
    /// # Errors
    /// The error of the removal.
    pub fn remove(&self, id: Id) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads everything into `docket`. What is damaged is left out and asked for again.
    ///
    /// # Errors
    /// The error of reading the directory.
    pub fn read(&self, docket: &mut Docket) -> io::Result<()> {
        for folder in fs::read_dir(&self.directory)? {
            let folder = folder?.path();
            let read = |part: Part| fs::read(folder.join(part.name())).ok();
            let record = read(Part::Contract).and_then(|bytes| decode::<Record>(&bytes, MAX_RECORD).ok());
            let Some(mut entry) = record.and_then(Entry::new) else {
                continue;
            };
            let id = entry.record.id;
            entry.uptime = read(Part::Uptime)
                .and_then(|bytes| decode(&bytes, MAX_RECORD).ok())
                .unwrap_or_default();
            entry.place = read(Part::Place).and_then(|bytes| str::from_utf8(&bytes).ok()?.trim_end().parse().ok());
            docket.learn(entry);
            if let Some(image) = read(Part::Image).and_then(|bytes| decode::<Record>(&bytes, MAX_RECORD).ok()) {
                docket.learn_image(id, &image);
            }
            if let Some(config) = read(Part::Config) {
                docket.learn_config(id, config);
            }
            if let Some(sealed) = read(Part::Sealed) {
                docket.learn_sealed(id, &sealed);
            }
        }
        Ok(())
    }
}
