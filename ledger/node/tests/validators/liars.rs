//! Validators that lie: one that proposes what is no block, one that withholds blocks, and one that runs twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ledger::{Block, Certificate, Hash, Kind, PublicKey, ValidatorSet, body::Misconduct, encoding::encode};
use ledger_node::{
    Clock, Database, Home, Ledger, LedgerError,
    engine::{Application, EngineConfig, EngineError, Mesh, Proposed, Timeouts, Verdict, run_among},
};
use peer_link::{Endpoint, PeerId, Protocols, Serving, protocol};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    four,
    network::{Network, PATIENCE},
};

/// What a liar does to the blocks that it proposes.
type Spoil = fn(&mut Block) -> Option<Hash>;

/// A validator that finds every block valid, spoils those that it proposes, and keeps what was decided to itself.
struct Liar {
    ledger: Arc<Ledger>,
    lies: Vec<Spoil>,
    told: watch::Sender<usize>,
}

impl Application for Liar {
    type Error = LedgerError;

    fn next_height(&self) -> Result<u64, LedgerError> {
        Ok(self.ledger.next_height()?)
    }

    fn validators(&self, _: u64) -> ValidatorSet {
        self.ledger.validators()
    }

    fn propose(&mut self, _: u64, _: u32) -> Result<Proposed, LedgerError> {
        let mut block = self.ledger.propose()?;
        let lie = self.lies[*self.told.borrow() % self.lies.len()];
        let announced = lie(&mut block);
        self.told.send_modify(|told| *told += 1);
        Ok(Proposed {
            block: announced.unwrap_or_else(|| block.header.id()),
            bytes: encode(&block),
        })
    }

    fn validate(&mut self, _: u64, bytes: &[u8]) -> Result<Verdict, LedgerError> {
        let block: Block = ledger::encoding::decode(bytes, bytes.len()).map_err(LedgerError::Decode)?;
        Ok(Verdict::Valid(block.header.id()))
    }

    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), LedgerError> {
        self.ledger.commit(bytes, certificate)
    }

    fn misbehaved(&mut self, _: Vec<Misconduct>) -> Result<(), LedgerError> {
        Ok(())
    }

    fn decided(&self, _: u64) -> Result<Option<(Vec<u8>, Certificate)>, LedgerError> {
        Ok(None)
    }
}

/// A liar that runs in the place of a validator of a network.
struct Lying {
    key: PublicKey,
    /// How many blocks it has proposed.
    told: watch::Receiver<usize>,
    stop: oneshot::Sender<()>,
    engine: JoinHandle<Result<Liar, EngineError>>,
    _serving: Serving,
}

impl Lying {
    /// Tells these lies, one after the other, and has nothing to do with `shunned`.
    async fn start(network: &Network, number: usize, lies: Vec<Spoil>, shunned: Option<PeerId>) -> Self {
        let home = Home::open(network.home(number)).unwrap();
        let endpoint = Endpoint::bind(&home.link_key, network.listen(number)).await.unwrap();
        let others = home.peers.iter().filter(|peer| Some(peer.id()) != shunned);
        let addresses: BTreeMap<_, _> = others.map(|peer| (peer.id(), peer.clone())).collect();
        let (mesh, door) = Mesh::new(endpoint.clone(), watch::channel(addresses).1);
        let protocols = Protocols::new().with(protocol::CONSENSUS, move |connection| {
            let door = door.clone();
            async move {
                if Some(connection.peer()) != shunned {
                    door.handle(connection).await;
                }
            }
        });
        let serving = endpoint.serve(protocols);
        let key = home.consensus_key.public();
        let config = EngineConfig {
            chain: network.chain,
            key: home.consensus_key.clone(),
            directory: home.consensus(),
            block_interval: Duration::from_millis(200),
            timeouts: Timeouts::default(),
            moniker: "liar".into(),
        };
        let database = Database::open(&home.database(), home.genesis.clone()).unwrap();
        let (tell, told) = watch::channel(0);
        let liar = Liar {
            ledger: Arc::new(Ledger::new(database, key, Clock::default()).unwrap()),
            lies,
            told: tell,
        };
        let (stop, stopped) = oneshot::channel();
        let engine = tokio::spawn(run_among(config, mesh, liar, async { drop(stopped.await) }));
        Self {
            key,
            told,
            stop,
            engine,
            _serving: serving,
        }
    }

    /// Waits until it has proposed so many blocks.
    async fn proposes(&mut self, blocks: usize) {
        let enough = self.told.wait_for(|told| *told >= blocks);
        timeout(PATIENCE, enough).await.expect("its turn comes").unwrap();
    }

    /// Gives its chain free.
    async fn stop(self) -> PublicKey {
        drop(self.stop);
        drop(self.engine.await.unwrap().unwrap());
        self.key
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_block_is_committed_by_nobody_whoever_proposes_it() {
    let lies: Vec<Spoil> = vec![
        |block| {
            block.header.state = Hash::ZERO;
            None
        },
        |block| {
            block.header.next_validators = Hash::ZERO;
            None
        },
        |block| {
            block.header.height += 1;
            None
        },
        // The bytes of the block that it names stay with it.
        |_| Some(Hash::from_bytes([7; 32])),
    ];
    let mut network = Network::found(4).await;
    for honest in [0, 1, 2] {
        network.start(honest);
    }
    let liar = Lying::start(&network, 3, lies, None).await;
    // It goes through its lies again and again: the first may be told before anybody has a link to it.
    for reason in [
        "header's state is wrong",
        "header's next_validators is wrong",
        "header's height is wrong",
        "is another one",
    ] {
        network.one_says(&[0, 1, 2], reason).await;
    }
    let height = network.height(0).await;
    network.reach(&[0, 1, 2], height + 4).await;
    let key = liar.stop().await;
    network.agree();
    assert_eq!(network.blocks_of(0, &key), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_validator_withholds_its_blocks_from_gets_them_of_the_others() {
    let mut network = Network::found(4).await;
    for honest in [0, 1, 2] {
        network.start(honest);
    }
    let shunned = Home::open(network.home(2)).unwrap().link_key.id();
    // What it proposes is right, but the one hears nothing of it and of its votes.
    let mut liar = Lying::start(&network, 3, vec![|_| None], Some(shunned)).await;
    liar.proposes(3).await;
    let height = network.height(0).await;
    network.reach(&[0, 1, 2], height + 4).await;
    let key = liar.stop().await;
    network.agree();
    assert_ne!(
        network.blocks_of(2, &key),
        0,
        "blocks that it was to miss stand on its chain"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_twice_splits_nothing_and_both_catch_up() {
    let mut network = Network::found(4).await;
    let twin = network.copy_home(3);
    network.start_all();
    network.reach(&[0, 1, 2], 8).await;
    let height = network.height(0).await;
    network.reach(&[3, twin], height).await;
    network.agree();
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_validators_are_accused_of_nothing() {
    let mut network = four().await;
    for round in 0..3 {
        network.kill(round);
        network.start(round);
        let height = network.height(3).await;
        network.reach(&crate::ALL, height + 4).await;
    }
    let client = network.client(3).await;
    assert_eq!(client.find(Kind::Misconduct, None).await.unwrap(), []);
    network.agree();
}
