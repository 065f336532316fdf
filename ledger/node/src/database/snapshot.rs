//! Reading the state after one block, unchanged by later ones.

use std::{fmt, sync::OnceLock};

use super::{
    BLOCKS, Bytes, CERTIFICATES, DUE, DatabaseError, GENESIS, HANDOVERS, HEADERS, LATEST, META, NODES, Result,
    VERSIONS, latest_key, record_from, sealed,
};
use ledger::{
    Block, Certificate, CertifiedHeader, Genesis, Hash, Header, Height, Id, Kind, Record, RecordKey, Timestamp,
    ValidatorSet,
    body::{Account, Charter},
    encoding::{MAX_BLOCK, MAX_RECORD, decode},
    machine::Head,
    record::BodyOf,
    store::{Store, StoreError},
    tree::Node,
};
use redb::TableDefinition;

/// The state after one block.
#[derive(Debug)]
pub struct Snapshot<'a> {
    pub(super) redb: redb::ReadTransaction,
    genesis: &'a Genesis,
    latest: Opened,
    versions: Opened,
    nodes: Opened,
}

/// A table that is opened with its first read. To look one up by its name takes longer than to read of it.
#[derive(Default)]
struct Opened(OnceLock<redb::ReadOnlyTable<Bytes, Bytes>>);

