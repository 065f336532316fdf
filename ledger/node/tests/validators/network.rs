//! Several validators as processes on loopback, or each in a space of its own with links between them.

use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use chain_client::{
    Author, ChainClient, Complaints,
    protocol::{Answer, DEADLINE, MAX_ANSWER, Request},
};
use ledger::{
    Hash, LightClient, Operation, PublicKey, SigningKey, Tokens, Transaction,
    body::{Entity, Keys},
    text::Text,
};
use ledger_node::{Database, Home, InitOptions, Introduction};
use peer_link::{Connections, Endpoint, LinkKey, PeerAddress, protocol};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    link::{Faults, Link},
    space::Space,
};

/// Longest wait for anything that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(50);
/// Time between two blocks.
const INTERVAL_MS: u32 = 200;
/// What the first entity owns.
const SUPPLY: u64 = 1_000_000;

/// A network of validators, numbered from 0.
pub(crate) struct Network {
    folder: TempDir,
    pub(crate) chain: Hash,
    pub(crate) members: Vec<Member>,
    endpoint: Endpoint,
    /// Between each two, the lower number first, where they are apart.
    links: BTreeMap<(usize, usize), Link>,
    /// From here to each, without faults, where they are apart.
    doors: Vec<Link>,
}

/// One of them.
pub(crate) struct Member {
    home: PathBuf,
    listen: SocketAddr,
    /// Its address from here.
    peer: PeerAddress,
    /// Where it runs; absent: here.
    space: Option<Arc<Space>>,
    /// The others as it reaches them, if not at their own addresses.
    others: Vec<PeerAddress>,
    process: Option<Child>,
    client: Option<ChainClient>,
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// An entity of the genesis: 1 owns everything, 2 nothing.
pub(crate) fn author(seed: u8) -> Author {
    Author {
        id: entity(seed).founding_id(),
        key: key(seed),
    }
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

fn write_json(path: &Path, value: &impl serde::Serialize) {
    std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// Free ports of the loopback address.
fn ports(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<_> = (0..count)
        .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

impl Network {
    /// Founds a chain of `count` validators; none runs yet.
    pub(crate) async fn found(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: String| folder.path().join(name);
        let mut members = Vec::new();
        let mut files = Vec::new();
        for (number, listen) in ports(count).into_iter().enumerate() {
            let home = place(number.to_string());
            let introduction = Home::introduce(&home, vec![listen]).unwrap();
            let file = place(format!("{number}.json"));
            write_json(&file, &introduction);
            files.push(file);
            members.push(Member {
                home,
                listen,
                peer: introduction.peer,
                space: None,
                others: vec![],
                process: None,
                client: None,
            });
        }
        let entities = [(1, SUPPLY), (2, 0)].map(|(seed, micro)| {
            let file = place(format!("entity-{seed}.json"));
            write_json(&file, &entity(seed));
            (file, Tokens::from_micro(micro))
        });
        let options = InitOptions {
            name: "test".into(),
            interval_ms: INTERVAL_MS,
            attest_ms: 3_600_000,
            name_deposit: Tokens::from_micro(5),
            entities: entities.into(),
            validators: files.split_off(1),
        };
        let genesis = Home::init(&members[0].home, &options).unwrap().genesis;
        let peers: Vec<PeerAddress> = members.iter().map(|member| member.peer.clone()).collect();
        for member in &members[1..] {
            Home::join(&member.home, genesis.clone(), peers.clone()).unwrap();
        }
        Self {
            chain: genesis.hash(),
            folder,
            members,
            endpoint: Endpoint::bind(&LinkKey::from_seed(&[99; 32]), ([127, 0, 0, 1], 0).into())
                .await
                .unwrap(),
            links: BTreeMap::new(),
            doors: Vec::new(),
        }
    }

    /// Founds a chain of `count` validators that reach each other by links alone; none runs yet.
    pub(crate) async fn found_apart(count: usize) -> Self {
        let mut network = Self::found(count).await;
        let spaces: Vec<Arc<Space>> = (0..count).map(|_| Arc::new(Space::new())).collect();
        for (member, space) in network.members.iter_mut().zip(&spaces) {
            let mut door = Link::new(0);
            let here = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let way = door.open(here, space, member.listen);
            member.peer = PeerAddress::new(member.peer.id(), vec![way]).unwrap();
            member.space = Some(Arc::clone(space));
            network.doors.push(door);
        }
        for (a, b) in (0..count).flat_map(|b| (0..b).map(move |a| (a, b))) {
            let mut link = Link::new(u64::try_from(a * count + b).unwrap());
            for (from, to) in [(a, b), (b, a)] {
                let way = link.open(spaces[from].socket(), &spaces[to], network.members[to].listen);
                let by_link = PeerAddress::new(network.members[to].peer.id(), vec![way]).unwrap();
                network.members[from].others.push(by_link);
            }
            network.links.insert((a, b), link);
        }
        network
    }

    /// The link between two validators that are apart.
    pub(crate) fn link(&self, a: usize, b: usize) -> &Link {
        &self.links[&(a.min(b), a.max(b))]
    }

    /// Sets the faults of all links of these validators.
    pub(crate) fn weather(&self, members: &[usize], faults: Faults) {
        for ((a, b), link) in &self.links {
            if members.contains(a) || members.contains(b) {
                link.set(faults);
            }
        }
    }

    /// Starts a validator that does not run.
    pub(crate) fn start(&mut self, number: usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(number))
            .unwrap();
        let member = &mut self.members[number];
        let mut command = Command::new(env!("CARGO_BIN_EXE_ledgerd"));
        command.args(["run", "--listen", &member.listen.to_string(), "--dir"]);
        command.arg(&member.home);
        for other in &member.others {
            command.args(["--peer", &other.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = match &member.space {
            Some(space) => space.enter(|| command.spawn()),
            None => command.spawn(),
        };
        member.process = Some(process.unwrap());
    }

    pub(crate) fn start_all(&mut self) {
        for number in 0..self.members.len() {
            self.start(number);
        }
    }

    /// Introduces one more validator, which knows the first one alone. It follows the chain when it is started.
    /// Returns the file that introduces it.
    pub(crate) fn introduce_another(&mut self) -> PathBuf {
        let number = self.members.len();
        let listen = ports(1)[0];
        let home = self.folder.path().join(number.to_string());
        let introduction = ledgerd(&["keys", "--advertise", &listen.to_string()], &home).unwrap();
        let file = self.folder.path().join(format!("{number}.json"));
        std::fs::write(&file, &introduction).unwrap();
        let first = self.members[0].peer.to_string();
        ledgerd(&["join", "--chain", &self.chain.to_string(), "--peer", &first], &home).unwrap();
        let introduction: Introduction = serde_json::from_str(&introduction).unwrap();
        self.members.push(Member {
            home,
            listen,
            peer: introduction.peer,
            space: None,
            others: vec![],
            process: None,
            client: None,
        });
        file
    }

    /// A second member with the same keys. Returns its number.
    pub(crate) fn copy_home(&mut self, number: usize) -> usize {
        let copy = self.members.len();
        let home = self.folder.path().join(copy.to_string());
        std::fs::create_dir(&home).unwrap();
        for entry in std::fs::read_dir(self.home(number)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, home.join(path.file_name().unwrap())).unwrap();
        }
        let listen = ports(1)[0];
        let peer = PeerAddress::new(self.members[number].peer.id(), vec![listen]).unwrap();
        self.members.push(Member {
            home,
            listen,
            peer,
            space: None,
            others: vec![],
            process: None,
            client: None,
        });
        copy
    }

    /// The file that introduces a validator.
    pub(crate) fn introduction(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.json"))
    }

    /// A validator's directory.
    pub(crate) fn home(&self, number: usize) -> &Path {
        &self.members[number].home
    }

    /// The address that a validator listens at.
    pub(crate) fn listen(&self, number: usize) -> SocketAddr {
        self.members[number].listen
    }

    /// How many blocks of a validator that is ended were proposed by this one.
    pub(crate) fn blocks_of(&self, number: usize, proposer: &PublicKey) -> usize {
        let home = Home::open(self.home(number)).unwrap();
        let database = Database::open(&home.database(), home.genesis).unwrap();
        let snapshot = database.snapshot().unwrap();
        let proposed = |height: &u64| snapshot.block(*height).unwrap().unwrap().header.proposer == *proposer;
        (1..=snapshot.height().unwrap()).filter(proposed).count()
    }

    /// Drafts a decree as the first of `approving`, lets all of them approve it, and submits it.
    pub(crate) fn decree(&self, changes: &[&str], approving: &[usize]) {
        self.try_decree(changes, approving).unwrap();
    }

    /// Like [`Self::decree`]; returns what the command said that failed.
    pub(crate) fn try_decree(&self, changes: &[&str], approving: &[usize]) -> Result<(), String> {
        let home = |number: usize| &self.members[number].home;
        let peer = self.members[approving[0]].peer.to_string();
        let draft = self.folder.path().join("decree.json");
        let words = [&["decree", "draft", "--peer", &peer], changes].concat();
        std::fs::write(&draft, ledgerd(&words, home(approving[0]))?).unwrap();
        let mut words = vec!["decree".to_owned(), "submit".to_owned(), "--peer".to_owned(), peer];
        for number in approving {
            let approved = self.folder.path().join(format!("decree-{number}.json"));
            let approve = ["decree", "approve", draft.to_str().unwrap()];
            std::fs::write(&approved, ledgerd(&approve, home(*number))?).unwrap();
            words.push(approved.display().to_string());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        ledgerd(&words, home(approving[0])).map(drop)
    }

    /// The key by which a validator votes.
    pub(crate) fn voting_key(&self, number: usize) -> PublicKey {
        Home::open(&self.members[number].home).unwrap().consensus_key.public()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.log"))
    }

    /// What a validator has said so far.
    pub(crate) fn said(&self, number: usize) -> String {
        std::fs::read_to_string(self.log(number)).unwrap_or_default()
    }

    /// Sends a signal to a validator.
    pub(crate) fn signal(&self, number: usize, signal: Signal) {
        let process = self.members[number].process.as_ref().unwrap();
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Kills a validator at once.
    pub(crate) fn kill(&mut self, number: usize) {
        let mut process = self.members[number].process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// A light client that asks one validator alone.
    pub(crate) async fn client(&mut self, number: usize) -> ChainClient {
        let (endpoint, chain) = (self.endpoint.clone(), self.chain);
        let member = &mut self.members[number];
        if let Some(client) = &member.client {
            return client.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            let peers = vec![member.peer.clone()];
            match ChainClient::open(endpoint.clone(), chain, peers, None, Complaints::to_log()).await {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "validator {number}: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        };
        member.client = Some(client.clone());
        client
    }

    /// Forgets a validator's light client: the next one begins from the genesis.
    pub(crate) fn forget_client(&mut self, number: usize) {
        self.members[number].client = None;
    }

    /// Gives a validator alone a transaction of the first entity, and waits until it is taken, not until it stands in a block.
    pub(crate) async fn give(&self, number: usize, operation: Operation) {
        let links = Connections::new(self.endpoint.clone(), protocol::LEDGER);
        let connection = links.get(&self.members[number].peer).await.unwrap();
        let Author { id, key } = author(1);
        let transaction = Transaction {
            author: id,
            nonce: 0,
            operation,
        };
        let request = Request::Submit(transaction.sign(self.chain, &key));
        let answer: Answer = connection.call(&request, MAX_ANSWER, DEADLINE).await.unwrap();
        assert_eq!(answer, Answer::Taken);
    }

    /// Height of the newest block of a validator that runs, proven; 0 when it does not say.
    pub(crate) async fn height(&mut self, number: usize) -> u64 {
        let client = self.client(number).await;
        client.sync().await.map_or(0, |header| header.height)
    }

    /// Waits until one of these validators has said this.
    pub(crate) async fn one_says(&self, members: &[usize], text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said: Vec<String> = members.iter().map(|number| self.said(*number)).collect();
            if said.iter().any(|said| said.contains(text)) {
                return;
            }
            assert!(Instant::now() < deadline, "nobody said {text:?}:\n{}", said.concat());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until all of these validators have a block above `height`.
    pub(crate) async fn reach(&mut self, members: &[usize], height: u64) {
        let deadline = Instant::now() + PATIENCE;
        for &number in members {
            while self.height(number).await < height {
                let said = self.said(number);
                assert!(
                    Instant::now() < deadline,
                    "validator {number} has no block {height}; it said:\n{said}"
                );
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Ends all and compares what they have: no gap, each block certified, no two blocks at one height. Returns the least of
    /// their heights.
    pub(crate) fn agree(&mut self) -> u64 {
        let running = 0..self.members.len();
        for number in running {
            if self.members[number].process.is_some() {
                self.kill(number);
            }
        }
        let mut blocks: BTreeMap<u64, Hash> = BTreeMap::new();
        let mut least = u64::MAX;
        for member in &self.members {
            let genesis = Home::open(&member.home).unwrap().genesis;
            let mut light = LightClient::new(genesis.hash(), &genesis).unwrap();
            let database = Database::open(&member.home.join("chain.redb"), genesis).unwrap();
            let snapshot = database.snapshot().unwrap();
            let height = snapshot.height().unwrap();
            least = least.min(height);
            for height in 1..=height {
                let id = snapshot.block(height).unwrap().unwrap().header.id();
                let certified = snapshot.certified(height).unwrap().unwrap();
                assert_eq!(certified.header.id(), id);
                light.advance(&certified).unwrap();
                assert_eq!(*blocks.entry(height).or_insert(id), id, "two blocks at height {height}");
            }
        }
        least
    }
}

/// Runs a command on a directory to its end. Returns what it printed, or what it said when it failed.
fn ledgerd(words: &[&str], directory: &Path) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ledgerd"));
    let output = command.args(words).arg("--dir").arg(directory).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // One that has ended is none to kill.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
