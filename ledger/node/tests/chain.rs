//! One validator with a real engine and database, asked by a light client over the real link.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, path::Path};

use chain_client::{Author, ChainClient, ClientError, Complaints, SendError};
use ledger::{
    Hash, Id, Kind, Operation, RecordKey, Refusal, SigningKey, Tokens,
    body::{Account, Entity, Keys},
    text::Text,
};
use ledger_node::{Home, InitOptions, RunOptions, Running, run};
use peer_link::{Endpoint, LinkKey};

const SUPPLY: u64 = 1_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn entity(seed: u8) -> Entity {
    let public = key(seed).public();
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

fn author(seed: u8) -> Author {
    Author {
        id: entity(seed).founding_id(),
        key: key(seed),
    }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn init(folder: &Path) {
    let entities = [(1, SUPPLY), (2, 0)].map(|(seed, tokens)| {
        let path = folder.join(format!("entity-{seed}.json"));
        std::fs::write(&path, serde_json::to_vec(&entity(seed)).unwrap()).unwrap();
        (path, Tokens::from_micro(tokens * Tokens::PER_TOKEN))
    });
    let options = InitOptions {
        name: "test".into(),
        interval_ms: 200,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        entities: entities.into(),
        validators: vec![],
    };
    Home::init(&folder.join("validator"), &options).unwrap();
}

async fn start(folder: &Path) -> Running {
    run(RunOptions::new(folder.join("validator"), loopback()))
        .await
        .unwrap()
}

async fn client(running: &Running, trust: Option<&Path>) -> ChainClient {
    let endpoint = Endpoint::bind(&LinkKey::from_seed(&[9; 32]), loopback()).await.unwrap();
    let peers = vec![running.address().clone()];
    wait_for_block(running).await;
    ChainClient::open(
        endpoint,
        running.chain(),
        peers,
        trust.map(Path::to_owned),
        Complaints::to_log(),
    )
    .await
    .unwrap()
}

async fn wait_for_block(running: &Running) {
    let mut heads = running.ledger().heads();
    while heads.borrow_and_update().is_none() {
        heads.changed().await.unwrap();
    }
}

fn transfer(amount: u64) -> Operation {
    Operation::Transfer {
        to: author(2).id,
        amount: Tokens::from_micro(amount),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_proven_and_its_history_links_back_to_the_genesis() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let running = start(folder.path()).await;
    let client = client(&running, None).await;
    let _following = client.follow();
    client.send(&author(1), transfer(5)).await.unwrap();
    client.send(&author(1), transfer(6)).await.unwrap();
    let account = client.require::<Account>(author(2).id).await.unwrap();
    assert_eq!(account.body.balance, Tokens::from_micro(11));
    let history = client
        .history(RecordKey::new(Kind::Account, author(2).id))
        .await
        .unwrap();
    assert_eq!(history.len(), 2);
    let refused = client.send(&author(2), transfer(12)).await;
    assert!(
        matches!(refused, Err(SendError::Refused(Refusal::Funds { .. }))),
        "{refused:?}"
    );
    assert_eq!(client.record::<Account>(Id::CHAIN).await.unwrap(), None);
    let entities = client.find(Kind::Entity, None).await.unwrap();
    assert!(entities.len() == 2 && entities.is_sorted());
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_chain_was_and_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let trust = folder.path().join("trust");
    let mut sent = 0;
    let mut height = 0;
    for _ in 0..3 {
        let running = start(folder.path()).await;
        let client = client(&running, Some(&trust)).await;
        assert!(client.height() >= height, "the client went back to an older head");
        client.send(&author(1), transfer(7)).await.unwrap();
        sent += 7;
        let account = client.require::<Account>(author(2).id).await.unwrap();
        assert_eq!(account.body.balance, Tokens::from_micro(sent));
        height = client.height();
        running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_text_is_held_and_given_back_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let running = start(folder.path()).await;
    let client = client(&running, None).await;
    let blob = client.hold_sealed(b"sealed".to_vec()).await.unwrap();
    assert_eq!(client.sealed(&blob).await.unwrap(), b"sealed");
    let unknown = ledger::body::Blob {
        hash: Hash::ZERO,
        size: 1,
    };
    assert!(matches!(client.sealed(&unknown).await, Err(ClientError::AllFailed(_))));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_genesis_hash_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let running = start(folder.path()).await;
    let endpoint = Endpoint::bind(&LinkKey::from_seed(&[8; 32]), loopback()).await.unwrap();
    let opened = ChainClient::open(
        endpoint,
        Hash::ZERO,
        vec![running.address().clone()],
        None,
        Complaints::to_log(),
    )
    .await;
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("wrong genesis"), "{error}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_operations_of_one_author_share_blocks_and_a_refused_one_holds_up_none() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let running = start(folder.path()).await;
    let client = client(&running, None).await;
    let _following = client.follow();
    client.sync().await.unwrap();
    let before = client.height();
    let too_much = SUPPLY * Tokens::PER_TOKEN + 1;
    let operations: Vec<Operation> = (0..150)
        .map(|n| transfer(if n == 70 { too_much } else { n + 1 }))
        .collect();
    let outcomes = client.send_all(&author(1), operations).await;
    for (n, outcome) in (0_u64..).zip(&outcomes) {
        match n {
            70 => assert!(
                matches!(outcome, Err(SendError::Refused(Refusal::Funds { .. }))),
                "{outcome:?}"
            ),
            _ => assert!(outcome.is_ok(), "{n}: {outcome:?}"),
        }
    }
    let account = client.require::<Account>(author(2).id).await.unwrap();
    assert_eq!(account.body.balance, Tokens::from_micro((1..=150).sum::<u64>() - 71));
    let blocks = client.height() - before;
    assert!(blocks < 75, "{blocks} blocks for 150 operations");
    running.stop().await.unwrap();
}

/// What `ledger` prints when it is asked, and its exit code.
fn ask(running: &Running, words: &[&str]) -> (i32, Vec<serde_json::Value>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_ledger"))
        .args([
            "--chain",
            &running.chain().to_string(),
            "--peer",
            &running.address().to_string(),
        ])
        .args(words)
        .output()
        .unwrap();
    told(&output)
}

/// Exit code, lines on standard output, and standard error.
fn told(output: &std::process::Output) -> (i32, Vec<serde_json::Value>, String) {
    let [lines, error] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap());
    let values = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output.status.code().unwrap(), values, error)
}

/// `ledger` without anybody to ask, with this on standard input.
fn verify(chain: &str, text: &str) -> (i32, Vec<serde_json::Value>, String) {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_ledger"))
        .args(["--chain", chain, "verify", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut program.stdin.take().unwrap(), text.as_bytes()).unwrap();
    told(&program.wait_with_output().unwrap())
}

/// What was exported is verified by the genesis hash alone, and nothing else passes for it.
fn check_exported(running: &Running, id: &str, paid: u64) {
    let chain = running.chain().to_string();
    let (code, exported, error) = ask(running, &["export", "account", id]);
    assert_eq!((code, exported.len()), (0, 1), "{error}");
    let (code, proven, error) = verify(&chain, &exported[0].to_string());
    assert_eq!((code, proven.len()), (0, 3), "{error}");
    assert_eq!(proven[0]["head"], exported[0]["head"]["header"]);
    let (_, history, _) = ask(running, &["history", "account", id]);
    assert_eq!(proven[1..], history);

    let (_, then, _) = ask(running, &["export", "account", id, "--at", &paid.to_string()]);
    let (code, proven, _) = verify(&chain, &then[0].to_string());
    assert_eq!(
        (code, proven[0]["head"]["height"].as_u64(), proven.len()),
        (0, Some(paid), 2)
    );
    let (_, absent, _) = ask(running, &["export", "farm", id]);
    let (code, proven, error) = verify(&chain, &absent[0].to_string());
    assert_eq!(
        (code, proven.len(), error.contains("that is proven")),
        (5, 1, true),
        "{error}"
    );

    let spoilt = |change: fn(&mut serde_json::Value), said: &str| {
        let mut other = exported[0].clone();
        change(&mut other);
        let (code, proven, error) = verify(&chain, &other.to_string());
        assert_eq!((code, proven.len()), (1, 0), "{error}");
        assert!(error.contains(said) && error.lines().count() == 1, "{error}");
    };
    spoilt(|excerpt| excerpt["genesis"]["name"] = "other".into(), "wrong genesis");
    spoilt(
        |excerpt| excerpt["head"]["header"]["height"] = 1.into(),
        "certificate of another block",
    );
    spoilt(
        |excerpt| excerpt["proof"]["record"]["body"]["account"]["balance"] = 9.into(),
        "altered record",
    );
    spoilt(
        |excerpt| excerpt["proof"]["record"] = serde_json::Value::Null,
        "missing record",
    );
    spoilt(|excerpt| excerpt["earlier"] = serde_json::json!([]), "broken history");
    spoilt(|excerpt| excerpt["key"]["kind"] = "farm".into(), "bad proof");
    spoilt(
        |excerpt| excerpt["more"] = 1.into(),
        "nothing that `ledger export` wrote",
    );
    let (code, _, error) = verify(&"0".repeat(64), &exported[0].to_string());
    assert_eq!((code, error.contains("wrong genesis")), (1, true), "{error}");
}

/// The program says what stands on the chain of [`a_record_is_proven_as_it_was_after_any_block`].
fn check_program(running: &Running, paid: [u64; 2]) {
    let id = author(2).id.to_string();

    let (_, lines, _) = ask(running, &["find", "name", "--of", &id]);
    assert_eq!(lines[0]["body"]["name"]["label"], "meadow", "{lines:?}");
    let at = paid[0].to_string();
    let (code, lines, _) = ask(running, &["get", "account", &id, "--at", &at]);
    assert_eq!(
        (code, lines[0]["body"]["account"]["balance"].as_u64()),
        (0, Some(5)),
        "{lines:?}"
    );
    let (code, lines, _) = ask(running, &["get", "account", &id]);
    assert_eq!((code, lines[0]["version"].as_u64()), (0, Some(2)), "{lines:?}");
    let (code, lines, _) = ask(running, &["history", "account", &id]);
    assert_eq!((code, lines.len()), (0, 2));
    let (code, lines, error) = ask(running, &["get", "farm", &id]);
    assert_eq!(
        (code, lines.len(), error.contains("that is proven")),
        (5, 0, true),
        "{error}"
    );
    let (code, lines, _) = ask(running, &["set", "name", &id]);
    assert_eq!(
        (code, lines.len(), lines[0]["body"]["name"]["label"].as_str()),
        (0, 1, Some("meadow")),
        "{lines:?}"
    );
    let (code, lines, _) = ask(running, &["set", "farm", &id]);
    assert_eq!((code, lines.len()), (0, 0), "an empty set is proven to be empty");
    let (code, lines, error) = ask(running, &["find", "entity", "--most", "1"]);
    assert_eq!(
        (code, lines.len(), error.contains("there are more")),
        (0, 1, true),
        "{error}"
    );
    let (code, _, error) = ask(running, &["get", "account", &id, "--at", "0"]);
    assert_eq!(code, 2, "{error}");
    let (code, lines, _) = ask(running, &["status"]);
    assert!(
        code == 0 && lines[0]["head"]["height"].as_u64() >= Some(paid[1]),
        "{lines:?}"
    );
    check_exported(running, &id, paid[0]);
    let (code, _, error) = ask(running, &["get", "planet", &id]);
    assert_eq!((code, error.contains("no such kind")), (2, true), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_proven_as_it_was_after_any_block() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let running = start(folder.path()).await;
    let client = client(&running, None).await;
    let key = RecordKey::new(Kind::Account, author(2).id);
    let before = client.sync().await.unwrap().height;
    let pay = async |amount| {
        client.send(&author(1), transfer(amount)).await.unwrap();
        let paid = client.record::<ledger::body::Account>(author(2).id).await.unwrap();
        paid.unwrap().record.height
    };
    let paid = [pay(5).await, pay(6).await];
    let balance = async |height| {
        let record = client.records_at(&[key], height).await.unwrap().pop().unwrap();
        record.map(|record| match record.body {
            ledger::Body::Account(account) => account.balance.micro(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(balance(before).await, None);
    assert_eq!(balance(paid[0]).await, Some(5));
    assert_eq!(balance(paid[1] - 1).await, Some(5));
    assert_eq!(balance(paid[1]).await, Some(11));
    let ahead = client.records_at(&[key], paid[1] + 1_000_000).await;
    assert!(matches!(ahead, Err(ClientError::AllFailed(_))), "{ahead:?}");

    let label = ledger::body::Label::new("meadow").unwrap();
    client
        .send(&author(1), Operation::ClaimName(label.clone()))
        .await
        .unwrap();
    let owned = async |seed| client.find(Kind::Name, Some(author(seed).id)).await.unwrap().len();
    assert_eq!((owned(1).await, owned(2).await), (1, 0));
    let to = author(2).id;
    client
        .send(&author(1), Operation::PassOnName { label, to })
        .await
        .unwrap();
    assert_eq!(
        (owned(1).await, owned(2).await),
        (0, 1),
        "it is found where it belongs alone"
    );

    tokio::task::block_in_place(|| check_program(&running, paid));
    running.stop().await.unwrap();
}
