//! What Prometheus reads of a validator: every metric moves when what it counts happens, and the dashboard knows no other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use chain_client::{ChainClient, Complaints};
use ledger::{
    Hash, Id, Operation, SignedTransaction, SigningKey, Tokens, Transaction,
    body::{Entity, Keys},
    encoding::encode,
    text::Text,
};
use ledger_node::{Home, HttpLimits, HttpOptions, InitOptions, RunOptions, Running, run};
use peer_link::{Endpoint, LinkKey};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(50);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// What cannot be made to happen here; tests of the library move it.
const ELSEWHERE: [&str; 3] = [
    "zos_ledger_blocks_behind",
    "zos_ledger_evidence_recorded_total",
    "zos_ledger_rounds_beyond_first_total",
];

/// Samples by name, with their labels as they stand.
type Samples = BTreeMap<String, f64>;

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

fn transfer(chain: Hash, nonce: u64) -> SignedTransaction {
    let operation = Operation::Transfer {
        to: id(2),
        amount: Tokens::from_micro(1),
    };
    let transaction = Transaction {
        author: id(1),
        nonce,
        operation,
    };
    transaction.sign(chain, &key(1))
}

/// Two validators that need each other; the second one's directory is `second`.
fn found(folder: &Path) -> [RunOptions; 2] {
    let sockets = [(); 2].map(|()| std::net::UdpSocket::bind(LOOPBACK).unwrap());
    let listen = sockets.map(|socket| socket.local_addr().unwrap());
    let homes = ["first", "second"].map(|name| folder.join(name));
    let introductions = [0, 1].map(|number| Home::introduce(&homes[number], vec![listen[number]]).unwrap());
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let other = write("second.json", serde_json::to_vec(&introductions[1]).unwrap());
    let entities = [1, 2].map(|seed| {
        let json = serde_json::to_vec(&entity(seed)).unwrap();
        (write(&format!("{seed}.json"), json), Tokens::from_micro(100))
    });
    let options = InitOptions {
        name: "test".into(),
        interval_ms: 100,
        attest_ms: 3_600_000,
        name_deposit: Tokens::from_micro(5),
        entities: entities.into(),
        validators: vec![other],
    };
    let genesis = Home::init(&homes[0], &options).unwrap().genesis;
    Home::join(&homes[1], genesis, vec![introductions[0].peer.clone()]).unwrap();
    let limits = HttpLimits {
        connections_of_one: 4,
        ..HttpLimits::default()
    };
    [0, 1].map(|number| RunOptions {
        http: Some(HttpOptions {
            limits,
            ..HttpOptions::new(LOOPBACK)
        }),
        ..RunOptions::new(homes[number].clone(), listen[number])
    })
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.http().unwrap()).await.unwrap()
}

/// Head and body of an answer.
async fn ask(running: &Running, method: &str, path: &str, body: &[u8]) -> (String, String) {
    let mut socket = connect(running).await;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, socket.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn submit(running: &Running, transaction: &SignedTransaction) -> String {
    let (head, _) = ask(running, "POST", "/v1/transactions", &encode(transaction)).await;
    head.split(' ').nth(1).unwrap().to_owned()
}

async fn scrape(running: &Running) -> Samples {
    let (head, body) = ask(running, "GET", "/metrics", b"").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect(line);
        (name.to_owned(), value.parse().expect(line))
    };
    samples.map(parse).collect()
}

