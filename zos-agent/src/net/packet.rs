//! DHCPv4 messages as a client writes and reads them (RFC 2131, RFC 2132).

use std::net::Ipv4Addr;

/// Length of the fixed part in front of the options.
const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Relays may drop shorter messages (RFC 1542, 2.1).
const MIN_BYTES: usize = 300;
/// Most name servers that are kept.
pub const MAX_SERVERS: usize = 3;

/// Message types (RFC 2132, 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Looks for servers.
    Discover = 1,
    /// A server's proposal.
    Offer = 2,
    /// Accepts a proposal or prolongs a lease.
    Request = 3,
    /// A server's consent.
    Ack = 5,
    /// A server's refusal.
    Nak = 6,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Type.
    pub kind: Kind,
    /// Transaction.
    pub transaction: u32,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Seconds since the client began.
    pub seconds: u16,
    /// The client's address, when it has one and can answer at it; else replies are asked for by broadcast.
    pub client: Option<Ipv4Addr>,
    /// Option 50, the address that is asked for.
    pub requested: Option<Ipv4Addr>,
    /// Option 54, the server that is answered.
    pub server: Option<Ipv4Addr>,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Type.
    pub kind: Kind,
    /// Transaction.
    pub transaction: u32,
    /// Hardware address it is meant for.
    pub mac: [u8; 6],
    /// The client's address.
    pub address: Ipv4Addr,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Length of the network prefix, from option 1; 32 where it is absent.
    pub prefix: u8,
    /// The first router of option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 51, in seconds.
    pub lease: Option<u32>,
    /// Option 58, in seconds.
    pub renew: Option<u32>,
    /// Option 59, in seconds.
    pub rebind: Option<u32>,
}

impl Query {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        // Op 1: request; hardware type 1: Ethernet; its addresses have 6 bytes.
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        match self.client {
            Some(address) => bytes[12..16].copy_from_slice(&address.octets()),
            None => bytes[10] = 0x80,
        }
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend_from_slice(&COOKIE);
        let kind = match self.kind {
            Kind::Discover => 1,
            Kind::Offer => 2,
            Kind::Request => 3,
            Kind::Ack => 5,
            Kind::Nak => 6,
        };
        bytes.extend_from_slice(&[53, 1, kind]);
        // A client identifier keeps the lease with the interface: hardware type, address.
        bytes.extend_from_slice(&[61, 7, 1]);
        bytes.extend_from_slice(&self.mac);
        for (code, address) in [(50, self.requested), (54, self.server)] {
            if let Some(address) = address {
                bytes.extend_from_slice(&[code, 4]);
                bytes.extend_from_slice(&address.octets());
            }
        }
        // Wanted: mask, router, name servers, lease time, server, T1, T2. Longest message taken: 1,472 bytes.
        bytes.extend_from_slice(&[55, 7, 1, 3, 6, 51, 54, 58, 59, 57, 2, 0x05, 0xc0, 255]);
        bytes.resize(bytes.len().max(MIN_BYTES), 0);
        bytes
    }
}

impl Reply {
    /// Reads a server's message. `None` for whatever is not one; a stranger's packet is no event.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let options = Options {
            rest: bytes.get(FIXED + 4..)?,
        };
        if bytes[..3] != [2, 1, 6] || bytes[FIXED..FIXED + 4] != COOKIE {
            return None;
        }
        let mut reply = Self {
            kind: Kind::Nak,
            transaction: u32::from_be_bytes(array(bytes, 4)?),
            address: Ipv4Addr::from(array::<4>(bytes, 16)?),
            mac: array(bytes, 28)?,
            server: None,
            prefix: 32,
            router: None,
            dns: Vec::new(),
            lease: None,
            renew: None,
            rebind: None,
        };
        let mut kind = None;
        for (code, value) in options {
            let address = || array::<4>(value, 0).map(Ipv4Addr::from);
            let seconds = || array::<4>(value, 0).map(u32::from_be_bytes);
            match code {
                1 => reply.prefix = prefix(address()?)?,
                3 => reply.router = address().filter(|router| !router.is_unspecified()),
                6 => {
                    reply.dns = value
                        .chunks_exact(4)
                        .take(MAX_SERVERS)
                        .filter_map(|at| array::<4>(at, 0))
                        .map(Ipv4Addr::from)
                        .collect()
                }
                51 => reply.lease = seconds(),
                53 => kind = message_kind(*value.first()?),
                54 => reply.server = address(),
                58 => reply.renew = seconds(),
                59 => reply.rebind = seconds(),
                _ => {}
            }
        }
        reply.kind = kind?;
        Some(reply)
    }

    /// Whether the address may be put on an interface.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let ip = self.address;
        let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast();
        !special && self.prefix >= 1 && self.server.is_some()
    }
}

