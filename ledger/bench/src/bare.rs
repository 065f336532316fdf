//! A validator without an application: the same engine, the same links, real transactions passed on and put into blocks, but
//! nobody looks at them and no state is kept. What a validator of the ledger adds to this is what the ledger costs.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_BLOCKS, MAX_RELAYED, MAX_REQUEST, Request};
use ledger::{
    Block, Certificate, Hash, Header, PublicKey, SignedTransaction, ValidatorSet,
    block::MAX_TRANSACTIONS,
    body::Misconduct,
    encoding::{MAX_BLOCK, decode, encode},
};
use ledger_node::{
    Clock, Home,
    engine::{Application, EngineConfig, Mesh, Proposed, Timeouts, Verdict, run_among},
};
use peer_link::{Connections, Endpoint, Limits, PeerAddress, Protocols, protocol, serve_calls};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

const LIMITS: Limits = Limits {
    request: MAX_REQUEST,
    streams: 16,
};
/// Transactions that wait for one of the others.
const QUEUE: usize = 8_192;
/// Bytes of a block that are not transactions.
const HEADER_BYTES: usize = 1_024;

/// What the tasks share.
struct Shared {
    chain: Hash,
    key: PublicKey,
    validators: ValidatorSet,
    pool: Mutex<Pool>,
    height: watch::Sender<u64>,
    others: Vec<mpsc::Sender<SignedTransaction>>,
}

#[derive(Default)]
struct Pool {
    waiting: BTreeMap<u64, SignedTransaction>,
    by_hash: HashMap<Hash, u64>,
    arrivals: u64,
    blocks: Vec<(Block, Certificate)>,
}

impl Pool {
    fn push(&mut self, transaction: &SignedTransaction) {
        if let Entry::Vacant(place) = self.by_hash.entry(transaction.hash()) {
            place.insert(self.arrivals);
            self.waiting.insert(self.arrivals, transaction.clone());
            self.arrivals += 1;
        }
    }

