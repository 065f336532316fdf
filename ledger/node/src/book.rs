//! Where the other validators are reached: as configured, and as they tell one another.
//!
//! Links authenticate who answers, so a false address costs a dial and nothing else. What a validator says of itself counts
//! more than what others say of it, and what the operator says counts most.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chain_client::protocol::{Answer, DEADLINE, MAX_ANSWER, Request};
use ledger::{ValidatorSet, consensus::MAX_VALIDATORS};
use peer_link::{Backoff, Connections, MAX_ADDRESSES, PeerAddress, PeerId};
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tracing::debug;

use crate::{engine::Addresses, node::Ledger};

/// First pause between rounds of asking while the address of a validator is not known; it grows with each.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// Pause between rounds otherwise: an address may change.
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Who said where a validator is, the most trusted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Others,
    Itself,
    Operator,
}

/// The known addresses.
#[derive(Debug)]
pub(crate) struct Book {
    own: PeerAddress,
    sources: Mutex<BTreeMap<PeerId, Source>>,
    addresses: watch::Sender<Addresses>,
}

impl Book {
    /// A book of the validator at `own`, with what its operator knows.
    pub(crate) fn new(own: PeerAddress, configured: Vec<PeerAddress>) -> Self {
        let configured = configured.into_iter().filter(|peer| peer.id() != own.id());
        let addresses: Addresses = configured.map(|peer| (peer.id(), peer)).collect();
        let sources = addresses.keys().map(|peer| (*peer, Source::Operator)).collect();
        Self {
            own,
            sources: Mutex::new(sources),
            addresses: watch::channel(addresses).0,
        }
    }

    /// The addresses, with all changes to come.
    pub(crate) fn addresses(&self) -> watch::Receiver<Addresses> {
        self.addresses.subscribe()
    }

    /// All of them as they are now.
    pub(crate) fn peers(&self) -> Vec<PeerAddress> {
        self.addresses.borrow().values().cloned().collect()
    }

    /// The own link.
    pub(crate) fn own(&self) -> PeerId {
        self.own.id()
    }

    /// The address of one of them.
    pub(crate) fn address(&self, peer: PeerId) -> Option<PeerAddress> {
        self.addresses.borrow().get(&peer).cloned()
    }

    /// What is told to somebody who asks: the own address first.
    pub(crate) fn told(&self) -> Vec<PeerAddress> {
        let known = self.addresses.borrow();
        std::iter::once(&self.own)
            .chain(known.values())
            .take(MAX_VALIDATORS + 1)
            .cloned()
            .collect()
    }

    /// Takes in what the peer `teller` tells. Only addresses of the validators of `set` are kept.
    pub(crate) fn learn(&self, teller: PeerId, told: Vec<PeerAddress>, set: &ValidatorSet) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in told.into_iter().take(MAX_VALIDATORS + 1) {
            let id = peer.id();
            if id == self.own.id() || !set.has_link(id.as_bytes()) {
                continue;
            }
            let source = if id == teller { Source::Itself } else { Source::Others };
            if sources.get(&id).is_some_and(|known| *known > source) {
                continue;
            }
            let known = self.address(id).filter(|_| source == Source::Others);
            let peer = known.map_or_else(|| peer.clone(), |known| united(&known, &peer));
            sources.insert(id, source);
            self.addresses.send_if_modified(|addresses| {
                let is_new = addresses.get(&id) != Some(&peer);
                addresses.insert(id, peer);
                is_new
            });
        }
        // Those who are no validators any more make room for those who come.
        let gone = |id: &PeerId, source: &Source| *source != Source::Operator && !set.has_link(id.as_bytes());
        let gone: Vec<PeerId> = sources
            .iter()
            .filter(|(id, source)| gone(id, source))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            sources.remove(&id);
            self.addresses.send_modify(|addresses| _ = addresses.remove(&id));
        }
    }

    /// Whether each validator's address is known.
    fn is_complete(&self, set: &ValidatorSet) -> bool {
        let known = self.addresses.borrow();
        let mut links = set
            .validators()
            .iter()
            .map(|validator| PeerId::from_bytes(validator.link.as_bytes()));
        // One whose link key is no key is never reached.
        links.all(|link| link.is_ok_and(|link| link == self.own.id() || known.contains_key(&link)))
    }
}

/// All places where a peer is said to be, as many as an address holds: whoever lies first keeps nobody's truth out but by
/// filling it.
fn united(known: &PeerAddress, told: &PeerAddress) -> PeerAddress {
    let mut addresses = known.addresses().to_vec();
    addresses.extend(
        told.addresses()
            .iter()
            .filter(|address| !known.addresses().contains(address)),
    );
    addresses.truncate(MAX_ADDRESSES);
    PeerAddress::new(known.id(), addresses).unwrap_or_else(|_| known.clone())
}

