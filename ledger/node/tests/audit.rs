//! `ledgerd verify`: what a member keeps is done over again, and whatever is not what its blocks make is found and named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chain_client::{Author, ChainClient, Complaints};
use ledger::{
    Operation, SigningKey, Tokens,
    body::{Entity, Keys, Location},
    text::Text,
};
use ledger_node::{Audit, AuditError, Home, InitOptions, RunOptions, audit, run};
use peer_link::{Endpoint, LinkKey};
use redb::{ReadableTable as _, TableDefinition};
use serde_json::Value;
use tempfile::TempDir;

type Bytes = &'static [u8];
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn entity() -> Entity {
    let public = key().public();
    let keys = Keys {
        signing: public,
        link: public,
        encryption: public,
    };
    Entity {
        keys,
        name: Text::lossy("somebody"),
        addresses: vec![],
        recovery: None,
    }
}

/// The directory of a validator that does not run any more, with a few blocks that change something.
async fn chain() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (home, written) = (folder.path().join("home"), folder.path().join("entity.json"));
    fs::write(&written, serde_json::to_vec(&entity()).unwrap()).unwrap();
    let options = InitOptions {
        name: "test".into(),
        interval_ms: 100,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        entities: vec![(written, Tokens::from_micro(100))],
        validators: vec![],
    };
    Home::init(&home, &options).unwrap();
    let running = run(RunOptions::new(home.clone(), LOOPBACK)).await.unwrap();
    running.ledger().heads().wait_for(Option::is_some).await.unwrap();
    let endpoint = Endpoint::bind(&LinkKey::from_seed(&[9; 32]), LOOPBACK).await.unwrap();
    let peers = vec![running.address().clone()];
    let client = ChainClient::open(endpoint, running.chain(), peers, None, Complaints::to_log())
        .await
        .unwrap();
    let author = Author {
        id: entity().founding_id(),
        key: key(),
    };
    for name in ["north", "south"] {
        let operation = Operation::CreateFarm {
            name: Text::lossy(name),
            location: Location {
                country: *b"NL",
                latitude: 52_000_000,
                longitude: 5_000_000,
            },
        };
        client.send(&author, operation).await.unwrap();
    }
    running.stop().await.unwrap();
    (folder, home)
}

fn verified(home: &Path) -> Result<Audit, AuditError> {
    audit(home, |_, _| ())
}

/// What is said of a copy of `home` in which a table was changed.
fn said_after(home: &Path, change: impl FnOnce(&redb::WriteTransaction)) -> String {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(home).unwrap() {
        let file = file.unwrap();
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    let database = redb::Database::open(folder.path().join("chain.redb")).unwrap();
    let write = database.begin_write().unwrap();
    change(&write);
    write.commit().unwrap();
    drop(database);
    let error = verified(folder.path()).unwrap_err();
    error_line::with_causes(&error)
}

type Table<K> = TableDefinition<'static, K, Bytes>;
const BLOCKS: Table<u64> = TableDefinition::new("blocks");
const CERTIFICATES: Table<u64> = TableDefinition::new("certificates");
const VERSIONS: Table<Bytes> = TableDefinition::new("versions");
const LATEST: Table<Bytes> = TableDefinition::new("latest");
const INDEX: TableDefinition<Bytes, ()> = TableDefinition::new("index");
const SEALED: TableDefinition<Bytes, (u64, Bytes)> = TableDefinition::new("sealed");

/// Changes the last byte of a table's last value.
fn spoil<K: redb::Key + 'static>(write: &redb::WriteTransaction, table: Table<K>) {
    let mut table = write.open_table(table).unwrap();
    let (key, mut value) = {
        let (key, value) = table.last().unwrap().unwrap();
        (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec())
    };
    *value.last_mut().unwrap() ^= 1;
    table.insert(K::from_bytes(&key), value.as_slice()).unwrap();
}