impl Opened {
    fn of(
        &self,
        redb: &redb::ReadTransaction,
        definition: TableDefinition<'_, Bytes, Bytes>,
    ) -> Result<&redb::ReadOnlyTable<Bytes, Bytes>> {
        if let Some(table) = self.0.get() {
            return Ok(table);
        }
        let table = redb.open_table(definition)?;
        Ok(self.0.get_or_init(|| table))
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "open" } else { "not open" })
    }
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(redb: redb::ReadTransaction, genesis: &'a Genesis) -> Self {
        Self {
            redb,
            genesis,
            latest: Opened::default(),
            versions: Opened::default(),
            nodes: Opened::default(),
        }
    }

    /// Height of the last block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn height(&self) -> Result<Height> {
        let meta = self.redb.open_table(META)?;
        Ok(meta.get("height")?.map_or(0, |value| value.value()))
    }

    /// Where the chain stands.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn head(&self) -> Result<Head> {
        let height = self.height()?;
        let charter = self.latest_version(&RecordKey::new(Kind::Charter, Charter::ID))?;
        let charter = charter.as_ref().and_then(|record| Charter::of(&record.body));
        let validators = charter.ok_or(DatabaseError::Damaged("charter"))?.validators.clone();
        if height == 0 {
            let table = self.redb.open_table(GENESIS)?;
            let root = table.get("root")?.ok_or(DatabaseError::Damaged("root"))?;
            let root = root.value().try_into().map_err(|_| DatabaseError::Damaged("root"))?;
            let (id, time, state) = (Hash::ZERO, self.genesis.time, Hash::from_bytes(root));
            return Ok(Head {
                height,
                id,
                time,
                state,
                validators,
            });
        }
        let header = self.header_at(height)?.ok_or(DatabaseError::Damaged("last header"))?;
        Ok(Head {
            height,
            id: header.id(),
            time: header.time,
            state: header.state,
            validators,
        })
    }

    /// A block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn block(&self, height: Height) -> Result<Option<Block>> {
        let table = self.redb.open_table(BLOCKS)?;
        let bytes = table.get(height)?;
        bytes
            .map(|bytes| decode(bytes.value(), MAX_BLOCK).map_err(|_| DatabaseError::Damaged("block")))
            .transpose()
    }

    /// The header of a block, read without the block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn header_at(&self, height: Height) -> Result<Option<Header>> {
        let table = self.redb.open_table(HEADERS)?;
        let bytes = table.get(height)?;
        bytes
            .map(|bytes| decode(bytes.value(), MAX_RECORD).map_err(|_| DatabaseError::Damaged("header")))
            .transpose()
    }

    /// The certificate of a block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn certificate(&self, height: Height) -> Result<Option<Certificate>> {
        let table = self.redb.open_table(CERTIFICATES)?;
        let bytes = table.get(height)?;
        bytes
            .map(|bytes| decode(bytes.value(), MAX_BLOCK).map_err(|_| DatabaseError::Damaged("certificate")))
            .transpose()
    }

    /// The newest header with its certificate, once there is a block.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn certified_head(&self) -> Result<Option<CertifiedHeader>> {
        self.certified(self.height()?)
    }

    /// The header of a block with its certificate and the set that it hands over to, if it does.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn certified(&self, height: Height) -> Result<Option<CertifiedHeader>> {
        let (Some(header), Some(certificate)) = (self.header_at(height)?, self.certificate(height)?) else {
            return Ok(None);
        };
        let table = self.redb.open_table(HANDOVERS)?;
        let set = table.get(height)?;
        let set = set.map(|bytes| decode::<ValidatorSet>(bytes.value(), MAX_RECORD));
        Ok(Some(CertifiedHeader {
            header,
            certificate,
            handover: set.transpose().map_err(|_| DatabaseError::Damaged("handover"))?,
        }))
    }

    /// Heights above `after` and below `before` whose blocks hand over to another validator set, ascending, at most `limit`.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn handovers(&self, after: Height, before: Height, limit: usize) -> Result<Vec<Height>> {
        let table = self.redb.open_table(HANDOVERS)?;
        let first = after.saturating_add(1);
        let heights = table.range(first..before.max(first))?.take(limit);
        heights.map(|entry| Ok(entry?.0.value())).collect()
    }

    /// A version of a record by its hash.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn version(&self, hash: Hash) -> Result<Option<Record>> {
        let table = self.versions.of(&self.redb, VERSIONS)?;
        let bytes = table.get(hash.as_bytes().as_slice())?;
        bytes.map(|bytes| record_from(bytes.value())).transpose()
    }

    /// The latest version of a record.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn latest_version(&self, key: &RecordKey) -> Result<Option<Record>> {
        let table = self.latest.of(&self.redb, LATEST)?;
        let Some(hash) = table.get(latest_key(key).as_slice())? else {
            return Ok(None);
        };
        let hash = hash.value().try_into().map_err(|_| DatabaseError::Damaged("latest"))?;
        self.version(Hash::from_bytes(hash))
    }

    /// An account; one without a record has nothing yet.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn account(&self, id: Id) -> Result<Account> {
        let record = self.latest_version(&RecordKey::new(Kind::Account, id))?;
        let account = record.as_ref().and_then(|record| Account::of(&record.body));
        Ok(account.cloned().unwrap_or_default())
    }

    fn tree_node(&self, hash: &Hash) -> Result<Option<Node>> {
        let table = self.nodes.of(&self.redb, NODES)?;
        let bytes = table.get(hash.as_bytes().as_slice())?;
        bytes
            .map(|bytes| decode(bytes.value(), MAX_RECORD).map_err(|_| DatabaseError::Damaged("tree node")))
            .transpose()
    }

    fn due_records(&self, until: Timestamp, limit: usize) -> Result<Vec<RecordKey>> {
        let table = self.redb.open_table(DUE)?;
        let end = until.plus(1).millis().to_be_bytes();
        let mut due = Vec::new();
        for entry in table.range::<&[u8]>(..end.as_slice())?.take(limit) {
            let (key, ()) = {
                let (key, value) = entry?;
                (key, value.value())
            };
            let key = key.value().get(size_of::<u64>()..).unwrap_or_default();
            due.push(decode(key, key.len()).map_err(|_| DatabaseError::Damaged("due"))?);
        }
        Ok(due)
    }

    /// A ciphertext that is held.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn sealed(&self, hash: Hash) -> Result<Option<Vec<u8>>> {
        let table = self.redb.open_table(sealed::SEALED)?;
        Ok(table
            .get(hash.as_bytes().as_slice())?
            .map(|value| value.value().1.to_vec()))
    }
}

impl Store for Snapshot<'_> {
    fn latest(&self, key: &RecordKey) -> Result<Option<Record>, StoreError> {
        self.latest_version(key).map_err(|error| StoreError(Box::new(error)))
    }

    fn node(&self, hash: &Hash) -> Result<Option<Node>, StoreError> {
        self.tree_node(hash).map_err(|error| StoreError(Box::new(error)))
    }

    fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        self.header_at(height).map_err(|error| StoreError(Box::new(error)))
    }

    fn due(&self, until: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.due_records(until, limit)
            .map_err(|error| StoreError(Box::new(error)))
    }
}
