//! A market in one place: a real chain, real daemons, and nodes that are played by the test.

pub(crate) mod proxy;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chain_client::{Author, ChainClient, Complaints};
use ledger::{
    Id, Kind, Operation, PublicKey, RecordKey, Resources, SigningKey, Tokens,
    body::{Contract, ContractState, Keys, Node},
    text::Text,
    transaction::{Join, Step},
};
use ledger_node::{Home, InitOptions, RunOptions, Running};
use node_api::image::FarmMedia;
use peer_link::{Endpoint, Limits, LinkKey, PeerAddress, Protocols, Serving, Stream, protocol, serve_requests};
use serde_json::Value;
use workload::{
    EncryptionKey,
    node::{Answer, MAX_ANSWER, MAX_REQUEST, Request, State},
};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// By how much the chain's clock is ahead of the machine's.
const YEARS_MS: u64 = 50 * 365 * 86_400_000;

/// A chain, a farmer's and a customer's bot.
pub(crate) struct Market {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) ledger: Running,
    pub(crate) farmer: Daemon,
    pub(crate) customer: Daemon,
}

/// A running `threebot serve`; killed when dropped.
pub(crate) struct Daemon {
    pub(crate) home: PathBuf,
    pub(crate) id: Id,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn threebot(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_threebot"));
    command.arg("--home").arg(home).env_remove("THREEBOT_PASSPHRASE");
    command
}

/// Runs a command of the command line to its end: exit code, standard output, standard error.
pub(crate) fn call(home: &Path, arguments: &[&str]) -> (i32, String, String) {
    call_with(home, arguments, "")
}

/// As [`call`], with this on standard input.
pub(crate) fn call_with(home: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = threebot(home);
    command.args(arguments).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As [`call`], which must succeed; returns standard output.
pub(crate) fn done(home: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = call(home, arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out.trim().to_owned()
}

fn init(home: &Path, name: &str) {
    done(
        home,
        &["init", "--name", name, "--listen", "0.0.0.0:0", "--no-passphrase"],
    );
}

impl Daemon {
    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(home: &Path) -> Self {
        let mut child = threebot(home)
            .args(["--json", "serve"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let log = || std::fs::read_to_string(home.join("log")).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {}", log()));
        let id = ready["ready"]["id"].as_str().unwrap().parse().unwrap();
        Self {
            home: home.to_owned(),
            id,
            child,
        }
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        done(&self.home, arguments)
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.done(&all)).unwrap()
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as init would, though others still name it.
    pub(crate) fn terminated(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        // Its lock is free once it has ended.
        let lock = std::fs::File::open(self.home.join("lock")).unwrap();
        while lock.try_lock().is_err() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a daemon that may never be ready.
    pub(crate) fn begin(home: &Path) -> Self {
        let child = threebot(home)
            .args(["--json", "serve"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self {
            home: home.to_owned(),
            id: Id::CHAIN,
            child,
        }
    }

    /// Waits until it has said this on standard error.
    pub(crate) fn says(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(self.home.join("log")).unwrap();
            if log.contains(text) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                Instant::now() < deadline && ended.is_none(),
                "it does not say {text:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it without warning and starts it again.
    pub(crate) fn restart(&mut self) {
        self.kill();
        *self = Self::start(&self.home.clone());
    }

    /// Ends it as init would.
    pub(crate) fn terminate(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Market {
    /// A chain on which both bots have tokens, and both bots running.
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut entities = Vec::new();
        for (name, tokens) in [("farmer", 0), ("customer", 1_000)] {
            init(&path(name), name);
            let file = path(&format!("{name}.json"));
            std::fs::write(&file, done(&path(name), &["entity"])).unwrap();
            entities.push((file, Tokens::from_micro(tokens * Tokens::PER_TOKEN)));
        }
        let options = InitOptions {
            name: "test".into(),
            interval_ms: 200,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            entities,
            validators: vec![],
        };
        let chain = Home::init(&path("ledger"), &options)
            .unwrap()
            .genesis
            .hash()
            .to_string();
        // The bots' clocks are years behind the chain's, and nothing may depend on them.
        let ahead = || {
            let now = ledger_node::Clock::default().now();
            now.plus(YEARS_MS)
        };
        let options = RunOptions {
            clock: ledger_node::Clock::new(ahead),
            ..RunOptions::new(path("ledger"), LOOPBACK)
        };
        let ledger = ledger_node::run(options).await.unwrap();
        let peer = ledger.address().to_string();
        for name in ["farmer", "customer"] {
            done(&path(name), &["chain", "--genesis", &chain, "--peer", &peer]);
        }
        let (farmer, customer) =
            tokio::task::block_in_place(|| (Daemon::start(&path("farmer")), Daemon::start(&path("customer"))));
        Self {
            directory,
            ledger,
            farmer,
            customer,
        }
    }

    /// A farm with terms of short periods, and its media.
    pub(crate) fn farm(&self, nodes: u32) -> FarmMedia {
        let farmer = &self.farmer;
        farmer.done(&[
            "farm",
            "create",
            "meadow",
            "--country",
            "BE",
            "--lat",
            "50.85",
            "--lon",
            "-4.35",
        ]);
        let times = [
            "--period",
            "3s",
            "--grace",
            "2s",
            "--acknowledge",
            "10s",
            "--deploy",
            "20s",
        ];
        let prices = [
            "--cru-hour",
            "3600",
            "--mru-gib-hour",
            "0",
            "--sru-gib-hour",
            "0",
            "--missed-limit",
            "1",
        ];
        farmer.done(&[["farm", "terms"].as_slice(), &times, &prices].concat());
        let out = self.directory.path().join("farm.json");
        farmer.done(&[
            "farm",
            "media",
            "--nodes",
            &nodes.to_string(),
            "--out",
            out.to_str().unwrap(),
        ]);
        serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
    }

    /// A client of the chain on a link of its own.
    pub(crate) async fn client(&self) -> ChainClient {
        let endpoint = Endpoint::bind(&LinkKey::generate().unwrap(), LOOPBACK).await.unwrap();
        let peers = vec![self.ledger.address().clone()];
        ChainClient::open(endpoint, self.ledger.chain(), peers, None, Complaints::to_log())
            .await
            .unwrap()
    }
}

/// A machine of the farm, played here: it keeps contracts, reports, and answers its customers.
pub(crate) struct Machine {
    pub(crate) id: Id,
    pub(crate) encryption: EncryptionKey,
    pub(crate) endpoint: Endpoint,
    alive: Arc<AtomicBool>,
    _serving: Serving,
}

impl Machine {
    /// Joins the farm with its media.
    pub(crate) async fn join(media: &FarmMedia, seed: u8) -> Self {
        let link = LinkKey::from_seed(&[seed; 32]);
        let endpoint = Endpoint::bind(&link, LOOPBACK).await.unwrap();
        let peers: Vec<PeerAddress> = media.peers.iter().map(|peer| peer.parse().unwrap()).collect();
        let chain = ChainClient::open(
            endpoint.clone(),
            media.genesis.parse().unwrap(),
            peers,
            None,
            Complaints::to_log(),
        )
        .await
        .unwrap();
        let key = SigningKey::from_seed(&[seed + 100; 32]);
        let encryption = EncryptionKey::from_seed(&[seed + 50; 32]);
        let keys = Keys {
            signing: key.public(),
            link: PublicKey::from_bytes(*link.id().as_bytes()),
            encryption: encryption.public(),
        };
        let id = Node::founding_id(&keys);
        let seed = data_encoding::HEXLOWER.decode(media.enrolment_seed.as_bytes()).unwrap();
        let enrolment = SigningKey::from_seed(&seed.try_into().unwrap());
        let farm: Id = media.farm.parse().unwrap();
        let join = Join {
            farm,
            keys,
            capacity: Resources {
                cru: 4,
                mru: 4 << 30,
                sru: 20 << 30,
                hru: 0,
            },
            addresses: endpoint.bound(),
            hardware: Text::new("a test").unwrap(),
            refused_disks: vec![],
            enrolment: Join::consent(chain.chain(), &enrolment, farm, &keys),
        };
        let author = Author { id, key };
        chain.send(&author, Operation::JoinNode(join)).await.unwrap();
        let alive = Arc::new(AtomicBool::new(true));
        tokio::spawn(keep(chain, author, Arc::clone(&alive)));
        let speaking = Arc::clone(&alive);
        let serving = endpoint.serve(Protocols::new().with(protocol::NODE, move |connection| {
            let limits = Limits {
                request: MAX_REQUEST,
                streams: 16,
            };
            let speaking = Arc::clone(&speaking);
            serve_requests(connection, limits, move |request, stream| {
                let speaking = Arc::clone(&speaking);
                async move { answer(request, stream, &speaking).await }
            })
        }));
        Self {
            id,
            encryption,
            endpoint,
            alive,
            _serving: serving,
        }
    }

    /// From now on it neither reports nor answers.
    pub(crate) fn fall_silent(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

async fn answer(request: Request, mut stream: Stream, alive: &AtomicBool) -> Result<(), peer_link::LinkError> {
    if !alive.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let answer = match request {
        Request::Status { .. } => Answer::Status {
            state: State::Running,
            uptime_ms: 1_000,
            restarts: 0,
        },
        Request::Log { from: 0, .. } => Answer::Log {
            from: 0,
            bytes: b"hello\n".to_vec(),
        },
        Request::Log { from, .. } => Answer::Log { from, bytes: vec![] },
        Request::Tunnel { port: 80, .. } => {
            stream.send(&Answer::Tunnel, MAX_ANSWER).await?;
            let (mut read, mut write) = stream.into_halves();
            // An echo, until the other side is done.
            let _ = tokio::io::copy(&mut read, &mut write).await;
            return Ok(());
        }
        Request::Tunnel { .. } => Answer::Refused {
            reason: Text::lossy("the workload names no such port"),
        },
    };
    stream.send(&answer, MAX_ANSWER).await?;
    stream.finish();
    Ok(())
}

/// Does for each contract what a node does.
async fn keep(chain: ChainClient, author: Author, alive: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if !alive.load(Ordering::SeqCst) {
            return;
        }
        let Ok(contracts) = chain.assigned(author.id).await else {
            continue;
        };
        for contract in contracts {
            let id = contract.record.id;
            let head = chain.sync().await.unwrap();
            let step = |step| Some(Operation::Progress { contract: id, step });
            let operation = match contract.body.state {
                ContractState::Agreed { .. } => step(Step::Acknowledged),
                ContractState::Deploying { .. } => step(Step::Running),
                ContractState::Active { report: None, .. } => {
                    let running = contract.body.open_period().unwrap();
                    let up_ms = contract.body.signed.agreement.rule.period_ms;
                    let block = (head.height, head.id());
                    (head.time >= running.end).then_some(Operation::Report {
                        contract: id,
                        period: running.index,
                        up_ms,
                        block,
                    })
                }
                _ => None,
            };
            if let Some(operation) = operation {
                // A rule of the chain may have been faster.
                let _ = chain.send(&author, operation).await;
            }
        }
    }
}

/// Asks until `found` finds something.
pub(crate) async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = found().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come about within {PATIENCE:?}");
}

/// The contract's latest version.
pub(crate) async fn contract(chain: &ChainClient, id: Id) -> Contract {
    chain.require::<Contract>(id).await.unwrap().body
}

/// Every version of a contract, oldest first, by the name of its state.
pub(crate) async fn states(chain: &ChainClient, id: Id) -> Vec<&'static str> {
    use ledger::record::BodyOf;
    let versions = chain.history(RecordKey::new(Kind::Contract, id)).await.unwrap();
    let name = |record: &ledger::Record| Contract::of(&record.body).unwrap().state_name();
    let mut names: Vec<_> = versions.iter().rev().map(name).collect();
    names.dedup();
    names
}

/// A layout with one layer, and an app.toml that runs it.
pub(crate) fn write_app(directory: &Path, periods: u32, budget: &str) -> (PathBuf, PathBuf) {
    use sha2::{Digest as _, Sha256};
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let hex = data_encoding::HEXLOWER.encode(Sha256::digest(bytes).as_slice());
        std::fs::write(blobs.join(&hex), bytes).unwrap();
        serde_json::json!({"digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    tar.append_data(&mut header, "bin/app", &b"hello"[..]).unwrap();
    let mut layer = put(&tar.into_inner().unwrap());
    let diff_ids = [layer["digest"].clone()];
    layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    let config = serde_json::json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}});
    let config = put(config.to_string().as_bytes());
    let manifest = serde_json::json!({"config": config, "layers": [layer]});
    let mut manifest = put(manifest.to_string().as_bytes());
    manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    std::fs::write(
        layout.join("index.json"),
        serde_json::json!({"manifests": [manifest]}).to_string(),
    )
    .unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let app = directory.join("app.toml");
    std::fs::write(directory.join("token.txt"), "hush\n").unwrap();
    let text = format!(
        r#"
        name = "web"
        image = "hello"
        ports = [80]
        periods = {periods}
        budget = "{budget}"
        [resources]
        cru = 1
        mru = "256 MiB"
        sru = "1 GiB"
        [secrets]
        TOKEN = "token.txt"
        "#
    );
    std::fs::write(&app, text).unwrap();
    (layout, app)
}

/// Sends bytes through a local port and reads them back.
pub(crate) fn echo(address: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"through the tunnel").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    back
}
