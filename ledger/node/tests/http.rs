//! One validator with a real engine and database, asked over HTTP, by friends and others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::SocketAddr, path::Path, time::Duration};

use borsh::BorshDeserialize as _;
use ledger::{
    CertifiedHeader, Genesis, Hash, Id, Kind, LightClient, Operation, Record, RecordKey, SignedTransaction, SigningKey,
    Tokens, Transaction,
    body::{Entity, Keys},
    encoding::encode,
    light::{RecordProof, verify_history},
    text::Text,
};
use ledger_node::{Home, HttpLimits, HttpOptions, InitOptions, Rate, RunError, RunOptions, Running, openapi, run};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

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

fn id(seed: u8) -> Id {
    entity(seed).founding_id()
}

fn init(folder: &Path) {
    let entities = [(1, 1_000), (2, 0)].map(|(seed, tokens)| {
        let path = folder.join(format!("entity-{seed}.json"));
        std::fs::write(&path, serde_json::to_vec(&entity(seed)).unwrap()).unwrap();
        (path, Tokens::from_micro(tokens))
    });
    let options = InitOptions {
        name: "test".into(),
        interval_ms: 100,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        entities: entities.into(),
        validators: vec![],
    };
    Home::init(&folder.join("validator"), &options).unwrap();
}

fn options(folder: &Path, limits: HttpLimits) -> RunOptions {
    let http = HttpOptions {
        limits,
        ..HttpOptions::new(LOOPBACK)
    };
    RunOptions {
        http: Some(http),
        ..RunOptions::new(folder.join("validator"), LOOPBACK)
    }
}

async fn start(folder: &Path, limits: HttpLimits) -> Running {
    init(folder);
    let running = run(options(folder, limits)).await.unwrap();
    above(&running, 0).await;
    running
}

/// Waits for a block above a height.
async fn above(running: &Running, height: u64) -> u64 {
    let mut heads = running.ledger().heads();
    let higher = heads.wait_for(|head| head.as_ref().is_some_and(|head| head.header.height > height));
    let head = timeout(PATIENCE, higher).await.unwrap().unwrap();
    head.as_ref().unwrap().header.height
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(given, _)| given.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.head))
    }

    fn code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends bytes as they are and reads until the other side closes.
async fn talk(running: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(running.http().unwrap()).await.unwrap();
    // Whoever is refused early may not take all of it.
    let _ = socket.write_all(bytes).await;
    let mut all = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut all)).await;
    let _ = read.expect("the connection was not closed in time");
    all
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = bytes[end + 4..].to_vec();
    Answer { status, head, body }
}

async fn ask(running: &Running, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    parse(&talk(running, &[head.as_bytes(), body].concat()).await)
}

async fn get(running: &Running, path: &str) -> Answer {
    ask(running, "GET", path, "", b"").await
}

async fn submit(running: &Running, transaction: &SignedTransaction) -> Answer {
    ask(running, "POST", "/v1/transactions", "", &encode(transaction)).await
}

fn transfer(chain: Hash, nonce: u64, amount: u64) -> SignedTransaction {
    let transaction = Transaction {
        author: id(1),
        nonce,
        operation: Operation::Transfer {
            to: id(2),
            amount: Tokens::from_micro(amount),
        },
    };
    transaction.sign(chain, &key(1))
}

