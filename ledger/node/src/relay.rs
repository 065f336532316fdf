//! Passing transactions on to the other validators, so that whoever proposes next has them.
//!
//! What somebody who is no validator brings goes to every validator that is known, once; what a validator passes on goes no
//! further. So each transaction crosses each link at most once, and none goes in circles.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use borsh::object_length;
use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_RELAYED, Request};
use ledger::{SignedTransaction, ValidatorSet, encoding::MAX_TRANSACTION};
use peer_link::{Connections, PeerId};
use tokio::{runtime::Handle, sync::mpsc};
use tracing::debug;

use crate::book::Book;

/// Transactions that wait for one validator. What finds no room is not passed on to it; its author sends it again until it
/// stands in a block.
const QUEUE: usize = 1024;

/// The ways to the other validators.
#[derive(Debug)]
pub(crate) struct Relay {
    links: Connections,
    book: Arc<Book>,
    runtime: Handle,
    /// The task at the end of each way ends with it.
    ways: Mutex<BTreeMap<PeerId, mpsc::Sender<SignedTransaction>>>,
}

impl Relay {
    /// Ways to the validators whose addresses are in the book.
    pub(crate) fn new(links: Connections, book: Arc<Book>) -> Self {
        Self {
            links,
            book,
            runtime: Handle::current(),
            ways: Mutex::default(),
        }
    }

    /// Passes a transaction on to the validators of `set`.
    pub(crate) fn pass(&self, transaction: &SignedTransaction, set: &ValidatorSet) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|peer, _| set.has_link(peer.as_bytes()));
        for peer in self.book.addresses().borrow().keys() {
            if !set.has_link(peer.as_bytes()) {
                continue;
            }
            let way = ways.entry(*peer).or_insert_with(|| self.open(*peer));
            if way.try_send(transaction.clone()).is_err() {
                debug!(%peer, "no room for a transaction on the way to this validator");
            }
        }
    }

    fn open(&self, peer: PeerId) -> mpsc::Sender<SignedTransaction> {
        let (way, waiting) = mpsc::channel(QUEUE);
        self.runtime
            .spawn(carry(self.links.clone(), Arc::clone(&self.book), peer, waiting));
        way
    }
}

/// Carries what waits to one peer, as much at once as there is, until nothing more can come.
async fn carry(links: Connections, book: Arc<Book>, peer: PeerId, mut waiting: mpsc::Receiver<SignedTransaction>) {
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(transaction) => transaction,
            None => match waiting.recv().await {
                Some(transaction) => transaction,
                None => return,
            },
        };
        let mut bytes = length(&first);
        let mut batch = vec![first];
        while let Ok(next) = waiting.try_recv() {
            bytes += length(&next);
            if bytes > MAX_RELAYED {
                left = Some(next);
                break;
            }
            batch.push(next);
        }
        if let Err(error) = send(&links, &book, peer, batch).await {
            debug!(%peer, error, "transactions not passed on");
        }
    }
}

/// Bytes of a transaction; one that has no length is none that fits.
fn length(transaction: &SignedTransaction) -> usize {
    object_length(transaction).unwrap_or(MAX_TRANSACTION)
}

async fn send(links: &Connections, book: &Book, peer: PeerId, batch: Vec<SignedTransaction>) -> Result<(), String> {
    let address = book.address(peer).ok_or("its address is not known any more")?;
    let connection = links.get(&address).await.map_err(|error| error.to_string())?;
    let answered = connection
        .call::<_, Answer>(&Request::Relay(batch), MAX_ANSWER, DEADLINE)
        .await;
    answered.map(drop).map_err(|error| error.to_string())
}
