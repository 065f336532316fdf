//! Two databases of one chain, table by table: what the chain decides must be the same in both to the last byte.

use std::fmt;

use ledger::{
    Hash, Record, RecordKey,
    body::Blob,
    encoding::{MAX_RECORD, decode},
};
use redb::{ReadableTable as _, TableDefinition};

use super::{
    BLOCKS, CERTIFICATES, DUE, Database, GENESIS, HANDOVERS, HEADERS, INDEX, LATEST, META, NODES, Result, VERSIONS,
    sealed::{SEALED, SEALED_FOR},
    written::WRITTEN,
};

/// Where a database is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The table.
    pub(crate) table: &'static str,
    /// The first entry that is missing, too many or another.
    pub(crate) entry: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in table {}", self.entry, self.table)
    }
}

type Entry = (Vec<u8>, Vec<u8>);

impl Database {
    /// The first difference from `right`, which was made anew by the blocks of this one. Sealed texts, which people bring and
    /// take, are checked against their hashes.
    ///
    /// # Errors
    /// [`super::DatabaseError`] when one of them cannot be read.
    pub(crate) fn difference(&self, right: &Self) -> Result<Option<Difference>> {
        let tables = [
            self.differs(right, META, "meta", |key, _| String::from_utf8_lossy(key).into_owned()),
            self.differs(right, GENESIS, "genesis", |key, _| {
                String::from_utf8_lossy(key).into_owned()
            }),
            self.differs(right, HEADERS, "headers", height),
            self.differs(right, BLOCKS, "blocks", height),
            self.differs(right, CERTIFICATES, "certificates", height),
            self.differs(right, HANDOVERS, "handovers", height),
            self.differs(right, WRITTEN, "written", height),
            self.differs(right, VERSIONS, "versions", version),
            self.differs(right, LATEST, "latest", latest),
            self.differs(right, NODES, "nodes", hexadecimal),
            self.differs(right, INDEX, "index", hexadecimal),
            self.differs(right, DUE, "due", hexadecimal),
            self.differs(right, SEALED_FOR, "sealed_for", hexadecimal),
            self.altered_text(),
        ];
        for difference in tables {
            if let Some(difference) = difference? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn differs<K: redb::Key, V: redb::Value>(
        &self,
        right: &Self,
        definition: TableDefinition<K, V>,
        table: &'static str,
        name: fn(&[u8], &[u8]) -> String,
    ) -> Result<Option<Difference>> {
        let [left, right] = [self, right].map(|database| -> Result<_> {
            Ok(redb::ReadableDatabase::begin_read(&database.redb)?.open_table(definition)?)
        });
        let (left, right) = (left?, right?);
        let (mut left, mut right) = (left.iter()?, right.iter()?);
        loop {
            let next = [left.next(), right.next()].map(|entry| {
                entry.transpose().map(|entry| {
                    entry.map(|(key, value)| -> Entry {
                        let key = K::as_bytes(&key.value()).as_ref().to_vec();
                        (key, V::as_bytes(&value.value()).as_ref().to_vec())
                    })
                })
            });
            let [here, there] = next;
            let first = match (here?, there?) {
                (None, None) => return Ok(None),
                (here, there) if here == there => continue,
                (Some(here), Some(there)) if K::compare(&here.0, &there.0).is_lt() => here,
                (_, Some(entry)) | (Some(entry), None) => entry,
            };
            let entry = name(&first.0, &first.1);
            return Ok(Some(Difference { table, entry }));
        }
    }

    fn altered_text(&self) -> Result<Option<Difference>> {
        let texts = redb::ReadableDatabase::begin_read(&self.redb)?.open_table(SEALED)?;
        for entry in texts.iter()? {
            let (hash, text) = entry?;
            if Blob::of(text.value().1).hash.as_bytes().as_slice() != hash.value() {
                let entry = hexadecimal(hash.value(), &[]);
                return Ok(Some(Difference { table: "sealed", entry }));
            }
        }
        Ok(None)
    }
}

fn hexadecimal(key: &[u8], _: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(key)
}

fn height(key: &[u8], _: &[u8]) -> String {
    let height = key.try_into().map(u64::from_le_bytes).unwrap_or_default();
    format!("block {height}")
}

fn version(key: &[u8], value: &[u8]) -> String {
    let hash = key.try_into().map(Hash::from_bytes).unwrap_or(Hash::ZERO);
    match decode::<Record>(value, MAX_RECORD) {
        Ok(record) => format!(
            "version {} of {} from block {} ({hash})",
            record.version,
            record.key(),
            record.height
        ),
        Err(_) => format!("version {hash}"),
    }
}

fn latest(key: &[u8], _: &[u8]) -> String {
    decode::<RecordKey>(key, key.len()).map_or_else(|_| hexadecimal(key, &[]), |key| key.to_string())
}
