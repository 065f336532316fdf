//! Who may begin a handshake: keys and forged addresses cost nothing, an address at which one is reached does.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Share, Shares};

/// Most handshakes under way at once; beyond it new ones are refused.
const MAX_HANDSHAKES: usize = 64;
/// Handshakes under way from which on whoever begins another must show first that it receives what is sent to its address
/// (RFC 9000, section 8.1.2). Until then whoever forges addresses can keep handshakes busy for their deadline.
const ON_TRUST: usize = 16;
/// Most handshakes that one network may begin, once addresses have to be shown, beside what it began before: fewer than
/// [`ON_TRUST`].
const MAX_PER_NETWORK: usize = 8;

/// Why a handshake does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its address must be shown first.
    Retry,
    /// There is no room.
    Full,
}

/// Counts handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    all: Arc<Semaphore>,
    networks: Shares<IpAddr>,
}

/// A handshake under way; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    _one: OwnedSemaphorePermit,
    _of_network: Option<Share<IpAddr>>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            networks: Shares::new(MAX_PER_NETWORK),
        }
    }
}

impl Handshakes {
    /// Lets one in that comes from `network`, and whose address `is_shown` or not.
    pub(crate) fn begin(&self, network: Option<IpAddr>, is_shown: bool) -> Result<Handshake, Closed> {
        let under_way = MAX_HANDSHAKES - self.all.available_permits();
        let one = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Closed::Full)?;
        let of_network = network.and_then(|network| self.networks.take(network));
        if under_way >= ON_TRUST {
            if !is_shown {
                return Err(Closed::Retry);
            }
            if network.is_some() && of_network.is_none() {
                return Err(Closed::Full);
            }
        }
        Ok(Handshake {
            _one: one,
            _of_network: of_network,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_addresses_cannot_shut_the_door_to_those_who_show_theirs() {
        let handshakes = Handshakes::default();
        let forged = |number: u8| Some(IpAddr::from([192, 0, 2, number]));
        let mut held = Vec::new();
        for number in 0..=255 {
            match handshakes.begin(forged(number), false) {
                Ok(handshake) => held.push(handshake),
                Err(closed) => assert_eq!(closed, Closed::Retry, "{number}"),
            }
        }
        assert_eq!(held.len(), ON_TRUST);
        let honest: IpAddr = "198.51.100.1".parse().unwrap();
        for _ in 0..MAX_PER_NETWORK {
            held.push(handshakes.begin(Some(honest), true).unwrap());
        }
        let one_more = handshakes.begin(Some(honest), true);
        assert_eq!(one_more.unwrap_err(), Closed::Full, "one network has its share");
        let others = (0..=255).map_while(|number| handshakes.begin(Some([203, 0, 113, number].into()), true).ok());
        held.extend(others);
        assert_eq!(held.len(), MAX_HANDSHAKES);
        held.clear();
        assert_eq!(handshakes.all.available_permits(), MAX_HANDSHAKES);
        assert!(handshakes.begin(forged(1), false).is_ok());
    }
}
