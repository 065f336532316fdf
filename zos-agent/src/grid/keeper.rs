//! Keeps the docket in memory and on disk together: what is learned is on disk before it is known.
//!
//! Writes run one after the other on threads that may wait for a disk. The lock of the docket is held for moments only, so a
//! slow or full disk holds up who writes and nobody who reads.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ledger::{Id, Record, encoding::encode};
use workload::EncryptionKey;

use super::{
    docket::{Docket, Entry},
    shelf::{Part, Shelf},
};
use crate::layout::DiskId;

/// The contracts that this node keeps. All errors are those of the disk; what could not be written is not known then.
#[derive(Debug)]
pub struct Keeper {
    docket: Mutex<Docket>,
    shelf: Shelf,
    /// Held by the one who writes.
    writing: tokio::sync::Mutex<()>,
}

impl Keeper {
    /// Reads what the node kept before. Blocks.
    ///
    /// # Errors
    /// The error of reading the directory.
    pub fn open(directory: PathBuf, key: EncryptionKey) -> io::Result<Self> {
        let shelf = Shelf::open(directory)?;
        let mut docket = Docket::new(key);
        shelf.read(&mut docket)?;
        Ok(Self {
            docket: Mutex::new(docket),
            shelf,
            writing: tokio::sync::Mutex::new(()),
        })
    }

    /// The contracts. Not to be held over a wait.
    pub fn docket(&self) -> MutexGuard<'_, Docket> {
        self.docket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, id: Id, part: Part, bytes: Vec<u8>) -> io::Result<()> {
        let shelf = self.shelf.clone();
        let written = tokio::task::spawn_blocking(move || shelf.keep(id, part, &bytes)).await;
        written.map_err(io::Error::other).flatten()
    }

    /// Writes a part of a contract that is known.
    async fn add(&self, id: Id, part: Part, bytes: Vec<u8>, apply: impl FnOnce(&mut Docket)) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        if !self.docket().entries().contains_key(&id) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.write(id, part, bytes).await?;
        apply(&mut self.docket());
        Ok(())
    }

    /// Takes over a proven version. An older one than is known changes nothing.
    ///
    /// # Errors
    /// See [`Keeper`].
    pub async fn learn(&self, record: Record) -> io::Result<()> {
        let Some(fresh) = Entry::new(record) else {
            return Ok(());
        };
        let _turn = self.writing.lock().await;
        if self.docket().is_news(&fresh.record) {
            self.write(fresh.record.id, Part::Contract, encode(&fresh.record))
                .await?;
            self.docket().learn(fresh);
        }
        Ok(())
    }

    /// Takes over the image's record that the contract names.
    ///
    /// # Errors
    /// See [`Keeper`].
    pub async fn learn_image(&self, id: Id, record: &Record) -> io::Result<()> {
        let apply = |docket: &mut Docket| docket.learn_image(id, record);
        self.add(id, Part::Image, encode(record), apply).await
    }

    /// Takes over the image's configuration.
    ///
    /// # Errors
    /// See [`Keeper`].
    pub async fn learn_config(&self, id: Id, config: Vec<u8>) -> io::Result<()> {
        let bytes = config.clone();
        self.add(id, Part::Config, bytes, |docket| docket.learn_config(id, config))
            .await
    }

    /// Takes over the ciphertext that the contract names and opens it.
    ///
    /// # Errors
    /// See [`Keeper`].
    pub async fn learn_sealed(&self, id: Id, sealed: Vec<u8>) -> io::Result<()> {
        let bytes = sealed.clone();
        self.add(id, Part::Sealed, bytes, |docket| docket.learn_sealed(id, &sealed))
            .await
    }

    /// Says which disk holds the volumes, before the first of them is made.
    ///
    /// # Errors
    /// See [`Keeper`]; no volume may be made then.
    pub async fn place(&self, id: Id, disk: DiskId) -> io::Result<()> {
        let recorded = self.docket().entries().get(&id).and_then(|entry| entry.place);
        if recorded == Some(disk) {
            return Ok(());
        }
        let bytes = format!("{disk}\n").into_bytes();
        self.add(id, Part::Place, bytes, |docket| docket.place(id, disk)).await
    }

    /// Says that the workload ran from `start` to `end`, in the chain's milliseconds. It is known at once, so that a full disk
    /// costs nobody a report; what is on disk follows.
    ///
    /// # Errors
    /// The disk's.
    pub async fn ran(&self, id: Id, start: u64, end: u64) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let bytes = {
            let mut docket = self.docket();
            let Some(entry) = docket.entries().get(&id) else {
                return Ok(());
            };
            let mut uptime = entry.uptime.clone();
            uptime.add(start, end);
            uptime.forget_before(entry.unsettled_from());
            let bytes = encode(&uptime);
            docket.set_uptime(id, uptime);
            bytes
        };
        self.write(id, Part::Uptime, bytes).await
    }

    /// Forgets a contract that has ended and whose data is gone.
    ///
    /// # Errors
    /// The disk's; it is still known then.
    pub async fn forget(&self, id: Id) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let shelf = self.shelf.clone();
        let removed = tokio::task::spawn_blocking(move || shelf.remove(id)).await;
        removed.map_err(io::Error::other).flatten()?;
        self.docket().forget(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::fixture;
    use ledger::body::ContractState;
    use std::{fs, path::Path};

    fn open(directory: &Path) -> Keeper {
        Keeper::open(directory.to_owned(), EncryptionKey::from_seed(&[3; 32])).unwrap()
    }

    #[tokio::test]
    async fn what_was_learned_is_there_again_and_what_was_forgotten_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let keeper = open(root.path());
        let record = fixture::contract(1, ContractState::Expired { at: Default::default() });
        let (id, disk) = (record.id, DiskId::new([5; 16]));
        assert!(keeper.place(id, disk).await.is_err(), "nothing is kept of a stranger");
        keeper.learn(record.clone()).await.unwrap();
        keeper.place(id, disk).await.unwrap();
        keeper.ran(id, 10, 30).await.unwrap();
        let again = open(root.path());
        let entry = again.docket().entries()[&id].clone();
        assert_eq!((entry.place, entry.uptime.within(0, 100)), (Some(disk), 20));
        assert_eq!(entry.record, record);
        again.forget(id).await.unwrap();
        assert!(open(root.path()).docket().entries().is_empty());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_known_and_others_are_learned() {
        let root = tempfile::tempdir().unwrap();
        let keeper = open(root.path());
        let state = || ContractState::Expired { at: Default::default() };
        let (stuck, fine) = (fixture::contract(1, state()), fixture::contract(2, state()));
        // A file where the contract's directory should be stands for a disk that refuses.
        fs::write(root.path().join(stuck.id.to_string()), "").unwrap();
        assert!(keeper.learn(stuck.clone()).await.is_err());
        keeper.learn(fine.clone()).await.unwrap();
        assert_eq!(keeper.docket().entries().keys().collect::<Vec<_>>(), [&fine.id]);
        fs::remove_file(root.path().join(stuck.id.to_string())).unwrap();
        keeper.learn(stuck.clone()).await.unwrap();
        assert!(keeper.docket().entries().contains_key(&stuck.id), "tried again");
    }
}
