//! The DHCPv4 client as a state machine without input, output or clock (RFC 2131, 4.4).
//!
//! ```text
//!           ┌──────────── nak, expired, no answer ─────────────┐
//!           ▼                                                  │
//! Init ─▶ Selecting ─offer─▶ Requesting ─ack─▶ Bound ─T1─▶ Renewing ─T2─▶ Rebinding
//!                                                ▲             │              │
//!                                                └─────ack─────┴──────ack─────┘
//! ```
//!
//! The shell passes each packet to [`Client::receive`], calls [`Client::tick`] at [`Client::deadline`], and carries out what
//! both return.

use std::{net::Ipv4Addr, time::Duration};

use super::packet::{Kind, Query, Reply};

/// First pause before a message is repeated.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause before a message is repeated.
pub const LONGEST_RETRY: Duration = Duration::from_secs(64);
/// Repetitions of a request before the client looks for servers again.
pub const MAX_REQUESTS: u32 = 4;
/// Leases shorter than this are taken as this long, so that a hostile server cannot make the client spin.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(30);
/// Least pause between two attempts to prolong a lease (RFC 2131, 4.4.5).
pub const RENEW_RETRY: Duration = Duration::from_secs(60);

/// Time since the start of the machine.
pub type Instant = Duration;

/// What a server has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The interface's address.
    pub address: Ipv4Addr,
    /// Length of the network prefix in bits.
    pub prefix: u8,
    /// Default router.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The server that granted it.
    pub server: Ipv4Addr,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To every host on the link.
    Broadcast,
    /// To one server, from the leased address.
    Server(Ipv4Addr),
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes from port 68 to port 67.
    Send(Destination, Vec<u8>),
    /// Put this address on the interface; a lease that is only prolonged is not given again.
    Configure(Lease),
    /// Take the address off the interface.
    Deconfigure(Lease),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Init {
        at: Instant,
    },
    Selecting {
        attempt: u32,
        resend: Instant,
    },
    Requesting {
        offer: Lease,
        attempt: u32,
        resend: Instant,
    },
    Bound {
        held: Held,
    },
    Renewing {
        held: Held,
        resend: Instant,
    },
    Rebinding {
        held: Held,
        resend: Instant,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    lease: Lease,
    renew: Instant,
    rebind: Instant,
    expire: Instant,
}

/// One interface's client.
#[derive(Debug, Clone)]
pub struct Client {
    mac: [u8; 6],
    random: u64,
    transaction: u32,
    began: Instant,
    sent: Instant,
    state: State,
}

impl Client {
    /// A client that begins at `now`. `seed` makes transaction numbers and jitter; it should be random.
    #[must_use]
    pub fn new(mac: [u8; 6], seed: u64, now: Instant) -> Self {
        Self {
            mac,
            random: seed,
            transaction: 0,
            began: now,
            sent: now,
            state: State::Init { at: now },
        }
    }

