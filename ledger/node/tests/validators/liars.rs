//! Validators that lie: one that proposes what is no block, and one that runs twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ledger::{Block, Certificate, Hash, Kind, ValidatorSet, body::Misconduct, encoding::encode};
use ledger_node::{
    Clock, Database, Home, Ledger, LedgerError,
    engine::{Application, EngineConfig, Mesh, Proposed, Timeouts, Verdict, run_among},
};
use peer_link::{Endpoint, Protocols, protocol};
use tokio::sync::watch;

use crate::{four, network::Network};

/// What a liar does to the blocks that it proposes.
type Spoil = fn(&mut Block) -> Option<Hash>;

/// A validator that finds every block valid and proposes none that is.
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

    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, LedgerError> {
        let snapshot = self.ledger.snapshot()?;
        let decided = snapshot.block(height)?.zip(snapshot.certificate(height)?);
        Ok(decided.map(|(block, certificate)| (encode(&block), certificate)))
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
        |_| Some(Hash::from_bytes([7; 32])),
    ];
    let mut network = Network::found(4).await;
    for honest in [0, 1, 2] {
        network.start(honest);
    }
    let home = Home::open(network.home(3)).unwrap();
    let endpoint = Endpoint::bind(&home.link_key, network.listen(3)).await.unwrap();
    let addresses: BTreeMap<_, _> = home.peers.iter().map(|peer| (peer.id(), peer.clone())).collect();
    let (mesh, door) = Mesh::new(endpoint.clone(), watch::channel(addresses).1);
    let protocols = Protocols::new().with(protocol::CONSENSUS, move |connection| door.clone().handle(connection));
    let _serving = endpoint.serve(protocols);
    let config = EngineConfig {
        chain: network.chain,
        key: home.consensus_key.clone(),
        directory: home.consensus(),
        block_interval: Duration::from_millis(200),
        timeouts: Timeouts::default(),
        moniker: "liar".into(),
    };
    let database = Database::open(&home.database(), home.genesis.clone()).unwrap();
    let ledger = Ledger::new(database, home.consensus_key.public(), Clock::default()).unwrap();
    let (told, mut lies_told) = watch::channel(0);
    let liar = Liar {
        ledger: Arc::new(ledger),
        told,
        lies,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let lying = tokio::spawn(run_among(config, mesh, liar, async { drop(stopped.await) }));
    lies_told.wait_for(|told| *told >= 4).await.unwrap();
    let height = network.height(0).await;
    network.reach(&[0, 1, 2], height + 4).await;
    drop(stop);
    drop(lying.await.unwrap().unwrap());
    let said: String = [0, 1, 2].map(|number| network.said(number)).concat();
    for reason in [
        "header's state is wrong",
        "header's next_validators is wrong",
        "header's height is wrong",
        "is another one",
    ] {
        assert!(said.contains(reason), "nobody said {reason}:\n{said}");
    }
    network.agree();
    let liar = home.consensus_key.public();
    assert_eq!(network.blocks_of(0, &liar), 0);
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