/// Scrapes until something is so.
async fn until(running: &Running, what: &str, is_so: impl Fn(&Samples) -> bool) -> Samples {
    let looked = async {
        loop {
            let samples = scrape(running).await;
            if is_so(&samples) {
                return samples;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looked)
        .await
        .unwrap_or_else(|_| panic!("never seen: {what}"))
}

/// Name of a metric without its labels.
fn bare(sample: &str) -> &str {
    sample.split('{').next().unwrap()
}

fn value(samples: &Samples, sample: &str) -> f64 {
    *samples
        .get(sample)
        .unwrap_or_else(|| panic!("no {sample}: {samples:#?}"))
}

/// Everything happens that can to two validators; gives what was seen of the first one, and the names of what moved.
async fn seen(folder: &Path) -> (Vec<Samples>, BTreeSet<String>) {
    let [first, second] = found(folder);
    let first = run(first).await.unwrap();
    let early = scrape(&first).await;
    let second = run(second).await.unwrap();
    let ask_head = async |path: &str| ask(&first, "GET", path, b"").await.0;

    // What strangers ask for names no series.
    assert!(ask_head("/stranger/1").await.starts_with("http/1.1 404"));
    assert!(ask_head("/v1/records/stranger").await.starts_with("http/1.1 400"));
    assert!(
        ask(&first, "BREW", "/v1/status", b"")
            .await
            .0
            .starts_with("http/1.1 405")
    );
    let chain = first.chain();
    assert_eq!(submit(&first, &transfer(chain, 0)).await, "202");
    assert_eq!(submit(&first, &transfer(chain, 7)).await, "409");
    let committed = |samples: &Samples| samples["zos_ledger_transactions_committed_total"] > 0.0;
    let with_block = until(&first, "a block with the transaction", committed).await;

    let endpoint = Endpoint::bind(&LinkKey::from_seed(&[9; 32]), LOOPBACK).await.unwrap();
    let peers = vec![first.address().clone()];
    let client = ChainClient::open(endpoint, chain, peers, None, Complaints::to_log())
        .await
        .unwrap();
    client.sync().await.unwrap();
    let mut stream = connect(&first).await;
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    stream.read_exact(&mut [0; 64]).await.unwrap();
    let linked = scrape(&first).await;

    let held = [connect(&first).await, connect(&first).await, connect(&first).await];
    let mut refused = String::new();
    let mut one_more = connect(&first).await;
    timeout(PATIENCE, one_more.read_to_string(&mut refused))
        .await
        .unwrap()
        .unwrap();
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    drop(held);
    drop(stream);
    let freed = |samples: &Samples| samples["zos_ledger_http_connections"] < 2.0;
    // Until the places are free, a look finds none either.
    let look = async {
        loop {
            let mut socket = connect(&first).await;
            let mut start = [0; 12];
            socket
                .write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            if socket.read_exact(&mut start).await.is_ok() && &start == b"HTTP/1.1 200" {
                break;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, look).await.expect("places come free");
    let freed = until(&first, "the places are free", freed).await;

    second.stop().await.unwrap();
    let alone = until(&first, "the other one is gone", |samples| {
        samples["zos_ledger_peers_linked"] == 0.0
    })
    .await;
    assert_eq!(submit(&first, &transfer(chain, 1)).await, "202");
    let older = value(&alone, "zos_ledger_last_block_age_seconds") + 0.1;
    let stuck = |samples: &Samples| samples["zos_ledger_last_block_age_seconds"] > older;
    let stuck = until(&first, "the chain stands", stuck).await;
    first.stop().await.unwrap();

    let looks = vec![early, with_block, linked, freed, alone, stuck];
    let mut moved = BTreeSet::new();
    for (before, after) in looks.iter().zip(&looks[1..]) {
        let changed = |sample: &&String| before.get(*sample).copied().unwrap_or_default() != after[*sample];
        moved.extend(after.keys().filter(changed).map(|sample| bare(sample).to_owned()));
    }
    (looks, moved)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_moves_when_what_it_counts_happens_and_the_dashboard_knows_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (looks, moved) = seen(folder.path()).await;
    let [early, with_block, linked, freed, alone, stuck] = looks.as_slice() else {
        panic!("six looks")
    };
    for (samples, sample, expected) in [
        (early, "zos_ledger_height", 0.0),
        (early, "zos_ledger_validator", 1.0),
        (early, "zos_ledger_power", 1.0),
        (early, "zos_ledger_total_power", 2.0),
        (early, "zos_ledger_validators", 2.0),
        (early, "zos_ledger_peers_linked", 0.0),
        (with_block, "zos_ledger_peers_linked", 1.0),
        (with_block, "zos_ledger_transactions_taken_total", 1.0),
        (with_block, "zos_ledger_transactions_committed_total", 1.0),
        (
            with_block,
            "zos_ledger_transactions_refused_total{reason=\"nonce-ahead\"}",
            1.0,
        ),
        (
            with_block,
            "zos_ledger_http_requests_total{endpoint=\"none\",code=\"404\"}",
            1.0,
        ),
        (
            with_block,
            "zos_ledger_http_requests_total{endpoint=\"/v1/records/{kind}\",code=\"400\"}",
            1.0,
        ),
        (
            with_block,
            "zos_ledger_http_requests_total{endpoint=\"/v1/status\",code=\"405\"}",
            1.0,
        ),
        (linked, "zos_ledger_http_streams", 1.0),
        (linked, "zos_ledger_link_requests_total{kind=\"genesis\"}", 1.0),
        (freed, "zos_ledger_http_streams", 0.0),
        (stuck, "zos_ledger_transactions_waiting", 1.0),
    ] {
        assert_eq!(value(samples, sample), expected, "{sample}");
    }
    let strangers: Vec<_> = stuck.keys().filter(|sample| sample.contains("stranger")).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    assert!(value(alone, "zos_ledger_height") >= value(with_block, "zos_ledger_height"));
    for (samples, sample, least) in [
        (linked, "zos_ledger_clients_linked", 1.0),
        (linked, "zos_ledger_http_connections", 2.0),
        (
            freed,
            "zos_ledger_http_connections_refused_total{reason=\"one-client\"}",
            1.0,
        ),
    ] {
        assert!(value(samples, sample) >= least, "{sample}");
    }
    let blocks = value(stuck, "zos_ledger_blocks_total");
    for histogram in ["zos_ledger_block_apply_seconds", "zos_ledger_block_commit_seconds"] {
        assert!(value(stuck, &format!("{histogram}_count")) >= blocks, "{histogram}");
        assert!(value(stuck, &format!("{histogram}_sum")) > 0.0, "{histogram}");
    }

    // What is the same from the first look on need not move, but must be there.
    let constant = [
        "zos_ledger_validator",
        "zos_ledger_power",
        "zos_ledger_total_power",
        "zos_ledger_validators",
    ];
    let all: BTreeSet<&str> = stuck.keys().map(|sample| bare(sample)).collect();
    for name in &all {
        let still = value(stuck, stuck.keys().find(|sample| bare(sample) == *name).unwrap());
        let there = still != 0.0 && (constant.contains(name) || !name.starts_with("zos_ledger_") || is_fact(name));
        assert!(
            moved.contains(*name) || there || ELSEWHERE.contains(name),
            "nothing moves {name}"
        );
    }
    check_dashboard(&all);
}

/// What the machine or the build decides.
fn is_fact(name: &str) -> bool {
    [
        "zos_ledger_build_info",
        "zos_ledger_database_size_bytes",
        "zos_ledger_disk_free_bytes",
    ]
    .contains(&name)
}

/// Names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("zos_ledger_") || word.starts_with("process_"))
}

fn check_dashboard(exposed: &BTreeSet<&str>) {
    let text = include_str!("../../../docs/grafana/ledgerd.json");
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut shown, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty() && titles.insert(title), "a title of its own: {panel}");
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        assert!(!unit.is_empty(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let named: Vec<&str> = names(expression).collect();
            assert!(!named.is_empty(), "{title}: {expression}");
            for name in named {
                assert!(exposed.contains(name), "{title}: nobody exposes {name}");
                shown.insert(name);
            }
        }
    }
    let family = |name: &str| {
        ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .map(str::to_owned)
    };
    let shown: BTreeSet<String> = shown
        .iter()
        .map(|name| family(name).unwrap_or_else(|| (*name).to_owned()))
        .collect();
    for name in exposed.iter().filter(|name| name.starts_with("zos_ledger_")) {
        let name = family(name).unwrap_or_else(|| (*name).to_owned());
        assert!(shown.contains(&name), "the dashboard does not show {name}");
    }
}