    fn committed(&mut self, block: &Block) {
        for transaction in &block.transactions {
            if let Some(arrival) = self.by_hash.remove(&transaction.hash()) {
                self.waiting.remove(&arrival);
            }
        }
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the validator of a directory among `peers` until `shutdown` completes, and answers submissions and requests for blocks.
///
/// # Errors
/// When the directory cannot be used or the engine fails.
pub async fn run(
    directory: &Path,
    listen: SocketAddr,
    peers: Vec<PeerAddress>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let home = Home::open(directory)?;
    let endpoint = Endpoint::bind(&home.link_key, listen).await?;
    let links = Connections::new(endpoint.clone(), protocol::LEDGER);
    let chain = home.genesis.hash();
    let others = peers.iter().map(|peer| {
        let (way, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(carry(links.clone(), peer.clone(), waiting));
        way
    });
    let shared = Arc::new(Shared {
        chain,
        key: home.consensus_key.public(),
        validators: home.genesis.validators.clone(),
        pool: Mutex::default(),
        height: watch::Sender::new(0),
        others: others.collect(),
    });
    let addresses = peers.into_iter().map(|peer| (peer.id(), peer)).collect();
    let (_addresses, known) = watch::channel(addresses);
    let (mesh, door) = Mesh::new(endpoint.clone(), known);
    let answering = Arc::clone(&shared);
    let protocols = Protocols::new()
        .with(protocol::LEDGER, move |connection| {
            let shared = Arc::clone(&answering);
            serve_calls(connection, LIMITS, MAX_BLOCKS, move |_, request| {
                answer(Arc::clone(&shared), request)
            })
        })
        .with(protocol::CONSENSUS, move |connection| door.clone().handle(connection));
    let _serving = endpoint.serve(protocols);
    let config = EngineConfig {
        chain,
        key: home.consensus_key.clone(),
        directory: directory.join("consensus"),
        block_interval: Duration::from_millis(u64::from(home.genesis.block_interval_ms)),
        timeouts: Timeouts::default(),
        moniker: "bare".into(),
    };
    run_among(config, mesh, Bare(shared), shutdown).await?;
    endpoint.close().await;
    Ok(())
}

async fn answer(shared: Arc<Shared>, request: Request) -> Answer {
    match request {
        Request::Submit(transaction) => {
            shared.pool().push(&transaction);
            for other in &shared.others {
                // What finds no room there waits here.
                let _ = other.try_send(transaction.clone());
            }
            Answer::Taken
        }
        Request::Relay(transactions) => {
            let mut pool = shared.pool();
            for transaction in &transactions {
                pool.push(transaction);
            }
            Answer::Taken
        }
        Request::Blocks { after, wait_ms } => {
            let mut heights = shared.height.subscribe();
            let higher = heights.wait_for(|height| *height > after);
            let _ = timeout(Duration::from_millis(wait_ms.into()), higher).await;
            let after = usize::try_from(after).unwrap_or(usize::MAX);
            let next = shared.pool().blocks.get(after).cloned();
            Answer::Blocks(next.into_iter().collect())
        }
        _ => Answer::Unable("nothing but this is answered".into()),
    }
}

/// Passes on what waits, as much at once as there is.
async fn carry(links: Connections, peer: PeerAddress, mut waiting: mpsc::Receiver<SignedTransaction>) {
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = encode(&first).len();
        let mut batch = vec![first];
        while let Ok(next) = waiting.try_recv() {
            bytes += encode(&next).len();
            if bytes > MAX_RELAYED {
                left = Some(next);
                break;
            }
            batch.push(next);
        }
        if let Ok(connection) = links.get(&peer).await {
            let request = Request::Relay(batch);
            let _ = connection.call::<_, Answer>(&request, MAX_ANSWER, DEADLINE).await;
        }
    }
}

/// The empty application: it takes every block and keeps none on the disk.
struct Bare(Arc<Shared>);

impl Application for Bare {
    type Error = Infallible;

    fn next_height(&self) -> Result<u64, Infallible> {
        Ok(*self.0.height.borrow() + 1)
    }

    fn validators(&self, _height: u64) -> ValidatorSet {
        self.0.validators.clone()
    }

    fn propose(&mut self, height: u64, _round: u32) -> Result<Proposed, Infallible> {
        let mut room = MAX_BLOCK - HEADER_BYTES;
        let pool = self.0.pool();
        let fits = |transaction: &&SignedTransaction| match room.checked_sub(encode(*transaction).len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        let waiting = pool.waiting.values().take(MAX_TRANSACTIONS);
        let transactions: Vec<SignedTransaction> = waiting.take_while(fits).cloned().collect();
        let header = Header {
            chain: self.0.chain,
            height,
            time: Clock::default().now(),
            previous: Hash::ZERO,
            transactions: Block::transactions_hash(&transactions),
            state: Hash::ZERO,
            validators: self.0.validators.hash(),
            next_validators: self.0.validators.hash(),
            proposer: self.0.key,
        };
        Ok(Proposed {
            block: header.id(),
            bytes: encode(&Block { header, transactions }),
        })
    }

    fn validate(&mut self, _height: u64, bytes: &[u8]) -> Result<Verdict, Infallible> {
        Ok(match decode::<Block>(bytes, MAX_BLOCK) {
            Ok(block) => Verdict::Valid(block.header.id()),
            Err(error) => Verdict::Refused(error.to_string()),
        })
    }

    fn commit(&mut self, bytes: &[u8], certificate: Certificate) -> Result<(), Infallible> {
        let height = certificate.height;
        if let Ok(block) = decode::<Block>(bytes, MAX_BLOCK) {
            let mut pool = self.0.pool();
            pool.committed(&block);
            pool.blocks.push((block, certificate));
        }
        self.0.height.send_replace(height);
        Ok(())
    }

    fn misbehaved(&mut self, _proven: Vec<Misconduct>) -> Result<(), Infallible> {
        Ok(())
    }

    fn decided(&self, height: u64) -> Result<Option<(Vec<u8>, Certificate)>, Infallible> {
        let index = usize::try_from(height).unwrap_or(usize::MAX).saturating_sub(1);
        let pool = self.0.pool();
        let decided = pool.blocks.get(index);
        Ok(decided.map(|(block, certificate)| (encode(block), certificate.clone())))
    }
}