/// Waits until the account of 2 has this version; returns the height that made it.
async fn received(running: &Running, version: u64) -> u64 {
    let path = format!("/v1/records/account/{}", id(2));
    let seen = async {
        let mut height = 0;
        loop {
            let record = get(running, &path).await.json();
            if record["version"].as_u64() == Some(version) {
                return record["height"].as_u64().unwrap();
            }
            height = above(running, height).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_taken_and_each_refusal_has_a_code() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), HttpLimits::default()).await;
    let chain = running.chain();
    let first = transfer(chain, 0, 5);
    let taken = submit(&running, &first).await;
    assert_eq!(
        (taken.status, &taken.json()["hash"]),
        (202, &first.hash().to_string().into())
    );
    received(&running, 1).await;
    assert_eq!(submit(&running, &first).await.code(), (409, "replayed".into()));
    let ahead = submit(&running, &transfer(chain, 7, 5)).await;
    assert_eq!(ahead.code(), (409, "nonce-ahead".into()));
    assert_eq!(ahead.json()["detail"]["expected"], 1);
    let other = submit(&running, &transfer(Hash::ZERO, 1, 5)).await;
    assert_eq!(other.code(), (403, "bad-signature".into()));
    let poor = submit(&running, &transfer(chain, 1, 996)).await;
    assert_eq!(poor.code(), (402, "funds".into()));
    let mut stranger = transfer(chain, 0, 5);
    stranger.transaction.author = id(3);
    assert_eq!(submit(&running, &stranger).await.code(), (403, "unknown-author".into()));

    let post = async |kind: &str, body: &str| {
        let kind = format!("content-type: {kind}\r\n");
        ask(&running, "POST", "/v1/transactions", &kind, body.as_bytes()).await
    };
    let bytes = encode(&transfer(chain, 1, 6));
    let hex = format!("{{\"hex\":\"{}\"}}", data_encoding::HEXLOWER.encode(&bytes));
    assert_eq!(post("application/json; charset=utf-8", &hex).await.status, 202);
    let bytes = encode(&transfer(chain, 2, 7));
    let base64 = format!("{{\"base64\":\"{}\"}}", data_encoding::BASE64.encode(&bytes));
    assert_eq!(post("application/json", &base64).await.status, 202);
    assert_eq!(post("text/plain", "x").await.code(), (415, "media-type".into()));
    assert_eq!(
        post("application/json", "{\"hex\":\"0\"}").await.code(),
        (400, "malformed".into())
    );
    let get_only = ask(&running, "POST", "/v1/status", "", b"").await;
    assert_eq!(get_only.code(), (405, "method".into()));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_as_they_are_as_they_were_and_what_is_known_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), HttpLimits::default()).await;
    let mut heights = Vec::new();
    for (nonce, amount) in [(0, 5), (1, 6)] {
        assert_eq!(
            submit(&running, &transfer(running.chain(), nonce, amount)).await.status,
            202
        );
        heights.push(received(&running, nonce + 1).await);
    }
    let account = format!("/v1/records/account/{}", id(2));
    let latest = get(&running, &account).await;
    assert_eq!(latest.json()["body"]["account"]["balance"], 11);
    let tag = format!("if-none-match: {}\r\n", latest.header("etag").unwrap());
    let known = ask(&running, "GET", &account, &tag, b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let then = get(&running, &format!("{account}?at={}", heights[0])).await;
    assert_eq!(then.json()["body"]["account"]["balance"], 5);
    assert_ne!(then.header("etag"), latest.header("etag"));
    let before = get(&running, &format!("{account}?at={}", heights[0] - 1)).await;
    assert_eq!(before.code(), (404, "missing".into()));

    let history = get(&running, &format!("{account}/history?limit=1")).await.json();
    assert_eq!(history["versions"][0]["previous"], history["next"]);
    let from = history["next"].as_str().unwrap();
    let rest = get(&running, &format!("{account}/history?from={from}")).await.json();
    assert_eq!(
        (rest["versions"][0]["version"].as_u64(), &rest["next"]),
        (Some(1), &Value::Null)
    );
    assert_eq!(
        get(&running, &format!("/v1/versions/{from}")).await.json(),
        rest["versions"][0]
    );

    let page = get(&running, "/v1/records/entity?limit=1").await.json();
    let after = page["next"].as_str().unwrap();
    let last = get(&running, &format!("/v1/records/entity?limit=1&after={after}"))
        .await
        .json();
    let ids = [&page["records"][0]["id"], &last["records"][0]["id"]].map(|id| id.as_str().unwrap().to_owned());
    assert!(ids[0] < ids[1] && last["next"].is_null(), "{ids:?}");

    for filters in [
        "country=be",
        "near=51.05,-3.72&km=20&state=active",
        "cru=1&mru=1GiB&max_price=0.1",
    ] {
        let none = get(&running, &format!("/v1/records/node?{filters}")).await.json();
        assert_eq!(
            (none["records"].as_array().map(Vec::len), &none["next"]),
            (Some(0), &Value::Null),
            "{filters}"
        );
    }

    let wrote = get(&running, &format!("/v1/blocks/{}/records", heights[1]))
        .await
        .json();
    let wrote = wrote["records"].as_array().unwrap();
    assert!(wrote.iter().all(|record| record["height"] == heights[1]), "{wrote:?}");
    let received = |record: &&Value| record["id"] == id(2).to_string() && record["version"] == 2;
    assert_eq!(wrote.iter().filter(received).count(), 1, "{wrote:?}");
    let made = get(&running, &format!("/v1/blocks/{}/transactions", heights[1]))
        .await
        .json();
    assert_eq!(made["transactions"][0]["operation"]["transfer"]["amount"], 6);
    let below = get(&running, &format!("/v1/blocks?before={}&limit=1", heights[1] + 1))
        .await
        .json();
    assert_eq!(
        (&below["blocks"][0]["transactions"], &below["next"]),
        (&1.into(), &heights[1].into())
    );
    let found = get(&running, &format!("/v1/search?q={}", id(2))).await.json();
    assert_eq!(found["records"].as_array().unwrap().len(), 2);
    let rich = get(&running, &format!("/v1/accounts/{}", id(1))).await.json();
    assert_eq!((&rich["balance"], &rich["next_nonce"]), (&989.into(), &2.into()));
    for (path, code) in [
        ("/v1/records/planet", (400, "malformed")),
        ("/v1/records/farm?of=x", (400, "malformed")),
        ("/v1/records/farm?country=Belgium", (400, "malformed")),
        ("/v1/records/farm?near=91,0", (400, "malformed")),
        ("/v1/records/farm?near=1,1&country=BE", (400, "malformed")),
        ("/v1/records/contract?country=BE", (400, "malformed")),
        ("/v1/records/node?mru=1MB", (400, "malformed")),
        ("/v1/records/node?max_price=1", (400, "malformed")),
        ("/v1/records/entity?after=1-2", (400, "malformed")),
        ("/v1/blocks/999999999", (404, "missing")),
        ("/v1/names/nobody-here", (404, "missing")),
        ("/v2", (404, "no-endpoint")),
    ] {
        assert_eq!(get(&running, path).await.code(), (code.0, code.1.to_owned()), "{path}");
    }
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_needs_to_trust_the_genesis_hash_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), HttpLimits::default()).await;
    let hex = |value: &Value| {
        data_encoding::HEXLOWER
            .decode(value.as_str().unwrap().as_bytes())
            .unwrap()
    };
    let genesis = hex(&get(&running, "/v1/genesis").await.json()["borsh"]);
    let genesis = Genesis::try_from_slice(&genesis).unwrap();
    let path = format!("/v1/records/entity/{}/proof", id(1));
    let proof = get(&running, &path).await.json();
    let head = CertifiedHeader::try_from_slice(&hex(&proof["head"])).unwrap();
    let proven = RecordProof::try_from_slice(&hex(&proof["proof"])).unwrap();
    let key = RecordKey::new(Kind::Entity, id(1));
    let mut light = LightClient::new(running.chain(), &genesis).unwrap();
    light.advance(&head).unwrap();
    assert!(light.verify_record(key, proven.clone()).unwrap().is_some());
    let other = RecordKey::new(Kind::Entity, id(2));
    assert!(light.verify_record(other, proven).is_err());
    let at = head.header.height;
    let bytes = get(&running, &format!("{path}.borsh?at={at}")).await;
    let (same, _) = <(CertifiedHeader, RecordProof)>::try_from_slice(&bytes.body).unwrap();
    assert_eq!(same.header, head.header);
    // Its earlier versions are those that it links to.
    let account = RecordKey::new(Kind::Account, id(1));
    let newest = transfer(running.chain(), 0, 5);
    assert_eq!(submit(&running, &newest).await.status, 202);
    received(&running, 1).await;
    let path = format!("/v1/records/account/{}/history.borsh", id(1));
    let versions = Vec::<Record>::try_from_slice(&get(&running, &path).await.body).unwrap();
    assert!(versions.len() > 1);
    assert_eq!(versions[0].key(), account);
    verify_history(&versions[0], &versions[1..]).unwrap();
    let from = versions[0].previous;
    let rest = get(&running, &format!("{path}?from={from}&limit=1")).await;
    assert_eq!(rest.body, encode(&versions[1..2].to_vec()));
    assert_eq!(rest.header("etag").unwrap(), format!("\"1-{from}\""));
    assert_eq!(
        get(&running, "/v1/handovers").await.json()["handovers"],
        serde_json::json!([])
    );
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_is_a_part_of_the_program_and_loads_nothing_from_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), HttpLimits::default()).await;
    let page = String::from_utf8(get(&running, "/").await.body).unwrap();
    let start = page.find("/explorer/").unwrap();
    let folder = &page[start..start + "/explorer/0123456789abcdef/".len()];
    let files = [
        ("/".to_owned(), "text/html; charset=utf-8", "no-cache"),
        (
            format!("{folder}main.js"),
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
        ),
        (
            format!("{folder}base.css"),
            "text/css; charset=utf-8",
            "public, max-age=31536000, immutable",
        ),
    ];
    for (path, media, cache) in files {
        let answer = get(&running, &path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(media)),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some(cache), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = format!("if-none-match: {}\r\n", answer.header("etag").unwrap());
        let known = ask(&running, "GET", &path, &tag, b"").await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
    }
    let nothing = get(&running, "/explorer/nothing.js").await;
    assert_eq!(nothing.code(), (404, "no-endpoint".into()));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_or_does_not_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let limits = HttpLimits {
        header_time: Duration::from_millis(300),
        request_time: Duration::from_millis(300),
        connections_of_one: 2,
        ..HttpLimits::default()
    };
    let running = start(folder.path(), limits).await;
    let long = format!("x: {}\r\n", "y".repeat(limits.headers));
    assert_eq!(ask(&running, "GET", "/v1/status", &long, b"").await.status, 431);
    let body = vec![0; limits.body + 1];
    let large = ask(&running, "POST", "/v1/transactions", "", &body).await;
    assert_eq!(large.code(), (413, "too-large".into()));
    // Chunks that never end are counted as well.
    let chunk = format!("4000\r\n{}\r\n", "z".repeat(0x4000)).repeat(4);
    let endless = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    );
    assert_eq!(parse(&talk(&running, endless.as_bytes()).await).status, 413);
    // So are headers and bodies that never come.
    assert_eq!(talk(&running, b"GET /v1/status HT").await, b"");
    let half = b"POST /v1/transactions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 9\r\n\r\nabc";
    assert_eq!(parse(&talk(&running, half).await).code(), (408, "late".into()));
    let address = running.http().unwrap();
    let held = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    assert_eq!(parse(&talk(&running, b"").await).status, 429);
    drop(held);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let often = Rate {
        every: Duration::from_nanos(1),
        burst: u32::MAX,
    };
    let limits = HttpLimits {
        stall: Duration::from_millis(300),
        rate: often,
        ..HttpLimits::default()
    };
    let running = start(folder.path(), limits).await;
    let mut socket = TcpStream::connect(running.http().unwrap()).await.unwrap();
    let requests = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    // Answers fill the sockets, then requests do, and at last the other side is gone.
    let cut_off = async { while socket.write_all(requests.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, cut_off).await.expect("the reader is cut off");
    assert_eq!(get(&running, "/v1/status").await.status, 200);
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_is_told_to_come_again_and_finds_it_when_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let limits = HttpLimits {
        connections: 1,
        ..HttpLimits::default()
    };
    let running = start(folder.path(), limits).await;
    let mut held = TcpStream::connect(running.http().unwrap()).await.unwrap();
    held.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    timeout(PATIENCE, held.read_exact(&mut [0; 12])).await.unwrap().unwrap();
    let full = parse(&talk(&running, b"").await);
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    drop(held);
    // Its place is free once the other side has seen that it went.
    let request = b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let free = async { while !talk(&running, request).await.starts_with(b"HTTP/1.1 200") {} };
    timeout(PATIENCE, free).await.expect("the place is free");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let rate = Rate {
        every: Duration::from_secs(60),
        burst: 2,
    };
    let limits = HttpLimits {
        rate,
        ..HttpLimits::default()
    };
    let running = start(folder.path(), limits).await;
    for _ in 0..2 {
        assert_eq!(get(&running, "/v1/status").await.status, 200);
    }
    let refused = get(&running, "/v1/status").await;
    assert_eq!(refused.code(), (429, "rate-limited".into()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=61).contains(&wait), "{wait}");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_and_an_optional_one_does_without() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path());
    let taken = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
    let mut options = options(folder.path(), HttpLimits::default());
    let http = options.http.as_mut().unwrap();
    http.listen = taken.local_addr().unwrap();
    let refused = run(options.clone()).await;
    let Err(RunError::Http(error)) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.to_string().contains("--http IP:PORT"), "{error}");
    options.http.as_mut().unwrap().optional = true;
    let running = run(options).await.unwrap();
    assert_eq!(running.http(), None);
    running.stop().await.unwrap();
}

