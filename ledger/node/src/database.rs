//! Where the chain is kept: one redb file. A block with all that it changes is one transaction, durable when it returns.

mod compare;
mod overlay;
mod sealed;
mod search;
mod snapshot;
mod written;

use std::{
    io,
    path::{Path, PathBuf},
};

use ledger::{
    Block, Certificate, Genesis, Hash, Id, Record, RecordKey, Timestamp,
    body::Contract,
    encoding::{MAX_RECORD, decode, encode},
    index::{self, IndexKey},
    machine::{Outcome, genesis_outcome},
    record::Body,
};
use redb::{ReadableDatabase, ReadableTable as _, TableDefinition};

pub(crate) use compare::Difference;
pub use search::Page;
pub use snapshot::Snapshot;

use overlay::{Overlay, Scratch};

type Bytes = &'static [u8];

/// Format of the file; another one is refused.
const FORMAT: u64 = 9;
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const GENESIS: TableDefinition<&str, Bytes> = TableDefinition::new("genesis");
const BLOCKS: TableDefinition<u64, Bytes> = TableDefinition::new("blocks");
/// Headers once more, apart from their blocks: they are read with every answer, and a block may have megabytes.
const HEADERS: TableDefinition<u64, Bytes> = TableDefinition::new("headers");
const CERTIFICATES: TableDefinition<u64, Bytes> = TableDefinition::new("certificates");
/// Height → the set that certifies the next block, where it is another one.
const HANDOVERS: TableDefinition<u64, Bytes> = TableDefinition::new("handovers");
/// Hash of a version → the record.
const VERSIONS: TableDefinition<Bytes, Bytes> = TableDefinition::new("versions");
/// Kind and id → hash of the latest version.
const LATEST: TableDefinition<Bytes, Bytes> = TableDefinition::new("latest");
/// Hash → node of the state tree.
const NODES: TableDefinition<Bytes, Bytes> = TableDefinition::new("nodes");
/// An [`IndexKey`] and an id: what is found by what.
const INDEX: TableDefinition<Bytes, ()> = TableDefinition::new("index");
/// Time (big-endian), kind and id: when a rule changes a record.
const DUE: TableDefinition<Bytes, ()> = TableDefinition::new("due");

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Another process has the file.
    #[error("the chain's database {0} is in use: another ledgerd runs on it; stop that one first")]
    InUse(PathBuf),
    /// The file cannot be opened.
    #[error("open the chain's database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: redb::Error,
    },
    /// A read or write failed, for instance because the disk is full. What was committed before is untouched.
    #[error("the chain's database")]
    Access(#[source] redb::Error),
    /// The file is of another format or chain.
    #[error("the chain's database: {0}")]
    Other(String),
    /// Bytes in it are not what was written.
    #[error("the chain's database is damaged: {0}")]
    Damaged(&'static str),
}

impl<E: Into<redb::Error>> From<E> for DatabaseError {
    fn from(error: E) -> Self {
        Self::Access(error.into())
    }
}

type Result<T, E = DatabaseError> = std::result::Result<T, E>;

/// The chain on disk.
#[derive(Debug)]
pub struct Database {
    redb: redb::Database,
    genesis: Genesis,
}

impl Database {
    /// Opens the chain of `genesis` at `path`, or begins it.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be used, or belongs to another chain.
    pub fn open(path: &Path, genesis: Genesis) -> Result<Self> {
        let redb = redb::Database::create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DatabaseError::InUse(path.to_owned()),
            error => DatabaseError::Open {
                path: path.to_owned(),
                source: error.into(),
            },
        })?;
        Self::with(redb, genesis)
    }

    /// Opens the chain of `genesis` that is kept elsewhere than in a file, or begins it.
    ///
    /// # Errors
    /// [`DatabaseError`] when it cannot be used, or belongs to another chain.
    pub fn open_on(backend: impl redb::StorageBackend, genesis: Genesis) -> Result<Self> {
        let redb = redb::Builder::new()
            .create_with_backend(backend)
            .map_err(redb::Error::from)?;
        Self::with(redb, genesis)
    }

    /// Opens the chain of `genesis` at `path`, which nobody uses, without writing anything there.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read, is used, or belongs to another chain.
    pub(crate) fn look_at(path: &Path, genesis: Genesis) -> Result<Self> {
        let opened = Overlay::open(path).map_err(|source| DatabaseError::Open {
            path: path.to_owned(),
            source: redb::Error::Io(source),
        })?;
        let overlay = opened.ok_or_else(|| DatabaseError::InUse(path.to_owned()))?;
        if redb::StorageBackend::len(&overlay).map_err(redb::Error::Io)? == 0 {
            return Err(DatabaseError::Damaged("the file is empty"));
        }
        Self::open_on(overlay, genesis)
    }

    /// Begins the chain of `genesis` in a file that is gone at the end.
    ///
    /// # Errors
    /// [`io::Error`] when the file cannot be made; [`DatabaseError`] as [`Self::open_on`].
    pub(crate) fn scratch(path: &Path, genesis: Genesis) -> io::Result<Result<Self>> {
        Ok(Self::open_on(Scratch::new(path)?, genesis))
    }

    /// Whether every page of the file is what was written, by its checksum. Where one is not, the state of before may be left.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub(crate) fn is_sound(&mut self) -> Result<bool> {
        match self.redb.check_integrity() {
            Ok(sound) => Ok(sound),
            Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(_))) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn with(redb: redb::Database, genesis: Genesis) -> Result<Self> {
        let database = Self { redb, genesis };
        match database.format()? {
            None => database.begin()?,
            Some(FORMAT) => database.check_genesis()?,
            Some(other) => {
                return Err(DatabaseError::Other(format!(
                    "format {other}, this program reads format {FORMAT}"
                )));
            }
        }
        Ok(database)
    }

    fn format(&self) -> Result<Option<u64>> {
        let transaction = self.redb.begin_read()?;
        match transaction.open_table(META) {
            Ok(meta) => Ok(meta.get("format")?.map(|value| value.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn begin(&self) -> Result<()> {
        let outcome = genesis_outcome(&self.genesis).map_err(|error| DatabaseError::Other(error.to_string()))?;
        let write = self.redb.begin_write()?;
        {
            write.open_table(META)?.insert("format", FORMAT)?;
            write.open_table(META)?.insert("height", 0)?;
            write
                .open_table(GENESIS)?
                .insert("genesis", encode(&self.genesis).as_slice())?;
            write
                .open_table(GENESIS)?
                .insert("root", outcome.root.as_bytes().as_slice())?;
            write.open_table(BLOCKS)?;
            write.open_table(HEADERS)?;
            write.open_table(CERTIFICATES)?;
            write.open_table(HANDOVERS)?;
            write.open_table(DUE)?;
            write.open_table(INDEX)?;
        }
        sealed::begin(&write)?;
        written::put(&write, 0, 0, &outcome.records)?;
        put_outcome(&write, &outcome)?;
        Ok(write.commit()?)
    }

    fn check_genesis(&self) -> Result<()> {
        let transaction = self.redb.begin_read()?;
        let genesis = transaction.open_table(GENESIS)?;
        let kept = genesis.get("genesis")?.ok_or(DatabaseError::Damaged("genesis"))?;
        if kept.value() == encode(&self.genesis).as_slice() {
            Ok(())
        } else {
            Err(DatabaseError::Other(
                "the file holds another chain than the genesis says".into(),
            ))
        }
    }

    /// The chain's genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The state after the last committed block, unchanged by later ones for as long as it is held.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot<'_>> {
        Ok(Snapshot::new(self.redb.begin_read()?, &self.genesis))
    }

    /// Appends a block that was checked, with its certificate and all that it changes.
    ///
    /// # Errors
    /// [`DatabaseError`] when it could not be made durable; then nothing of it is there.
    pub fn commit(&self, block: &Block, certificate: &Certificate, outcome: &Outcome) -> Result<()> {
        let height = block.header.height;
        let write = self.redb.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            let expected = meta.get("height")?.map_or(0, |value| value.value()) + 1;
            if height != expected {
                return Err(DatabaseError::Other(format!(
                    "block {height} does not follow {}",
                    expected - 1
                )));
            }
            meta.insert("height", height)?;
            write.open_table(BLOCKS)?.insert(height, encode(block).as_slice())?;
            write
                .open_table(HEADERS)?
                .insert(height, encode(&block.header).as_slice())?;
            write
                .open_table(CERTIFICATES)?
                .insert(height, encode(certificate).as_slice())?;
            if block.header.next_validators != block.header.validators {
                let set = outcome.validators().ok_or(DatabaseError::Damaged("handover"))?;
                write.open_table(HANDOVERS)?.insert(height, encode(set).as_slice())?;
            }
        }
        written::put(&write, height, block.transactions.len(), &outcome.records)?;
        put_outcome(&write, outcome)?;
        sealed::sweep(&write, block.header.time)?;
        Ok(write.commit()?)
    }

    /// Holds a ciphertext that `peer` brings until the contract that names it has ended, or for an hour if none does.
    ///
    /// # Errors
    /// [`DatabaseError::Other`] when too many wait for a contract.
    pub fn hold(&self, hash: Hash, sealed: &[u8], peer: [u8; 32], now: Timestamp) -> Result<()> {
        let write = self.redb.begin_write()?;
        sealed::hold(&write, hash, sealed, peer, now)?;
        Ok(write.commit()?)
    }
}

fn latest_key(key: &RecordKey) -> Vec<u8> {
    encode(key)
}

fn index_key(key: &IndexKey, id: Id) -> Vec<u8> {
    encode(&(key, id))
}

/// Where a record stands among those that a rule changes by time.
fn due_key(record: &Record) -> Option<Vec<u8>> {
    let mut key = index::due(record)?.millis().to_be_bytes().to_vec();
    key.extend(encode(&record.key()));
    Some(key)
}

fn put_outcome(write: &redb::WriteTransaction, outcome: &Outcome) -> Result<()> {
    let mut versions = write.open_table(VERSIONS)?;
    let mut latest = write.open_table(LATEST)?;
    let mut index = write.open_table(INDEX)?;
    let mut due = write.open_table(DUE)?;
    for record in &outcome.records {
        let hash = record.hash();
        versions.insert(hash.as_bytes().as_slice(), encode(record).as_slice())?;
        latest.insert(latest_key(&record.key()).as_slice(), hash.as_bytes().as_slice())?;
        let before = match record.previous {
            previous if previous == Hash::ZERO || !moves(&record.body) => None,
            previous => {
                let before = versions.get(previous.as_bytes().as_slice())?;
                let before = before.ok_or(DatabaseError::Damaged("version before"))?;
                Some(record_from(before.value())?)
            }
        };
        put_index(&mut index, record, before.as_ref())?;
        if let Some(key) = before.as_ref().and_then(due_key) {
            due.remove(key.as_slice())?;
        }
        if let Some(key) = due_key(record) {
            due.insert(key.as_slice(), ())?;
        }
        if let Body::Contract(contract) = &record.body {
            put_sealed(
                write,
                record.id,
                contract,
                before.and_then(|before| contract_of(before.body)),
            )?;
        }
    }
    let mut nodes = write.open_table(NODES)?;
    for (hash, node) in &outcome.nodes {
        nodes.insert(hash.as_bytes().as_slice(), encode(node).as_slice())?;
    }
    Ok(())
}

/// Whether a later version may be found by something else, or be due at another time, than the one before.
const fn moves(body: &Body) -> bool {
    matches!(
        body,
        Body::Contract(_) | Body::Node(_) | Body::Name(_) | Body::Farm(_) | Body::Terms(_) | Body::Channel(_)
    )
}

fn put_index(index: &mut redb::Table<'_, Bytes, ()>, record: &Record, before: Option<&Record>) -> Result<()> {
    let (now, before) = (index::keys(record), before.map(index::keys).unwrap_or_default());
    for key in before.iter().filter(|key| !now.contains(key)) {
        index.remove(index_key(key, record.id).as_slice())?;
    }
    for key in now.iter().filter(|key| !before.contains(key)) {
        index.insert(index_key(key, record.id).as_slice(), ())?;
    }
    Ok(())
}

/// Keeps the sealed text that a live contract names, and none for its sake that it names no longer.
fn put_sealed(write: &redb::WriteTransaction, id: Id, contract: &Contract, before: Option<Contract>) -> Result<()> {
    let named = contract.signed.agreement.sealed.hash;
    let earlier = before.map(|before| before.signed.agreement.sealed.hash);
    if let Some(earlier) = earlier.filter(|earlier| *earlier != named) {
        sealed::ended(write, earlier, id)?;
    }
    if contract.ended().is_none() {
        sealed::named(write, named, id)
    } else {
        sealed::ended(write, named, id)
    }
}

fn contract_of(body: Body) -> Option<Contract> {
    match body {
        Body::Contract(contract) => Some(contract),
        _ => None,
    }
}

fn record_from(bytes: &[u8]) -> Result<Record> {
    decode(bytes, MAX_RECORD).map_err(|_| DatabaseError::Damaged("record"))
}

#[cfg(test)]
pub(crate) mod tests {
    use ledger::{
        Header, PublicKey, SigningKey, Tokens, Validator, ValidatorSet,
        body::{Entity, Keys},
        genesis::{GenesisEntity, Issuance},
        machine::propose_block,
        signatures::Signatures,
        store::Store,
        text::Text,
    };

    use super::*;

    fn key() -> PublicKey {
        SigningKey::from_seed(&[9; 32]).public()
    }

    pub(crate) fn genesis() -> Genesis {
        let keys = Keys {
            signing: key(),
            link: key(),
            encryption: key(),
        };
        let founder = GenesisEntity {
            entity: Entity {
                keys,
                name: Text::lossy("somebody"),
                addresses: vec![],
                recovery: None,
            },
            balance: Tokens::from_micro(1_000),
        };
        let validator = Validator {
            key: key(),
            link: key(),
            power: 1,
        };
        Genesis {
            name: Text::lossy("test"),
            time: Timestamp::from_millis(0),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            validators: ValidatorSet::new(vec![validator]).unwrap(),
            entities: vec![founder],
            issuance: Issuance::Fixed,
        }
    }

    /// Appends an empty block of the time `now`.
    pub(crate) fn append(database: &Database, now: Timestamp) -> Header {
        let (block, certificate, outcome) = {
            let snapshot = database.snapshot().unwrap();
            let head = snapshot.head().unwrap();
            let state = (&snapshot, &Signatures::default());
            let made = propose_block(state, database.genesis(), &head, key(), now, &[]).unwrap();
            let (block, outcome) = (made.block, made.outcome);
            let certificate = Certificate {
                height: block.header.height,
                round: 0,
                block: block.header.id(),
                signatures: vec![],
            };
            (block, certificate, outcome)
        };
        database.commit(&block, &certificate, &outcome).unwrap();
        block.header
    }

    #[test]
    fn headers_are_read_without_their_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("chain.redb"), genesis()).unwrap();
        let headers = [1_000, 2_000].map(|time| append(&database, Timestamp::from_millis(time)));
        let write = database.redb.begin_write().unwrap();
        for height in 1..=2 {
            write
                .open_table(BLOCKS)
                .unwrap()
                .insert(height, b"no block".as_slice())
                .unwrap();
        }
        write.commit().unwrap();
        let snapshot = database.snapshot().unwrap();
        assert!(snapshot.block(2).is_err());
        assert_eq!(snapshot.head().unwrap().id, headers[1].id());
        assert_eq!(snapshot.certified_head().unwrap().unwrap().header, headers[1]);
        assert_eq!(Store::header(&snapshot, 1).unwrap().as_ref(), Some(&headers[0]));
    }
}
