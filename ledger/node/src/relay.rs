//! Passing transactions on to the validators, so that whoever proposes next has them.
//!
//! What somebody who is no validator brings to one goes from there to every other that is known; what a validator passes on goes
//! no further. A follower submits what it gets to a few of them, as its author could have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use borsh::object_length;
use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, MAX_RELAYED, Request};
use ledger::{SignedTransaction, ValidatorSet, encoding::MAX_TRANSACTION};
use peer_link::{Connections, PeerAddress, PeerId};
use tokio::{runtime::Handle, sync::mpsc};
use tracing::debug;

use crate::book::Book;

/// Transactions that wait for one validator. What finds no room is not passed on to it; its author sends it again until it
/// stands in a block.
const QUEUE: usize = 1024;

/// Validators to whom a follower submits a transaction.
const FOLLOWERS_CHOICE: usize = 3;

/// A transaction, and whether it is a validator that passes it on.
type Parcel = (Arc<SignedTransaction>, bool);

/// The ways to the other validators.
#[derive(Debug)]
pub(crate) struct Relay {
    links: Connections,
    book: Arc<Book>,
    runtime: Handle,
    /// The task at the end of each way ends with it.
    ways: Mutex<BTreeMap<PeerId, mpsc::Sender<Parcel>>>,
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
    pub(crate) fn pass(&self, transaction: &Arc<SignedTransaction>, set: &ValidatorSet) {
        let is_validator = set.has_link(self.book.own().as_bytes());
        let most = if is_validator { usize::MAX } else { FOLLOWERS_CHOICE };
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.retain(|peer, _| set.has_link(peer.as_bytes()));
        let known = self.book.peers();
        let validators = known
            .iter()
            .map(PeerAddress::id)
            .filter(|peer| set.has_link(peer.as_bytes()));
        for peer in validators.take(most) {
            let way = ways.entry(peer).or_insert_with(|| self.open(peer));
            if way.try_send((Arc::clone(transaction), is_validator)).is_err() {
                debug!(%peer, "no room for a transaction on the way to this validator");
            }
        }
    }

    fn open(&self, peer: PeerId) -> mpsc::Sender<Parcel> {
        let (way, waiting) = mpsc::channel(QUEUE);
        self.runtime
            .spawn(carry(self.links.clone(), Arc::clone(&self.book), peer, waiting));
        way
    }
}

/// Carries what waits to one peer, as much at once as there is, until nothing more can come.
async fn carry(links: Connections, book: Arc<Book>, peer: PeerId, mut waiting: mpsc::Receiver<Parcel>) {
    let mut left = None;
    loop {
        let first = match left.take() {
            Some(parcel) => parcel,
            None => match waiting.recv().await {
                Some(parcel) => parcel,
                None => return,
            },
        };
        let request = match first {
            (transaction, false) => Request::Submit(SignedTransaction::clone(&transaction)),
            (transaction, true) => {
                let mut bytes = length(&transaction);
                let mut batch = vec![SignedTransaction::clone(&transaction)];
                while let Ok(next) = waiting.try_recv() {
                    bytes += length(&next.0);
                    if bytes > MAX_RELAYED || !next.1 {
                        left = Some(next);
                        break;
                    }
                    batch.push(SignedTransaction::clone(&next.0));
                }
                Request::Relay(batch)
            }
        };
        if let Err(error) = send(&links, &book, peer, request).await {
            debug!(%peer, error, "transactions not passed on");
        }
    }
}

/// Bytes of a transaction; one that has no length is none that fits.
fn length(transaction: &SignedTransaction) -> usize {
    object_length(transaction).unwrap_or(MAX_TRANSACTION)
}

async fn send(links: &Connections, book: &Book, peer: PeerId, request: Request) -> Result<(), String> {
    let address = book.address(peer).ok_or("its address is not known any more")?;
    let connection = links.get(&address).await.map_err(|error| error.to_string())?;
    let answer = connection.call::<_, Answer>(&request, MAX_ANSWER, DEADLINE).await;
    match answer.map_err(|error| error.to_string())? {
        Answer::Unable(reason) => Err(reason),
        _ => Ok(()),
    }
}
