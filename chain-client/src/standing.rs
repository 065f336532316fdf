//! In which order peers are asked: one that was no help waits behind the others, longer each time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use peer_link::{Backoff, PeerAddress, PeerId};

/// How long a peer waits behind the others after the first failure.
const FIRST: Duration = Duration::from_secs(15);
/// How long at most.
const LONGEST: Duration = Duration::from_secs(600);

/// Which peers were no help lately. A silent peer would otherwise cost every question its whole deadline.
#[derive(Debug, Default)]
pub(crate) struct Standing(BTreeMap<PeerId, Benched>);

#[derive(Debug)]
struct Benched {
    backoff: Backoff,
    until: Instant,
}

impl Standing {
    /// The peers in the order in which they are asked now. Nobody is left out.
    pub(crate) fn order(&self, peers: &[PeerAddress], now: Instant) -> Vec<PeerAddress> {
        let mut order = peers.to_vec();
        // Stable: the caller's order holds among those of the same standing.
        order.sort_by_key(|peer| self.is_benched(peer.id(), now));
        order
    }

    fn is_benched(&self, peer: PeerId, now: Instant) -> bool {
        self.0.get(&peer).is_some_and(|benched| now < benched.until)
    }

    /// A peer was no help. Counts once for each time that it was asked in its turn.
    pub(crate) fn failed(&mut self, peer: PeerId, now: Instant) {
        if self.is_benched(peer, now) {
            return;
        }
        let benched = self.0.entry(peer).or_insert_with(|| Benched {
            backoff: Backoff::new(FIRST, LONGEST),
            until: now,
        });
        benched.until = now + benched.backoff.failed();
    }

    /// A peer has helped.
    pub(crate) fn helped(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use peer_link::LinkKey;

    use super::*;

    #[test]
    fn a_peer_that_fails_waits_behind_the_others_longer_each_time_until_it_helps() {
        let address = |seed| {
            let id = LinkKey::from_seed(&[seed; 32]).id();
            PeerAddress::new(id, vec![([127, 0, 0, 1], 7).into()]).unwrap()
        };
        let peers = [address(1), address(2), address(3)];
        let [a, b, c] = peers.clone();
        let (mut standing, start) = (Standing::default(), Instant::now());
        standing.failed(a.id(), start);
        standing.failed(a.id(), start);
        assert_eq!(standing.order(&peers, start), [b.clone(), c.clone(), a.clone()]);
        let later = start + FIRST;
        assert_eq!(standing.order(&peers, later), peers);
        standing.failed(a.id(), later);
        assert_eq!(standing.order(&peers, later + FIRST), [b, c, a.clone()]);
        standing.helped(a.id());
        assert_eq!(standing.order(&peers, later), peers);
    }
}
