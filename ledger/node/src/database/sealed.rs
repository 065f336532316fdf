//! Sealed texts: what live contracts name, and for an hour what a contract may come to name.
//!
//! | table | from | to |
//! |---|---|---|
//! | `sealed` | hash | time of arrival, ciphertext |
//! | `sealed_for` | hash, live contract that names it | |
//! | `unclaimed` | time of arrival (big-endian), hash | peer that brought it |
//! | `unclaimed_of` | peer | how many of its texts are unclaimed |
//!
//! A contract names one text, and to make one costs an escrow; so texts that are named need no other bound. Those that no
//! contract names cost their sender nothing: they are bounded in all and for each peer, and go by their age.

use ledger::{Hash, Id, Timestamp};
use redb::{ReadableTable, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

use super::{Bytes, DatabaseError, Result};

pub(super) const SEALED: TableDefinition<Bytes, (u64, Bytes)> = TableDefinition::new("sealed");
pub(super) const SEALED_FOR: TableDefinition<Bytes, ()> = TableDefinition::new("sealed_for");
const UNCLAIMED: TableDefinition<Bytes, Bytes> = TableDefinition::new("unclaimed");
const UNCLAIMED_OF: TableDefinition<Bytes, u64> = TableDefinition::new("unclaimed_of");

/// Most texts that no contract names.
const MAX_UNCLAIMED: u64 = 10_000;
/// Most of them that one peer brought.
const MAX_UNCLAIMED_PER_PEER: u64 = 64;
/// Time after which they are dropped, in milliseconds of block time.
const UNCLAIMED_MS: u64 = 3_600_000;
/// Most that are dropped with one block.
const MAX_DROPPED: usize = 256;

/// Makes the tables.
pub(super) fn begin(write: &WriteTransaction) -> Result<()> {
    write.open_table(SEALED)?;
    write.open_table(SEALED_FOR)?;
    write.open_table(UNCLAIMED)?;
    write.open_table(UNCLAIMED_OF)?;
    Ok(())
}

/// Takes a text that `peer` brings. What is held already stays as it is, whoever brings it again.
pub(super) fn hold(write: &WriteTransaction, hash: Hash, text: &[u8], peer: [u8; 32], now: Timestamp) -> Result<()> {
    let mut sealed = write.open_table(SEALED)?;
    if sealed.get(hash.as_bytes().as_slice())?.is_some() {
        return Ok(());
    }
    if !is_named(write, hash)? {
        let mut unclaimed = write.open_table(UNCLAIMED)?;
        let mut of_peers = write.open_table(UNCLAIMED_OF)?;
        let of_peer = of_peers.get(peer.as_slice())?.map_or(0, |count| count.value());
        if of_peer >= MAX_UNCLAIMED_PER_PEER {
            return Err(DatabaseError::Other(format!(
                "{MAX_UNCLAIMED_PER_PEER} sealed texts of this peer wait for a contract already; they go after an hour"
            )));
        }
        if unclaimed.len()? >= MAX_UNCLAIMED {
            return Err(DatabaseError::Other(format!(
                "{MAX_UNCLAIMED} sealed texts wait for a contract already; try again later"
            )));
        }
        of_peers.insert(peer.as_slice(), of_peer + 1)?;
        unclaimed.insert(age_key(now.millis(), hash).as_slice(), peer.as_slice())?;
    }
    sealed.insert(hash.as_bytes().as_slice(), (now.millis(), text))?;
    Ok(())
}

/// A live contract names a text.
pub(super) fn named(write: &WriteTransaction, hash: Hash, contract: Id) -> Result<()> {
    let naming = naming_key(hash, contract);
    write.open_table(SEALED_FOR)?.insert(naming.as_slice(), ())?;
    let arrived = write
        .open_table(SEALED)?
        .get(hash.as_bytes().as_slice())?
        .map(|held| held.value().0);
    match arrived {
        Some(arrived) => claim(write, &age_key(arrived, hash)),
        None => Ok(()),
    }
}

/// A contract that named a text has ended.
pub(super) fn ended(write: &WriteTransaction, hash: Hash, contract: Id) -> Result<()> {
    let naming = naming_key(hash, contract);
    write.open_table(SEALED_FOR)?.remove(naming.as_slice())?;
    if !is_named(write, hash)? {
        write.open_table(SEALED)?.remove(hash.as_bytes().as_slice())?;
    }
    Ok(())
}

/// Drops what has waited long enough for a contract, the oldest first.
pub(super) fn sweep(write: &WriteTransaction, now: Timestamp) -> Result<()> {
    let Some(before) = now.millis().checked_sub(UNCLAIMED_MS) else {
        return Ok(());
    };
    let end = before.saturating_add(1).to_be_bytes();
    let old: Vec<Vec<u8>> = write
        .open_table(UNCLAIMED)?
        .range::<&[u8]>(..end.as_slice())?
        .take(MAX_DROPPED)
        .map(|entry| Ok(entry?.0.value().to_vec()))
        .collect::<Result<_>>()?;
    for key in old {
        let hash = key.last_chunk::<32>().ok_or(DatabaseError::Damaged("unclaimed"))?;
        write.open_table(SEALED)?.remove(hash.as_slice())?;
        claim(write, &key)?;
    }
    Ok(())
}

/// A text counts no longer against the peer that brought it.
fn claim(write: &WriteTransaction, age_key: &[u8]) -> Result<()> {
    let peer = write
        .open_table(UNCLAIMED)?
        .remove(age_key)?
        .map(|peer| peer.value().to_vec());
    let Some(peer) = peer else {
        return Ok(());
    };
    let mut of_peers = write.open_table(UNCLAIMED_OF)?;
    let count = of_peers.get(peer.as_slice())?.map_or(0, |count| count.value());
    if count > 1 {
        of_peers.insert(peer.as_slice(), count - 1)?;
    } else {
        of_peers.remove(peer.as_slice())?;
    }
    Ok(())
}

fn age_key(arrived_ms: u64, hash: Hash) -> Vec<u8> {
    [arrived_ms.to_be_bytes().as_slice(), hash.as_bytes()].concat()
}

fn naming_key(hash: Hash, contract: Id) -> Vec<u8> {
    [hash.as_bytes().as_slice(), contract.hash().as_bytes()].concat()
}

/// Whether a live contract names a text.
fn is_named(write: &WriteTransaction, hash: Hash) -> Result<bool> {
    let naming = write.open_table(SEALED_FOR)?;
    let first = naming
        .range::<&[u8]>(hash.as_bytes().as_slice()..)?
        .next()
        .transpose()?;
    Ok(first.is_some_and(|(key, _)| key.value().starts_with(hash.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{
        Database,
        tests::{append, genesis},
    };

    const GREEDY: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn hash(number: u64) -> Hash {
        Hash::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes())
    }

    fn database(folder: &tempfile::TempDir) -> Database {
        let database = Database::open(&folder.path().join("chain.redb"), genesis()).unwrap();
        append(&database, Timestamp::from_millis(1_000));
        database
    }

    fn is_held(database: &Database, number: u64) -> bool {
        database.snapshot().unwrap().sealed(hash(number)).unwrap().is_some()
    }

    #[test]
    fn one_peer_cannot_take_the_room_of_others_and_what_a_contract_names_counts_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        let now = Timestamp::from_millis(1_000);
        let hold = |number, peer| database.hold(hash(number), b"text", peer, now);
        for number in 0..MAX_UNCLAIMED_PER_PEER {
            hold(number, GREEDY).unwrap();
        }
        // Once more the same is no more.
        hold(0, GREEDY).unwrap();
        assert!(matches!(hold(1_000, GREEDY), Err(DatabaseError::Other(_))));
        hold(1_000, OTHER).unwrap();
        let contract = Id::from_hash(hash(9));
        let write = database.redb.begin_write().unwrap();
        named(&write, hash(0), contract).unwrap();
        write.commit().unwrap();
        hold(1_001, GREEDY).unwrap();
        assert!(hold(1_002, GREEDY).is_err());
        let write = database.redb.begin_write().unwrap();
        ended(&write, hash(0), contract).unwrap();
        write.commit().unwrap();
        assert!(!is_held(&database, 0) && is_held(&database, 1));
    }

    #[test]
    fn what_no_contract_names_goes_by_its_age_and_what_one_names_stays() {
        let folder = tempfile::tempdir().unwrap();
        let database = database(&folder);
        for (number, time) in [(0, 1_000), (1, 2_000), (2, 1_000)] {
            let time = Timestamp::from_millis(time);
            database.hold(hash(number), b"text", GREEDY, time).unwrap();
        }
        let write = database.redb.begin_write().unwrap();
        named(&write, hash(2), Id::from_hash(hash(9))).unwrap();
        write.commit().unwrap();
        append(&database, Timestamp::from_millis(1_000 + UNCLAIMED_MS));
        assert_eq!([0, 1, 2].map(|number| is_held(&database, number)), [false, true, true]);
        append(&database, Timestamp::from_millis(9 * UNCLAIMED_MS));
        assert_eq!([0, 1, 2].map(|number| is_held(&database, number)), [false, false, true]);
        let write = database.redb.begin_write().unwrap();
        assert!(write.open_table(UNCLAIMED_OF).unwrap().is_empty().unwrap());
    }
}