/// Lines of a stream of news, until `enough` of them are there.
async fn news(running: &Running, path: &str, headers: &str, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut socket = TcpStream::connect(running.http().unwrap()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut all, mut lines) = (Vec::new(), Vec::new());
    while !enough(&lines) {
        let mut part = [0; 4_096];
        let read = timeout(PATIENCE, socket.read(&mut part)).await;
        let read = read.unwrap_or_else(|_| panic!("not told: {lines:?}")).unwrap();
        assert!(read > 0, "the stream has ended: {lines:?}");
        all.extend_from_slice(&part[..read]);
        let text = String::from_utf8(all.clone()).unwrap();
        lines = text.lines().map(str::to_owned).collect();
    }
    lines
}

/// What an event of this name says, in order.
fn told(lines: &[String], name: &str) -> Vec<Value> {
    let event = format!("event: {name}");
    let at = lines.iter().enumerate().filter(|(_, line)| **line == event);
    let data = at.filter_map(|(index, _)| lines.get(index + 1)?.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn news_come_as_blocks_do_and_whoever_comes_back_misses_none() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path(), HttpLimits::default()).await;
    let first = above(&running, 0).await;
    let transaction = transfer(running.chain(), 0, 5);
    let sent = async {
        above(&running, first).await;
        submit(&running, &transaction).await
    };
    let path = format!("/v1/events?kind=entity&of={}", id(2));
    let empty = news(&running, &path, "", |lines| told(lines, "block").len() >= 2);
    let path = "/v1/events?kind=account";
    let full = news(&running, path, "", |lines| told(lines, "record").len() >= 2);
    let (sent, empty, full) = tokio::join!(sent, empty, full);
    assert_eq!(sent.status, 202, "{}", sent.head);
    assert_eq!(told(&empty, "record"), Vec::<Value>::new());
    let changed = told(&full, "record");
    let receives = |record: &&Value| record["id"] == id(2).to_string();
    assert_eq!(changed.iter().filter(receives).count(), 1, "{changed:?}");

    let heights = |lines: &[String]| -> Vec<u64> {
        let blocks = told(lines, "block");
        blocks.iter().map(|block| block["height"].as_u64().unwrap()).collect()
    };
    let height = changed[0]["height"].as_u64().unwrap();
    let back = format!("last-event-id: {}\r\n", height - 1);
    let again = news(&running, path, &back, |lines| told(lines, "block").len() >= 3).await;
    assert_eq!(told(&again, "record"), changed);
    assert_eq!(heights(&again), [height, height + 1, height + 2]);
    let ids: Vec<_> = again.iter().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids[0], height.to_string());
    for (path, code) in [
        ("/v1/events?state=active", (400, "malformed")),
        ("/v1/events?kind=farm&state=active", (400, "malformed")),
    ] {
        assert_eq!(get(&running, path).await.code(), (code.0, code.1.to_owned()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_their_places_and_give_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let limits = HttpLimits {
        streams_of_one: 1,
        ..HttpLimits::default()
    };
    let running = start(folder.path(), limits).await;
    let mut open = TcpStream::connect(running.http().unwrap()).await.unwrap();
    open.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut part = [0; 64];
    timeout(PATIENCE, open.read(&mut part)).await.unwrap().unwrap();
    let refused = get(&running, "/v1/events").await;
    assert_eq!(refused.code(), (429, "rate-limited".to_owned()));
    drop(open);
    let freed = async {
        loop {
            let mut socket = TcpStream::connect(running.http().unwrap()).await.unwrap();
            socket
                .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .unwrap();
            let mut part = [0; 12];
            socket.read_exact(&mut part).await.unwrap();
            if &part == b"HTTP/1.1 200" {
                break;
            }
        }
    };
    timeout(PATIENCE, freed)
        .await
        .expect("the place of a reader that went is free");
}

#[tokio::test]
async fn the_description_in_the_documentation_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("ZOS_WRITE_OPENAPI").is_some() {
        std::fs::write(path, openapi()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == openapi(),
        "write it anew: ZOS_WRITE_OPENAPI=1 cargo test -p ledger-node --test http"
    );
}