/// Height of the newest block that carries transactions.
fn busy(write: &redb::WriteTransaction) -> u64 {
    let table = write.open_table(BLOCKS).unwrap();
    let blocks = table.iter().unwrap().rev().map(|entry| {
        let (height, block) = entry.unwrap();
        (height.value(), block.value().len())
    });
    blocks.max_by_key(|(_, length)| *length).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_what_its_blocks_make_and_stays_as_it_is() {
    let (_folder, home) = chain().await;
    let file = home.join("chain.redb");
    let before = fs::read(&file).unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(&home)
            .unwrap()
            .map(|file| file.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let files = names();
    let mut told = Vec::new();
    let found = audit(&home, |height, last| told.push((height, last))).unwrap();
    assert!(found.height >= 2, "{found:?}");
    assert_eq!(found.transactions, 2);
    assert!(found.versions > 4, "{found:?}");
    let expected: Vec<_> = (1..=found.height).map(|height| (height, found.height)).collect();
    assert_eq!(told, expected);
    assert!(before == fs::read(&file).unwrap(), "the chain's file was written");
    assert_eq!(names(), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_its_blocks_do_not_make_is_found_and_named() {
    let (_folder, home) = chain().await;
    let said = |change: fn(&redb::WriteTransaction)| said_after(&home, change);

    let last = verified(&home).unwrap().height;
    let error = said(|write| spoil(write, CERTIFICATES));
    assert!(error.starts_with(&format!("block {last}: certificate: ")), "{error}");
    let error = said(|write| {
        let busy = busy(write);
        let mut blocks = write.open_table(BLOCKS).unwrap();
        let mut block = blocks.get(busy).unwrap().unwrap().value().to_vec();
        *block.last_mut().unwrap() ^= 1;
        blocks.insert(busy, block.as_slice()).unwrap();
    });
    assert!(error.starts_with("block "), "{error}");
    let error = said(|write| {
        write.open_table(BLOCKS).unwrap().remove(1).unwrap();
    });
    assert_eq!(error, "block 1: its block is missing");
    let error = said(|write| spoil(write, VERSIONS));
    assert!(
        error.ends_with("in table versions") && error.contains(" of "),
        "{error}"
    );
    let error = said(|write| spoil(write, LATEST));
    assert!(error.ends_with("in table latest"), "{error}");
    let error = said(|write| {
        write.open_table(INDEX).unwrap().pop_first().unwrap();
    });
    assert!(error.ends_with("in table index"), "{error}");
    let error = said(|write| {
        let mut sealed = write.open_table(SEALED).unwrap();
        sealed.insert([7; 32].as_slice(), (0, b"text".as_slice())).unwrap();
    });
    assert!(error.ends_with("in table sealed"), "{error}");
}

fn ledgerd_verify(home: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledgerd"));
    command.arg("verify").arg("--dir").arg(home).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_what_it_verified_or_one_line_that_says_what_is_wrong() {
    let (_folder, home) = chain().await;
    let ended = ledgerd_verify(&home);
    assert!(ended.status.success(), "{ended:?}");
    let printed: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let found = serde_json::to_value(verified(&home).unwrap()).unwrap();
    assert_eq!(printed, found);

    let running = run(RunOptions::new(home.clone(), LOOPBACK)).await.unwrap();
    let ended = ledgerd_verify(&home);
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.contains("is in use") && error.lines().count() == 1, "{error}");
    running.stop().await.unwrap();

    let mut bytes = fs::read(home.join("chain.redb")).unwrap();
    let is_name = |at: &usize| bytes[*at..].starts_with(b"north");
    let names: Vec<usize> = (0..bytes.len()).filter(is_name).collect();
    for at in names {
        bytes[at] = b'N';
    }
    fs::write(home.join("chain.redb"), bytes).unwrap();
    let ended = ledgerd_verify(&home);
    assert_eq!(ended.status.code(), Some(1));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(error.contains("is damaged: its checksums do not match"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}
