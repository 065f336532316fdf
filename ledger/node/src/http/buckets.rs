//! How often one client may ask. Pure: the time is an argument.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Whom a limit counts for: an IPv4 address, or the /64 network of an IPv6 address, since whoever has one address of it has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client(IpAddr);

impl Client {
    /// The client at an address.
    pub(crate) fn at(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// How much a client may ask.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Time in which one more request is allowed.
    pub every: Duration,
    /// Requests that may come at once after a pause.
    pub burst: u32,
}

/// What each client has asked of late: at most so many clients, those who may ask the most are forgotten first.
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    most: usize,
    /// When a client will have been silent for long enough to ask as if it never had.
    free_at: BTreeMap<Client, Duration>,
}

impl Buckets {
    /// Knows nobody yet, and `most` clients at a time.
    pub(crate) const fn new(rate: Rate, most: usize) -> Self {
        let free_at = BTreeMap::new();
        Self { rate, most, free_at }
    }

    /// Counts a request at the time `now`, which never goes back.
    ///
    /// # Errors
    /// How long the client is to wait, when it has asked too much.
    pub(crate) fn take(&mut self, client: Client, now: Duration) -> Result<(), Duration> {
        let free_at = self.free_at.get(&client).copied().unwrap_or_default().max(now) + self.rate.every;
        let wait = (free_at - now).saturating_sub(self.rate.every * self.rate.burst.max(1));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if !self.free_at.contains_key(&client) && self.free_at.len() >= self.most {
            self.free_at.retain(|_, free_at| *free_at > now);
            if self.free_at.len() >= self.most {
                let least = self.free_at.iter().min_by_key(|(_, free_at)| **free_at);
                if let Some(least) = least.map(|(client, _)| *client) {
                    self.free_at.remove(&least);
                }
            }
        }
        self.free_at.insert(client, free_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        every: Duration::from_millis(100),
        burst: 3,
    };

    fn client(text: &str) -> Client {
        Client::at(text.parse().unwrap())
    }

    #[test]
    fn a_burst_is_taken_and_then_one_at_a_time() {
        let mut buckets = Buckets::new(RATE, 10);
        let now = Duration::from_secs(5);
        for _ in 0..3 {
            assert_eq!(buckets.take(client("10.0.0.1"), now), Ok(()));
        }
        assert_eq!(buckets.take(client("10.0.0.1"), now), Err(RATE.every));
        assert_eq!(
            buckets.take(client("10.0.0.2"), now),
            Ok(()),
            "another client has its own"
        );
        let later = now + RATE.every;
        assert_eq!(buckets.take(client("10.0.0.1"), later), Ok(()));
        assert_eq!(buckets.take(client("10.0.0.1"), later), Err(RATE.every));
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_a_mapped_address_is_its_ipv4() {
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_who_ask_most() {
        let mut buckets = Buckets::new(RATE, 2);
        let now = Duration::from_secs(5);
        for _ in 0..3 {
            buckets.take(client("10.0.0.1"), now).unwrap();
        }
        for last in 2..200 {
            buckets.take(client(&format!("10.0.0.{last}")), now).unwrap();
            assert!(buckets.free_at.len() <= 2);
        }
        assert_eq!(buckets.take(client("10.0.0.1"), now), Err(RATE.every));
    }
}