/// Asks all who are known for the addresses of the others, and tells them the own one, again and again.
pub(crate) async fn acquaint(book: &Book, ledger: &Ledger, links: &Connections) {
    // One that never runs is asked for less and less often.
    let mut pauses = Backoff::new(SHORT_PAUSE, LONG_PAUSE);
    let mut set = ledger.validators();
    loop {
        let mut asked = JoinSet::new();
        for peer in book.peers() {
            asked.spawn(ask(links.clone(), peer, book.own.clone()));
        }
        while let Some(answered) = asked.join_next().await {
            if let Ok(Some((peer, told))) = answered {
                book.learn(peer, told, &ledger.validators());
            }
        }
        let now = ledger.validators();
        if now != set {
            pauses.succeeded();
            set = now;
        }
        let pause = if book.is_complete(&set) {
            LONG_PAUSE
        } else {
            pauses.failed()
        };
        sleep(pause).await;
    }
}

/// Asks one peer; nothing when it tells nothing.
async fn ask(links: Connections, peer: PeerAddress, own: PeerAddress) -> Option<(PeerId, Vec<PeerAddress>)> {
    let asked = async {
        let connection = links.get(&peer).await.map_err(|error| error.to_string())?;
        let request = Request::Acquaint(own);
        let answer = connection.call(&request, MAX_ANSWER, DEADLINE).await;
        match answer.map_err(|error| error.to_string())? {
            Answer::Peers(told) => Ok(told),
            _ => Err("answered something else".to_owned()),
        }
    };
    match asked.await {
        Ok(told) => Some((peer.id(), told)),
        Err(error) => {
            debug!(peer = %peer.id(), error, "no addresses learned");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::{PublicKey, Validator};
    use peer_link::LinkKey;

    use super::*;

    fn id(seed: u8) -> PeerId {
        LinkKey::from_seed(&[seed; 32]).id()
    }

    fn peer(seed: u8, port: u16) -> PeerAddress {
        PeerAddress::new(id(seed), vec![([127, 0, 0, 1], port).into()]).unwrap()
    }

    fn set(seeds: &[u8]) -> ValidatorSet {
        let validator = |seed: &u8| Validator {
            key: PublicKey::from_bytes([*seed; 32]),
            link: PublicKey::from_bytes(*id(*seed).as_bytes()),
            power: 1,
        };
        ValidatorSet::new(seeds.iter().map(validator).collect()).unwrap()
    }

    #[test]
    fn who_speaks_of_itself_counts_more_than_others_and_the_operator_most() {
        let book = Book::new(peer(1, 1), vec![peer(2, 2)]);
        let set = set(&[1, 2, 3, 4]);
        let port = |seed| book.address(id(seed)).map(|peer| peer.addresses()[0].port());
        book.learn(id(2), vec![peer(3, 30), peer(1, 99), peer(9, 9)], &set);
        assert_eq!((port(3), port(1), port(9)), (Some(30), None, None));
        book.learn(id(4), vec![peer(3, 33)], &set);
        let said: Vec<u16> = book
            .address(id(3))
            .unwrap()
            .addresses()
            .iter()
            .map(|at| at.port())
            .collect();
        assert_eq!(said, [30, 33], "what others say of it may be true or not");
        book.learn(id(3), vec![peer(3, 31), peer(2, 77)], &set);
        assert_eq!((port(3), port(2)), (Some(31), Some(2)));
        book.learn(id(2), vec![peer(3, 32), peer(2, 78)], &set);
        assert_eq!((port(3), port(2)), (Some(31), Some(2)));
        assert!(!book.is_complete(&set));
        book.learn(id(3), vec![peer(4, 40)], &set);
        assert!(book.is_complete(&set));
        assert_eq!(
            book.told(),
            [peer(1, 1)]
                .into_iter()
                .chain(book.addresses().borrow().values().cloned())
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn who_validates_no_more_is_forgotten_unless_the_operator_named_it() {
        let book = Book::new(peer(1, 1), vec![peer(2, 2)]);
        book.learn(id(3), vec![peer(3, 3), peer(4, 4)], &set(&[1, 2, 3, 4]));
        book.learn(id(4), vec![], &set(&[1, 4]));
        let known: Vec<PeerId> = book.addresses().borrow().keys().copied().collect();
        let mut expected = vec![id(2), id(4)];
        expected.sort();
        assert_eq!(known, expected);
    }
}
