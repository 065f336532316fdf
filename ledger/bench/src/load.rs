//! Transfers that are submitted over links as people's bots do, and how long each takes to stand in a block.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_BLOCKS, Request};
use ledger::{Hash, Id, Operation, SignedTransaction, SigningKey, Tokens, Transaction};
use peer_link::{Connection, Endpoint, LinkKey, PeerAddress, protocol};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    network::Network,
    world::{entity, key, on_all_processors},
};

/// Who pays.
pub const PAYERS: usize = 250;
/// Transactions of one payer that are under way at once.
const UNDER_WAY: usize = 16;
/// Links over which they come. A validator answers 16 requests at once on each.
const LINKS: usize = 16;
const PAYER: u8 = 9;

/// Transactions that are signed ahead, for each second: more than any of these machines takes.
const MOST_PER_SECOND: usize = 30_000;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// Transactions in blocks a second.
    pub per_second: f64,
    /// From the submission to the block, half of them.
    pub p50: Duration,
    /// The same of 99 of 100.
    pub p99: Duration,
}

/// Keys of those who pay; the genesis gives them tokens.
#[must_use]
pub fn payers() -> Vec<SigningKey> {
    (0..PAYERS).map(|number| key(PAYER, number)).collect()
}

/// When transactions were submitted, and which have come.
#[derive(Default)]
struct Ledger {
    submitted: HashMap<Hash, (Instant, Arc<Semaphore>)>,
    took: Vec<Duration>,
}

/// Lets every payer pay again and again for `duration`, after a quarter of it in which nothing is counted.
///
/// # Errors
/// When a validator refuses what it should take, or does not answer.
pub async fn measure(network: &Network, duration: Duration) -> Result<Throughput> {
    let most = usize::try_from(duration.as_secs())? * MOST_PER_SECOND;
    let transactions = signed(network.chain, most / PAYERS);
    let book = Arc::new(Mutex::new(Ledger::default()));
    let (stop, stopped) = watch::channel(());
    let mut links = Vec::new();
    for number in 0..LINKS {
        links.push(dial(&network.peers[number % network.peers.len()]).await?);
    }
    let mut paying = JoinSet::new();
    for (number, of_payer) in transactions.into_iter().enumerate() {
        let (_, link) = &links[number % links.len()];
        paying.spawn(pay(link.clone(), of_payer, Arc::clone(&book), stopped.clone()));
    }
    let (_, watching) = dial(&network.peers[0]).await?;
    let begin = Instant::now() + duration / 4;
    let result = watch_blocks(&watching, &book, begin, duration).await;
    drop(stop);
    while let Some(ended) = paying.join_next().await {
        ended??;
    }
    result
}

/// A link of its own to a validator; it lives as long as its endpoint.
async fn dial(peer: &PeerAddress) -> Result<(Endpoint, Connection)> {
    let endpoint = Endpoint::bind(&LinkKey::generate()?, ([127, 0, 0, 1], 0).into()).await?;
    let connection = endpoint
        .dial(peer, protocol::LEDGER)
        .await
        .context("reach a validator")?;
    Ok((endpoint, connection))
}

/// Each payer's transactions in order.
fn signed(chain: Hash, each: usize) -> Vec<Vec<SignedTransaction>> {
    let payers = payers();
    let to: Id = entity(&payers[0]).founding_id();
    on_all_processors(&payers, |payer| {
        let author = entity(payer).founding_id();
        let nonces = 0..u64::try_from(each).unwrap_or(u64::MAX);
        let sign = |nonce| {
            let amount = Tokens::from_micro(1);
            let operation = Operation::Transfer { to, amount };
            let transaction = Transaction {
                author,
                nonce,
                operation,
            };
            transaction.sign(chain, payer)
        };
        nonces.map(sign).collect()
    })
}

async fn pay(
    link: Connection,
    transactions: Vec<SignedTransaction>,
    book: Arc<Mutex<Ledger>>,
    mut stopped: watch::Receiver<()>,
) -> Result<()> {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    for transaction in transactions {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit?,
            _ = stopped.changed() => return Ok(()),
        };
        permit.forget();
        let entry = (Instant::now(), Arc::clone(&room));
        lock(&book).submitted.insert(transaction.hash(), entry);
        loop {
            let request = Request::Submit(transaction.clone());
            let answer = link.call::<_, Answer>(&request, MAX_ANSWER, DEADLINE);
            let answer = tokio::select! {
                answer = answer => answer,
                _ = stopped.changed() => return Ok(()),
            };
            match answer? {
                Answer::Taken => break,
                // No room: who has no room now has some after the next block.
                Answer::Unable(_) => tokio::task::yield_now().await,
                other => bail!("a transfer was answered with {other:?}"),
            }
        }
    }
    bail!("the transfers that were signed are used up before the time is over")
}

fn lock(book: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn watch_blocks(
    link: &Connection,
    book: &Mutex<Ledger>,
    begin: Instant,
    duration: Duration,
) -> Result<Throughput> {
    let (mut height, mut counted) = (0, 0_u32);
    let mut first = None;
    let end = begin + duration;
    loop {
        let request = Request::Blocks {
            after: height,
            wait_ms: 1_000,
        };
        let answer = link.call::<_, Answer>(&request, MAX_BLOCKS, DEADLINE).await?;
        let Answer::Blocks(blocks) = answer else {
            bail!("a request for blocks was answered with {answer:?}");
        };
        let now = Instant::now();
        for (block, _) in blocks {
            height = block.header.height;
            // From one block to another: what comes with the first was made before.
            let counts = now >= begin && first.is_some();
            if now >= begin && first.is_none() {
                first = Some(now);
            }
            let mut book = lock(book);
            for transaction in &block.transactions {
                if let Some((submitted, room)) = book.submitted.remove(&transaction.hash()) {
                    room.add_permits(1);
                    if counts {
                        book.took.push(now - submitted);
                    }
                }
            }
            if counts {
                counted += u32::try_from(block.transactions.len())?;
            }
        }
        if now >= end {
            let first = first.context("no block came")?;
            let mut took = std::mem::take(&mut lock(book).took);
            ensure!(!took.is_empty(), "no transaction came into a block");
            took.sort();
            return Ok(Throughput {
                per_second: f64::from(counted) / (now - first).as_secs_f64(),
                p50: took[took.len() / 2],
                p99: took[took.len() * 99 / 100],
            });
        }
    }
}
