//! One validator over a toy application that keeps its blocks in files.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use arc_malachitebft_app_channel::app::types::{
    SignedConsensusMsg,
    core::{NilOrVal, VoteType},
};
use arc_malachitebft_signing::Signer as _;
use ledger::{Certificate, Hash, SigningKey, Validator, ValidatorSet, hash::Domain};
use peer_link::{Endpoint, LinkError, LinkKey, PeerAddress, Protocols, Serving, protocol};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{codec::Mirrored as _, hub::Wire, *};

const CHAIN: Hash = Hash::from_bytes([5; 32]);
const DIRECTORY: &str = "ENGINE_TEST_DIRECTORY";

/// Keys of consensus and links alike: the seed is the validator's number.
fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

/// Validators 1 to `count`.
fn validators(count: u8) -> ValidatorSet {
    let validator = |number| {
        let key = key(number).public();
        Validator {
            key,
            link: key,
            power: 10,
        }
    };
    ValidatorSet::new((1..=count).map(validator).collect()).unwrap()
}

/// Blocks are files `<height>`; each proposal is a new one, so that a second one for the same round shows.
struct Toy {
    directory: PathBuf,
    validators: ValidatorSet,
    next: u64,
    proposals: u64,
    /// Its height cannot be read.
    unreadable: bool,
    /// What a commit takes besides writing.
    commit_takes: Duration,
    /// Who was seen to sign twice.
    misconduct: Vec<Misconduct>,
}

impl Toy {
    fn open(directory: &Path, validators: ValidatorSet) -> Self {
        let directory = directory.join("blocks");
        fs::create_dir_all(&directory).unwrap();
        let next = (1..)
            .find(|height: &u64| !directory.join(height.to_string()).exists())
            .unwrap();
        Self {
            directory,
            validators,
            next,
            unreadable: false,
            commit_takes: Duration::ZERO,
            misconduct: Vec::new(),
            proposals: 0,
        }
    }

