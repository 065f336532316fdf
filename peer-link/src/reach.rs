//! Under which addresses this machine is seen by others, where the socket listens on all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::MAX_ADDRESSES;

/// Addresses for documentation (RFC 5737, RFC 3849): never anybody's, so the way to them is the default route.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// Any port: nothing is sent to it.
const PORT: u16 = 9;

/// The addresses at which a socket bound to `bound` is reached by `peers` and along the default route, at most
/// [`MAX_ADDRESSES`]. One that is bound to a single address is reached there; one that is bound to all of them at the address
/// with which this machine would send. That of the machine itself is given only where there is no other.
pub(crate) fn reached_at(bound: &[SocketAddr], peers: &[SocketAddr]) -> Vec<SocketAddr> {
    let anywhere = ANYWHERE.map(|ip| SocketAddr::new(ip, PORT));
    let mut found = Vec::new();
    for bound in bound {
        if !bound.ip().is_unspecified() {
            found.push(*bound);
            continue;
        }
        let ways = peers.iter().chain(&anywhere);
        let sources = ways.filter_map(|target| source_towards(bound.ip(), *target));
        found.extend(sources.map(|ip| SocketAddr::new(ip, bound.port())));
    }
    let is_own = |address: &SocketAddr| address.ip().is_loopback();
    if found.is_empty() {
        let loopback = |bound: &SocketAddr| match bound.ip() {
            IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port()),
            IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bound.port()),
        };
        found.extend(bound.iter().map(loopback));
    } else if !found.iter().all(is_own) {
        found.retain(|address| !is_own(address));
    }
    let mut distinct = Vec::new();
    for address in found {
        if !distinct.contains(&address) && distinct.len() < MAX_ADDRESSES {
            distinct.push(address);
        }
    }
    distinct
}

/// The address from which this machine would send to `target`; nothing where there is no way. Connecting a datagram socket
/// sends nothing: the kernel looks the route up.
fn source_towards(family: IpAddr, target: SocketAddr) -> Option<IpAddr> {
    if family.is_ipv4() != target.is_ipv4() {
        return None;
    }
    let socket = UdpSocket::bind(SocketAddr::new(family, 0)).ok()?;
    socket.connect(target).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_socket_on_all_addresses_is_reached_at_one_that_can_be_dialled() {
        let peers = [address("127.0.0.1:7771")];
        let found = reached_at(&[address("0.0.0.0:7100")], &peers);
        assert!(!found.is_empty());
        assert!(
            found.iter().all(|at| at.port() == 7100 && !at.ip().is_unspecified()),
            "{found:?}"
        );
        // Others cannot use the machine's own name for itself.
        let own = found.iter().filter(|at| at.ip().is_loopback()).count();
        assert!(own == 0 || own == found.len(), "{found:?}");
        // Even without any way to anywhere there is an address.
        assert!(!reached_at(&[address("[::]:7100")], &[]).is_empty());
    }

    #[test]
    fn a_socket_on_one_address_is_reached_there() {
        let bound = address("127.0.0.5:7100");
        assert_eq!(reached_at(&[bound], &[address("127.0.0.1:7771")]), [bound]);
    }
}
