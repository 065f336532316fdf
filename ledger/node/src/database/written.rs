//! Which versions a block wrote, and how many transactions it has: what a reader sees of a block without reading it.

use ledger::{Hash, Height, Record};
use redb::TableDefinition;

use super::{Bytes, Result, Snapshot};

/// Height → number of transactions (u32, little-endian), then the hashes of the versions that the block wrote, in the order in which
/// they were made. The genesis is height 0.
pub(super) const WRITTEN: TableDefinition<u64, Bytes> = TableDefinition::new("written");

/// Bytes of the number of transactions.
const COUNT: usize = size_of::<u32>();
/// Bytes of a hash.
const HASH: usize = 32;

/// Notes what the block of a height wrote.
pub(super) fn put(
    write: &redb::WriteTransaction,
    height: Height,
    transactions: usize,
    records: &[Record],
) -> Result<()> {
    let transactions = u32::try_from(transactions).unwrap_or(u32::MAX);
    let mut written = transactions.to_le_bytes().to_vec();
    written.extend(records.iter().flat_map(|record| *record.hash().as_bytes()));
    write.open_table(WRITTEN)?.insert(height, written.as_slice())?;
    Ok(())
}

impl Snapshot<'_> {
    /// Hashes of the versions that a block wrote, but for the first `skip`, at most `limit`.
    ///
    /// # Errors
    /// [`crate::DatabaseError`] when the file cannot be read.
    pub fn written(&self, height: Height, skip: usize, limit: usize) -> Result<Vec<Hash>> {
        let table = self.redb.open_table(WRITTEN)?;
        let entry = table.get(height)?;
        let hashes = entry.as_ref().and_then(|entry| entry.value().get(COUNT..));
        let (hashes, _) = hashes.unwrap_or_default().as_chunks::<HASH>();
        let wanted = hashes.iter().skip(skip).take(limit);
        Ok(wanted.copied().map(Hash::from_bytes).collect())
    }

    /// How many versions a block wrote.
    ///
    /// # Errors
    /// [`crate::DatabaseError`] when the file cannot be read.
    pub fn written_count(&self, height: Height) -> Result<usize> {
        let table = self.redb.open_table(WRITTEN)?;
        let entry = table.get(height)?;
        Ok(entry.map_or(0, |entry| entry.value().len().saturating_sub(COUNT) / HASH))
    }

    /// How many transactions a block has, if there is such a block.
    ///
    /// # Errors
    /// [`crate::DatabaseError`] when the file cannot be read.
    pub fn transaction_count(&self, height: Height) -> Result<Option<u32>> {
        let table = self.redb.open_table(WRITTEN)?;
        let entry = table.get(height)?;
        let count = entry.as_ref().and_then(|entry| entry.value().first_chunk().copied());
        Ok(count.map(u32::from_le_bytes))
    }
}

#[cfg(test)]
mod tests {
    use ledger::{Kind, RecordKey, Timestamp, body::Charter};

    use crate::{
        Database,
        database::tests::{append, genesis},
    };

    #[test]
    fn what_a_block_wrote_is_known_in_parts_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("chain.redb"), genesis()).unwrap();
        append(&database, Timestamp::from_millis(1_000));
        let snapshot = database.snapshot().unwrap();
        let at_genesis = snapshot.written(0, 0, 100).unwrap();
        assert!(at_genesis.len() >= 3, "{at_genesis:?}");
        assert_eq!(snapshot.written_count(0).unwrap(), at_genesis.len());
        let charter = RecordKey::new(Kind::Charter, Charter::ID);
        let charter = snapshot.latest_version(&charter).unwrap().unwrap();
        assert!(at_genesis.contains(&charter.hash()));
        let last = at_genesis.len() - 1;
        assert_eq!(snapshot.written(0, last, 100).unwrap(), at_genesis[last..]);
        assert_eq!(snapshot.written(0, 0, 1).unwrap(), at_genesis[..1]);
        assert_eq!(snapshot.written(1, 0, 100).unwrap(), []);
        assert_eq!(snapshot.transaction_count(1).unwrap(), Some(0));
        assert_eq!(snapshot.transaction_count(2).unwrap(), None);
    }
}