fn message_kind(code: u8) -> Option<Kind> {
    match code {
        2 => Some(Kind::Offer),
        5 => Some(Kind::Ack),
        6 => Some(Kind::Nak),
        _ => None,
    }
}

/// A mask with a hole in it is no mask.
fn prefix(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| u8::try_from(bits.leading_ones()).ok())?
}

/// Walks the options; ends at option 255, at the end of the bytes, or where an option claims more than there is.
struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.rest {
                [0, rest @ ..] => self.rest = rest,
                [255, ..] | [] | [_] => return None,
                [code, length, rest @ ..] => {
                    let length = usize::from(*length);
                    let value = rest.get(..length)?;
                    self.rest = &rest[length..];
                    return Some((*code, value));
                }
            }
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What a server would send, for the tests of the machine as well.
    pub(in crate::net) fn reply(kind: u8, query: &[u8], address: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[4..8].copy_from_slice(&query[4..8]);
        bytes[16..20].copy_from_slice(&address);
        bytes[28..34].copy_from_slice(&query[28..34]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&[53, 1, kind]);
        options.iter().for_each(|option| bytes.extend_from_slice(option));
        bytes.push(255);
        bytes
    }

    fn query() -> Query {
        Query {
            kind: Kind::Request,
            transaction: 0x0102_0304,
            mac: [2, 0, 0, 0, 0, 9],
            seconds: 3,
            client: None,
            requested: Some(Ipv4Addr::new(10, 0, 2, 15)),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
        }
    }

    #[test]
    fn request_has_the_form_of_the_standard() {
        let bytes = query().encode();
        assert_eq!(bytes.len(), MIN_BYTES);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 3, 0x80, 0]);
        assert_eq!(bytes[28..34], [2, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[236..243], [99, 130, 83, 99, 53, 1, 3]);
        assert_eq!(bytes[252..264], [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2]);
    }

    #[test]
    fn reply_is_read() {
        let bytes = reply(
            5,
            &query().encode(),
            [10, 0, 2, 15],
            &[
                &[0, 0],
                &[1, 4, 255, 255, 255, 0],
                &[3, 4, 10, 0, 2, 2],
                &[6, 8, 10, 0, 2, 3, 1, 1, 1, 1],
                &[54, 4, 10, 0, 2, 2],
                &[51, 4, 0, 1, 0x51, 0x80],
            ],
        );
        let reply = Reply::decode(&bytes).unwrap();
        assert_eq!(reply.kind, Kind::Ack);
        assert_eq!((reply.address, reply.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(reply.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(1, 1, 1, 1)]);
        assert_eq!(reply.lease, Some(86_400));
        assert!(reply.is_usable());
    }

    #[test]
    fn garbage_and_every_shortening_is_no_event() {
        let bytes = reply(5, &query().encode(), [10, 0, 2, 15], &[&[1, 4, 255, 255, 255, 0]]);
        for length in 0..bytes.len() {
            // A message cut in its options may be read in part; it must not panic.
            _ = Reply::decode(&bytes[..length]);
        }
        assert_eq!(Reply::decode(&bytes[..239]), None);
        assert_eq!(Reply::decode(&[0xff; 600]), None);
        let holes = reply(5, &query().encode(), [10, 0, 2, 15], &[&[1, 4, 255, 0, 255, 0]]);
        assert_eq!(Reply::decode(&holes), None);
        let own = reply(1, &query().encode(), [10, 0, 2, 15], &[]);
        assert_eq!(Reply::decode(&own), None);
    }
}