    /// The lease that is held.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { held } | State::Renewing { held, .. } | State::Rebinding { held, .. } => Some(&held.lease),
            State::Init { .. } | State::Selecting { .. } | State::Requesting { .. } => None,
        }
    }

    /// Whether an answer is awaited. Between a lease and its renewal none is.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        !matches!(self.state, State::Bound { .. })
    }

    /// When [`Client::tick`] wants to be called next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.state {
            State::Init { at } => *at,
            State::Selecting { resend, .. } | State::Requesting { resend, .. } => *resend,
            State::Bound { held } => held.renew,
            State::Renewing { held, resend } => (*resend).min(held.rebind),
            State::Rebinding { held, resend } => (*resend).min(held.expire),
        }
    }

    /// The link came back or the network may be another: asks anew, and keeps the lease only if it is granted again.
    pub fn restart(&mut self, now: Instant) -> Vec<Output> {
        let gone = self.lease().cloned().map(Output::Deconfigure);
        self.began = now;
        self.state = State::Init { at: now };
        gone.into_iter().collect()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        if now < self.deadline() {
            return Vec::new();
        }
        match self.state.clone() {
            State::Init { .. } => {
                self.transaction = self.random_u32();
                self.began = now;
                self.discover(0, now)
            }
            State::Selecting { attempt, .. } => self.discover(attempt + 1, now),
            State::Requesting { attempt, .. } if attempt + 1 >= MAX_REQUESTS => {
                self.state = State::Init { at: now };
                self.tick(now)
            }
            State::Requesting { offer, attempt, .. } => self.request(offer, attempt + 1, now),
            State::Bound { held } => self.renew(held, now),
            State::Renewing { held, .. } if now >= held.rebind => self.rebind(held, now),
            State::Renewing { held, .. } => self.renew(held, now),
            State::Rebinding { held, .. } if now >= held.expire => {
                let mut outputs = vec![Output::Deconfigure(held.lease)];
                self.state = State::Init { at: now };
                outputs.extend(self.tick(now));
                outputs
            }
            State::Rebinding { held, .. } => self.rebind(held, now),
        }
    }

    /// A packet has arrived at port 68. What is not an answer to the question that is open changes nothing.
    pub fn receive(&mut self, packet: &[u8], now: Instant) -> Vec<Output> {
        let Some(reply) = Reply::decode(packet) else {
            return Vec::new();
        };
        if reply.transaction != self.transaction || reply.mac != self.mac {
            return Vec::new();
        }
        match (self.state.clone(), reply.kind) {
            (State::Selecting { .. }, Kind::Offer) => match lease(&reply) {
                Some(offer) => self.request(offer, 0, now),
                None => Vec::new(),
            },
            (State::Requesting { offer, .. }, Kind::Ack) => match lease(&reply) {
                Some(lease) if lease.server == offer.server => self.bind(lease, &reply, None),
                _ => Vec::new(),
            },
            (State::Requesting { offer, .. }, Kind::Nak) if reply.server == Some(offer.server) => self.begin_again(now),
            (State::Renewing { held, .. } | State::Rebinding { held, .. }, Kind::Ack) => match lease(&reply) {
                Some(lease) => self.bind(lease, &reply, Some(held.lease)),
                None => Vec::new(),
            },
            (State::Renewing { held, .. }, Kind::Nak) if reply.server == Some(held.lease.server) => {
                self.lose(held, now)
            }
            (State::Rebinding { held, .. }, Kind::Nak) => self.lose(held, now),
            // Late, repeated or unasked.
            _ => Vec::new(),
        }
    }

    fn discover(&mut self, attempt: u32, now: Instant) -> Vec<Output> {
        self.sent = now;
        let resend = now + self.backoff(attempt);
        self.state = State::Selecting { attempt, resend };
        vec![self.message(Kind::Discover, now, Destination::Broadcast, None, None, None)]
    }

    fn request(&mut self, offer: Lease, attempt: u32, now: Instant) -> Vec<Output> {
        self.sent = now;
        let resend = now + self.backoff(attempt);
        let (address, server) = (offer.address, offer.server);
        self.state = State::Requesting { offer, attempt, resend };
        vec![self.message(
            Kind::Request,
            now,
            Destination::Broadcast,
            None,
            Some(address),
            Some(server),
        )]
    }

    fn bind(&mut self, lease: Lease, reply: &Reply, before: Option<Lease>) -> Vec<Output> {
        // Times count from the request, not from the answer, so that the client never outlives the server's view.
        let whole = Duration::from_secs(u64::from(reply.lease.unwrap_or(86_400))).max(SHORTEST_LEASE);
        let within = |seconds: Option<u32>, usual: Duration| {
            seconds
                .map(|seconds| Duration::from_secs(u64::from(seconds)))
                .filter(|at| !at.is_zero() && *at < whole)
                .unwrap_or(usual)
        };
        let rebind = within(reply.rebind, whole * 7 / 8);
        let renew = within(reply.renew, whole / 2).min(rebind);
        let held = Held {
            lease: lease.clone(),
            renew: self.sent + renew.max(SHORTEST_LEASE / 2),
            rebind: self.sent + rebind.max(SHORTEST_LEASE / 2),
            expire: self.sent + whole,
        };
        self.state = State::Bound { held };
        match before {
            Some(before) if before == lease => Vec::new(),
            Some(before) => vec![Output::Deconfigure(before), Output::Configure(lease)],
            None => vec![Output::Configure(lease)],
        }
    }

    fn renew(&mut self, held: Held, now: Instant) -> Vec<Output> {
        self.sent = now;
        self.transaction = self.random_u32();
        let to = Destination::Server(held.lease.server);
        let client = held.lease.address;
        let resend = now + (held.rebind.saturating_sub(now) / 2).max(RENEW_RETRY);
        self.state = State::Renewing { held, resend };
        vec![self.message(Kind::Request, now, to, Some(client), None, None)]
    }

    fn rebind(&mut self, held: Held, now: Instant) -> Vec<Output> {
        self.sent = now;
        self.transaction = self.random_u32();
        let client = held.lease.address;
        let resend = now + (held.expire.saturating_sub(now) / 2).max(RENEW_RETRY);
        self.state = State::Rebinding { held, resend };
        vec![self.message(Kind::Request, now, Destination::Broadcast, Some(client), None, None)]
    }

    fn lose(&mut self, held: Held, now: Instant) -> Vec<Output> {
        let mut outputs = vec![Output::Deconfigure(held.lease)];
        outputs.extend(self.begin_again(now));
        outputs
    }

    /// After a refusal, with a pause, or a server that refuses at once would be asked without end.
    fn begin_again(&mut self, now: Instant) -> Vec<Output> {
        self.state = State::Init { at: now + FIRST_RETRY };
        Vec::new()
    }

    fn message(
        &self,
        kind: Kind,
        now: Instant,
        to: Destination,
        client: Option<Ipv4Addr>,
        requested: Option<Ipv4Addr>,
        server: Option<Ipv4Addr>,
    ) -> Output {
        let seconds = u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX);
        let query = Query {
            kind,
            transaction: self.transaction,
            mac: self.mac,
            seconds,
            client,
            requested,
            server,
        };
        Output::Send(to, query.encode())
    }

    /// Doubles from [`FIRST_RETRY`] to [`LONGEST_RETRY`], with up to a quarter more so that a rack does not ask in step.
    fn backoff(&mut self, attempt: u32) -> Duration {
        let pause = FIRST_RETRY
            .saturating_mul(1_u32.checked_shl(attempt.min(16)).unwrap_or(u32::MAX))
            .min(LONGEST_RETRY);
        pause + pause.mul_f64(f64::from(self.random_u32() % 1024) / 4096.0)
    }

    /// SplitMix64.
    fn random_u32(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (z ^ (z >> 31)).to_le_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

fn lease(reply: &Reply) -> Option<Lease> {
    let server = reply.server.filter(|_| reply.is_usable())?;
    Some(Lease {
        address: reply.address,
        prefix: reply.prefix,
        router: reply.router,
        dns: reply.dns.clone(),
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::packet::tests::reply, *};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 2, 2];

    fn options(lease: u32) -> Vec<Vec<u8>> {
        let seconds = lease.to_be_bytes();
        vec![
            vec![1, 4, 255, 255, 255, 0],
            vec![3, 4, 10, 0, 2, 2],
            vec![6, 4, 10, 0, 2, 3],
            vec![51, 4, seconds[0], seconds[1], seconds[2], seconds[3]],
            vec![54, 4, SERVER[0], SERVER[1], SERVER[2], SERVER[3]],
        ]
    }

    fn answer(kind: u8, query: &[u8], address: [u8; 4], lease: u32) -> Vec<u8> {
        let options = options(lease);
        reply(
            kind,
            query,
            address,
            &options.iter().map(Vec::as_slice).collect::<Vec<_>>(),
        )
    }

    fn sent(outputs: &[Output]) -> (Destination, Vec<u8>) {
        match outputs {
            [.., Output::Send(to, bytes)] => (*to, bytes.clone()),
            other => panic!("nothing sent: {other:?}"),
        }
    }

    fn bound(lease: u32) -> (Client, Instant) {
        let mut client = Client::new(MAC, 7, Duration::ZERO);
        let (_, discover) = sent(&client.tick(Duration::ZERO));
        let (_, request) = sent(&client.receive(&answer(2, &discover, [10, 0, 2, 15], lease), Duration::ZERO));
        let outputs = client.receive(&answer(5, &request, [10, 0, 2, 15], lease), Duration::from_secs(1));
        assert!(matches!(&outputs[..], [Output::Configure(_)]));
        (client, Duration::ZERO)
    }

    #[test]
    fn lease_is_taken_in_four_messages() {
        let (client, _) = bound(3600);
        let lease = client.lease().unwrap();
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.router, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert_eq!(client.deadline(), Duration::from_secs(1800));
    }

    #[test]
    fn silence_is_met_with_growing_bounded_pauses_for_ever() {
        let mut client = Client::new(MAC, 1, Duration::ZERO);
        let (mut now, mut pauses) = (Duration::ZERO, Vec::new());
        for _ in 0..12 {
            assert_eq!(sent(&client.tick(now)).0, Destination::Broadcast);
            pauses.push(client.deadline() - now);
            now = client.deadline();
        }
        assert!(
            pauses[0] >= FIRST_RETRY && pauses[0] <= FIRST_RETRY * 5 / 4,
            "{pauses:?}"
        );
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_RETRY * 5 / 4), "{pauses:?}");
        assert!(pauses[11] >= LONGEST_RETRY, "{pauses:?}");
    }

    #[test]
    fn lost_ack_makes_the_client_ask_again_and_then_start_over() {
        let mut client = Client::new(MAC, 1, Duration::ZERO);
        let (_, discover) = sent(&client.tick(Duration::ZERO));
        client.receive(&answer(2, &discover, [10, 0, 2, 15], 60), Duration::ZERO);
        for _ in 1..MAX_REQUESTS {
            let (_, again) = sent(&client.tick(client.deadline()));
            assert_eq!(again[242], 3, "a request");
        }
        let (_, anew) = sent(&client.tick(client.deadline()));
        assert_eq!(anew[242], 1, "a discover");
    }

    #[test]
    fn lease_is_prolonged_without_touching_the_interface() {
        let (mut client, _) = bound(3600);
        let at = client.deadline();
        assert!(!client.is_asking(), "nothing is heard between");
        let (to, request) = sent(&client.tick(at));
        assert!(client.is_asking());
        assert_eq!(to, Destination::Server(SERVER.into()));
        assert_eq!(request[12..16], [10, 0, 2, 15], "answers reach the leased address");
        assert_eq!(client.receive(&answer(5, &request, [10, 0, 2, 15], 3600), at), []);
        assert!(!client.is_asking());
        assert_eq!(client.deadline(), at + Duration::from_secs(1800));
    }

    #[test]
    fn server_that_is_gone_costs_the_lease_only_when_it_ends() {
        let (mut client, _) = bound(3600);
        let mut destinations = Vec::new();
        loop {
            let now = client.deadline();
            let outputs = client.tick(now);
            if let Some(Output::Deconfigure(_)) = outputs.first() {
                assert_eq!(now, Duration::from_secs(3600));
                assert_eq!(sent(&outputs).1[242], 1, "looks for servers at once");
                break;
            }
            destinations.push(sent(&outputs).0);
        }
        assert!(destinations.contains(&Destination::Server(SERVER.into())));
        assert_eq!(
            destinations.last(),
            Some(&Destination::Broadcast),
            "rebinding asks everyone"
        );
        assert!(destinations.len() < 20, "bounded: {}", destinations.len());
    }

    #[test]
    fn another_address_on_renewal_replaces_the_old_one() {
        let (mut client, _) = bound(3600);
        let (_, request) = sent(&client.tick(client.deadline()));
        let outputs = client.receive(&answer(5, &request, [10, 0, 2, 16], 3600), Duration::from_secs(1801));
        assert!(
            matches!(&outputs[..], [Output::Deconfigure(old), Output::Configure(new)]
            if old.address == Ipv4Addr::new(10, 0, 2, 15) && new.address == Ipv4Addr::new(10, 0, 2, 16))
        );
    }

    #[test]
    fn refusal_ends_the_lease_and_the_client_asks_anew_after_a_pause() {
        let (mut client, _) = bound(3600);
        let now = client.deadline();
        let (_, request) = sent(&client.tick(now));
        let outputs = client.receive(&answer(6, &request, [0; 4], 0), now);
        assert!(matches!(&outputs[..], [Output::Deconfigure(_)]));
        assert_eq!(client.deadline(), now + FIRST_RETRY);
    }

    #[test]
    fn answers_to_others_and_unusable_offers_change_nothing() {
        let mut client = Client::new(MAC, 1, Duration::ZERO);
        let (_, discover) = sent(&client.tick(Duration::ZERO));
        let mut other = answer(2, &discover, [10, 0, 2, 15], 60);
        other[5] ^= 1;
        assert_eq!(client.receive(&other, Duration::ZERO), []);
        other[5] ^= 1;
        other[28] ^= 1;
        assert_eq!(client.receive(&other, Duration::ZERO), []);
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [255, 255, 255, 255], [224, 0, 0, 1]] {
            assert_eq!(client.receive(&answer(2, &discover, address, 60), Duration::ZERO), []);
        }
        assert_eq!(
            client.receive(&answer(5, &discover, [10, 0, 2, 15], 60), Duration::ZERO),
            [],
            "unasked ack"
        );
        assert!(client.lease().is_none());
    }

    #[test]
    fn hostile_lease_times_do_not_make_the_client_spin() {
        let (client, _) = bound(0);
        assert!(client.deadline() >= SHORTEST_LEASE / 2);
        let (client, _) = bound(u32::MAX);
        assert!(client.deadline() >= Duration::from_secs(1 << 30));
    }

    #[test]
    fn random_loss_never_stalls_the_client() {
        for seed in 0..200_u64 {
            let mut client = Client::new(MAC, seed, Duration::ZERO);
            let mut dice = Client::new(MAC, !seed, Duration::ZERO);
            let mut now = Duration::ZERO;
            while client.lease().is_none() {
                assert!(
                    now < Duration::from_secs(3600),
                    "seed {seed} has no lease after an hour"
                );
                let mut pending = client.tick(now);
                while let Some(Output::Send(_, bytes)) = pending.pop() {
                    if dice.random_u32().is_multiple_of(2) {
                        let kind = if bytes[242] == 1 { 2 } else { 5 };
                        pending = client.receive(&answer(kind, &bytes, [10, 0, 2, 15], 600), now);
                    }
                }
                now = client.deadline();
            }
        }
    }
}