    fn read(&self, height: u64) -> io::Result<Option<(Vec<u8>, Certificate)>> {
        match fs::read(self.directory.join(height.to_string())) {
            Ok(bytes) => borsh::from_slice(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn id(bytes: &[u8]) -> Hash {
    Hash::of_bytes(Domain::Header, bytes)
}

impl Application for Toy {
    type Error = io::Error;

    fn next_height(&self) -> Result<u64, io::Error> {
        if self.unreadable {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(self.next)
    }

    fn validators(&self, _: u64) -> ValidatorSet {
        self.validators.clone()
    }

    fn propose(&mut self, height: u64, round: u32) -> Result<Proposed, io::Error> {
        self.proposals += 1;
        let bytes = format!("{height} {round} {} {}", std::process::id(), self.proposals).into_bytes();
        Ok(Proposed {
            block: id(&bytes),
            bytes,
        })
    }

    fn validate(&mut self, height: u64, bytes: &[u8]) -> Result<Verdict, io::Error> {
        let fits = bytes.starts_with(format!("{height} ").as_bytes());
        Ok(if fits {
            Verdict::Valid(id(bytes))
        } else {
            Verdict::Refused("another height's block".into())
        })
    }

    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), io::Error> {
        assert_eq!((certificate.height, certificate.block), (self.next, id(bytes)));
        std::thread::sleep(self.commit_takes);
        let path = self.directory.join(self.next.to_string());
        let partial = path.with_extension("partial");
        let mut file = File::create(&partial)?;
        file.write_all(&borsh::to_vec(&(bytes.to_vec(), certificate))?)?;
        file.sync_all()?;
        fs::rename(partial, path)?;
        self.next += 1;
        Ok(())
    }

    fn misbehaved(&mut self, proven: Vec<Misconduct>) -> Result<(), io::Error> {
        self.misconduct.extend(proven);
        Ok(())
    }

    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, io::Error> {
        self.read(height)
    }
}

fn config(directory: &Path, block_interval: Duration) -> EngineConfig {
    EngineConfig {
        chain: CHAIN,
        key: key(1),
        directory: directory.join("consensus"),
        block_interval,
        timeouts: Timeouts::default(),
        moniker: "test".into(),
    }
}

/// Runs until `blocks` blocks are there.
async fn run_to(directory: &Path, blocks: u64, block_interval: Duration) -> Toy {
    let last = directory.join("blocks").join(blocks.to_string());
    let reached = async {
        while !last.exists() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let running = run(
        config(directory, block_interval),
        Toy::open(directory, validators(1)),
        reached,
    );
    tokio::time::timeout(Duration::from_secs(60), running)
        .await
        .expect("blocks in time")
        .unwrap()
}

/// Checks that the chain has no gap and each certificate proves its block to who knows the validators alone.
fn check_chain(toy: &Toy) {
    for height in 1..toy.next {
        let (bytes, certificate) = toy.read(height).unwrap().unwrap();
        assert_eq!((certificate.height, certificate.block), (height, id(&bytes)));
        assert_eq!(certificate.verify(CHAIN, &toy.validators), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_decides_blocks_and_goes_on_after_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    let toy = run_to(directory.path(), 20, Duration::from_millis(5)).await;
    let stopped_at = toy.next;
    assert!(stopped_at > 20);
    check_chain(&toy);
    drop(toy);
    let toy = run_to(directory.path(), stopped_at + 10, Duration::from_millis(5)).await;
    assert!(toy.next > stopped_at + 10);
    check_chain(&toy);
    let undecided = fs::read_dir(directory.path().join("consensus/bodies")).unwrap().count();
    assert!(undecided <= 1, "{undecided} bodies are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_keep_the_beat() {
    let directory = tempfile::tempdir().unwrap();
    let since = Instant::now();
    run_to(directory.path(), 6, Duration::from_millis(200)).await;
    // Five intervals lie between six blocks.
    assert!(since.elapsed() >= Duration::from_millis(1000), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_engine_in_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = tokio::spawn({
        let path = directory.path().to_owned();
        async move {
            run(
                config(&path, Duration::from_millis(50)),
                Toy::open(&path, validators(1)),
                sleep(Duration::from_secs(5)),
            )
            .await
        }
    });
    sleep(Duration::from_millis(500)).await;
    let second = run(
        config(directory.path(), Duration::from_millis(50)),
        Toy::open(directory.path(), validators(1)),
        std::future::pending(),
    );
    let error = second.await.map(drop).unwrap_err();
    assert!(matches!(error, EngineError::Wal { .. }), "{error:?}");
    assert!(first.await.unwrap().is_ok());
}

#[tokio::test]
async fn validator_that_cannot_read_its_height_stops_and_does_not_begin_again() {
    let directory = tempfile::tempdir().unwrap();
    let toy = Toy {
        unreadable: true,
        ..Toy::open(directory.path(), validators(1))
    };
    let running = run(
        config(directory.path(), Duration::from_millis(50)),
        toy,
        std::future::pending(),
    );
    let ended = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap();
    let error = ended.map(drop).unwrap_err();
    assert!(matches!(error, EngineError::Host(_)), "{error:?}");
    assert!(!directory.path().join("blocks").join("1").exists());
}

/// What the killed process runs; does nothing unless it is told where.
#[test]
fn victim() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let toy = Toy {
        // While it commits, the log holds votes of a height that is not committed: most kills are to meet that.
        commit_takes: Duration::from_millis(5),
        ..Toy::open(&directory, validators(1))
    };
    let running = run(
        config(&directory, Duration::from_millis(1)),
        toy,
        std::future::pending(),
    );
    runtime.block_on(running).map(drop).unwrap();
}

fn victim_in(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "engine::tests::victim", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills that must meet a height in the middle of its votes.
const KILLS_AMID: usize = 30;
/// Kills after which a test gives up hoping for that.
const MAX_KILLS: u64 = 600;

/// Runs and kills a validator until it was caught often enough in the middle of a height and that is `enough`, or it signed
/// twice. Returns what was signed twice. `between` may touch the validator's directory between two runs.
fn kill_often(directory: &Path, between: impl Fn(&Path), enough: impl Fn() -> bool) -> Option<String> {
    let mut signed = Signed::default();
    for kill in 0..MAX_KILLS {
        let mut victim = victim_in(directory);
        let before = Toy::open(directory, validators(1)).next;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Toy::open(directory, validators(1)).next < before + 2 {
            assert!(Instant::now() < deadline, "no block after kill {kill}");
            assert!(victim.try_wait().unwrap().is_none(), "died by itself after kill {kill}");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Some moment within a block's making, another one each time.
        std::thread::sleep(Duration::from_micros(kill * 777 % 9000));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let toy = Toy::open(directory, validators(1));
        assert!(toy.next >= before + 2);
        check_chain(&toy);
        signed.read(&directory.join("consensus/wal"), toy.next);
        if let Some(twice) = signed.twice(&toy) {
            return Some(twice);
        }
        if signed.amid > KILLS_AMID && enough() {
            return None;
        }
        between(directory);
    }
    panic!(
        "{MAX_KILLS} kills met too little, {} of them a height in the middle of its votes",
        signed.amid
    );
}

#[test]
fn kills_at_any_moment_lose_no_block_and_sign_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(kill_often(directory.path(), |_| (), || true), None);
}

#[test]
fn kill_amid_the_reset_of_the_log_makes_nobody_sign_twice() {
    use std::os::unix::fs::FileExt;

    /// Where the log has the number of its height, which is written before the entries are cut off.
    const SEQUENCE_OFFSET: u64 = 4;
    let directory = tempfile::tempdir().unwrap();
    let torn = std::cell::Cell::new(0);
    let tear = |directory: &Path| {
        let path = directory.join("consensus/wal");
        let log = arc_malachitebft_app_channel::app::wal::Log::open(&path).unwrap();
        let next = Toy::open(directory, validators(1)).next;
        if log.sequence() < next && !log.is_empty() {
            drop(log);
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&next.to_be_bytes(), SEQUENCE_OFFSET).unwrap();
            torn.set(torn.get() + 1);
        }
    };
    assert_eq!(kill_often(directory.path(), tear, || torn.get() > 0), None);
}

#[test]
fn validator_whose_log_is_deleted_is_seen_to_sign_twice() {
    let directory = tempfile::tempdir().unwrap();
    let forget = |directory: &Path| fs::remove_dir_all(directory.join("consensus")).unwrap();
    assert!(kill_often(directory.path(), forget, || false).is_some());
}

/// What stood signed in the log after each kill: the block, by height and round.
#[derive(Default)]
struct Signed {
    blocks: std::collections::BTreeMap<(u64, u32), Hash>,
    /// Kills after which the log held votes of a height that was not committed yet.
    amid: usize,
}

impl Signed {
    fn read(&mut self, path: &Path, undecided: u64) {
        use arc_malachitebft_app_channel::app::{
            consensus::Input, engine::wal::decode_entry, types::core::NilOrVal, wal::Log,
        };
        // A kill between the two steps of the log's reset leaves the number of the next height above entries of the one
        // before, so each entry says itself what it is of.
        let mut log = Log::open(path).unwrap();
        let mut votes = 0;
        for entry in log.iter().unwrap() {
            let input = decode_entry::<Chain, _, _>(&codec::BorshCodec, entry.unwrap().as_slice()).unwrap();
            let (height, round, block) = match input {
                Input::Vote(vote) => match vote.block {
                    NilOrVal::Val(block) => (vote.height.0, vote.round, block),
                    NilOrVal::Nil => continue,
                },
                Input::Proposal(signed) => (signed.height.0, signed.round, signed.block),
                _ => continue,
            };
            votes += usize::from(height == undecided);
            self.blocks.insert((height, round.as_u32().unwrap()), block.0);
        }
        self.amid += usize::from(votes > 0);
    }

    /// A lone validator commits what it signed in the same round, or it has signed two blocks.
    fn twice(&self, toy: &Toy) -> Option<String> {
        self.blocks.iter().find_map(|((height, round), block)| {
            let (_, certificate) = toy.read(*height).unwrap()?;
            (certificate.round == *round && certificate.block != *block)
                .then(|| format!("{block} and {} at height {height}, round {round}", certificate.block))
        })
    }
}

/// One of several validators, with an endpoint of its own.
struct Node {
    directory: PathBuf,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Toy, EngineError>>,
    endpoint: Endpoint,
    _serving: Serving,
}

const COUNT: u8 = 4;

impl Node {
    /// Starts validator `number`; all know where all are.
    async fn start(number: u8, directory: &Path, addresses: &[PeerAddress]) -> Self {
        let own = &addresses[usize::from(number) - 1];
        let endpoint = Endpoint::bind(&LinkKey::from_seed(&[number; 32]), own.addresses()[0])
            .await
            .unwrap();
        let known: Addresses = addresses.iter().map(|peer| (peer.id(), peer.clone())).collect();
        let (mesh, door) = Mesh::new(endpoint.clone(), watch::channel(known).1);
        let protocols = Protocols::new().with(protocol::CONSENSUS, move |connection| door.clone().handle(connection));
        let serving = endpoint.serve(protocols);
        let directory = directory.join(number.to_string());
        fs::create_dir_all(&directory).unwrap();
        let config = EngineConfig {
            key: key(number),
            moniker: format!("validator-{number}"),
            ..config(&directory, Duration::from_millis(50))
        };
        let toy = Toy::open(&directory, validators(COUNT));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let running = tokio::spawn(run_among(config, mesh, toy, shutdown));
        Self {
            directory,
            stop,
            running,
            endpoint,
            _serving: serving,
        }
    }

    fn next(&self) -> u64 {
        Toy::open(&self.directory, validators(COUNT)).next
    }

    async fn stop(self) -> Toy {
        drop(self.stop);
        let toy = self.running.await.unwrap().unwrap();
        self.endpoint.close().await;
        toy
    }
}

/// Free ports on loopback for all validators.
fn addresses() -> Vec<PeerAddress> {
    let sockets: Vec<_> = (0..COUNT)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = |(number, socket): (u8, &std::net::UdpSocket)| {
        PeerAddress::new(
            LinkKey::from_seed(&[number; 32]).id(),
            vec![socket.local_addr().unwrap()],
        )
        .unwrap()
    };
    (1..).zip(&sockets).map(address).collect()
}

async fn reach(nodes: &[Node], height: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while nodes.iter().any(|node| node.next() <= height) {
        let heights: Vec<_> = nodes.iter().map(Node::next).collect();
        assert!(Instant::now() < deadline, "height {height} not reached: {heights:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn tip(nodes: &[Node]) -> u64 {
    nodes.iter().map(Node::next).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_outlive_one_and_let_it_catch_up_even_from_nothing() {
    // Shown when the test fails, or with --nocapture; RUST_LOG chooses.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
    let directory = tempfile::tempdir().unwrap();
    let addresses = addresses();
    let mut nodes = Vec::new();
    for number in 1..=COUNT {
        nodes.push(Node::start(number, directory.path(), &addresses).await);
    }
    reach(&nodes, 10).await;

    let stopped = nodes.pop().unwrap();
    check_chain(&stopped.stop().await);
    reach(&nodes, tip(&nodes) + 5).await;

    fs::remove_dir_all(directory.path().join(COUNT.to_string())).unwrap();
    nodes.push(Node::start(COUNT, directory.path(), &addresses).await);
    reach(&nodes, tip(&nodes) + 5).await;

    let mut blocks = Vec::new();
    for node in nodes {
        let toy = node.stop().await;
        check_chain(&toy);
        blocks.push(
            (1..10)
                .map(|height| toy.read(height).unwrap().unwrap().0)
                .collect::<Vec<_>>(),
        );
    }
    assert!(
        blocks.windows(2).all(|pair| pair[0] == pair[1]),
        "all have the same blocks"
    );
}

/// Signs prevotes for nothing and for something at every round that it hears of, and tells them to a validator.
async fn tell_both(endpoint: Endpoint, to: PeerAddress, number: u8) -> Result<(), LinkError> {
    let connection = endpoint.dial(&to, protocol::CONSENSUS).await.unwrap();
    let mut out = connection.open().await?;
    out.send(&mesh::Opening::Messages, mesh::MAX_OPENING).await?;
    let mut messages = connection.accept().await?;
    messages.receive::<mesh::Opening>(mesh::MAX_OPENING).await?;
    let signing = signing::Signing {
        chain: CHAIN,
        key: key(number),
    };
    while let Some(message) = messages.receive::<Wire>(mesh::MAX_MESSAGE).await? {
        let Wire::Consensus(mirror) = message else { continue };
        let heard = match SignedConsensusMsg::restore(mirror).unwrap() {
            SignedConsensusMsg::Proposal(proposal) => proposal.message,
            SignedConsensusMsg::Vote(_) => continue,
        };
        for block in [NilOrVal::Nil, NilOrVal::Val(heard.block)] {
            let vote = types::Vote {
                kind: VoteType::Prevote,
                height: heard.height,
                round: heard.round,
                block,
                voter: types::Address(key(number).public()),
            };
            let signed = SignedConsensusMsg::Vote(signing.sign_vote(vote).await.unwrap());
            out.send(&Wire::Consensus(signed.mirror()), mesh::MAX_MESSAGE).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_votes_twice_is_named_with_proof() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = addresses();
    let mut nodes = Vec::new();
    for number in 1..COUNT {
        nodes.push(Node::start(number, directory.path(), &addresses).await);
    }
    let endpoint = Endpoint::bind(
        &LinkKey::from_seed(&[COUNT; 32]),
        addresses[usize::from(COUNT) - 1].addresses()[0],
    )
    .await
    .unwrap();
    let liars: Vec<_> = (1..COUNT)
        .map(|number| {
            tokio::spawn(tell_both(
                endpoint.clone(),
                addresses[usize::from(number) - 1].clone(),
                COUNT,
            ))
        })
        .collect();
    reach(&nodes, 12).await;
    liars.iter().for_each(JoinHandle::abort);
    let mut proven = Vec::new();
    for node in nodes {
        let toy = node.stop().await;
        check_chain(&toy);
        proven.extend(toy.misconduct);
    }
    assert!(!proven.is_empty(), "nobody saw it");
    for misconduct in proven {
        assert_eq!(misconduct.validator, key(COUNT).public());
        misconduct.check(CHAIN).unwrap();
    }
}
