//! Addresses, routes and the state of network interfaces, over rtnetlink.

use std::{io, net::Ipv4Addr};

use nix::{net::if_::if_nametoindex, sys::socket::SockProtocol};

use crate::netlink::{ACK, CREATE, Message, REPLACE, REQUEST, Socket};

// Numbers of linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_UNICAST: u8 = 1;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what} on {interface}")]
pub struct LinkError {
    what: &'static str,
    interface: String,
    #[source]
    cause: io::Error,
}

/// Brings an interface up, with a largest packet size if one is given.
///
/// # Errors
/// [`LinkError`] when there is no such interface or the kernel refuses.
pub fn up(interface: &str, mtu: Option<u16>) -> Result<(), LinkError> {
    let index = index(interface)?;
    let mut header = vec![0; 4];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&IFF_UP.to_ne_bytes());
    header.extend_from_slice(&IFF_UP.to_ne_bytes());
    let mut message = Message::new(RTM_NEWLINK, REQUEST | ACK).with(&header);
    if let Some(mtu) = mtu {
        message = message.attribute(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    }
    ask("bring link up", interface, message)
}

/// Gives an interface an IPv4 address.
///
/// # Errors
/// [`LinkError`] when there is no such interface or the kernel refuses.
pub fn add_address(interface: &str, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
    let index = index(interface)?;
    let mut header = vec![AF_INET, prefix, 0, RT_SCOPE_UNIVERSE];
    header.extend_from_slice(&index.to_ne_bytes());
    let message = Message::new(RTM_NEWADDR, REQUEST | ACK | CREATE | REPLACE)
        .with(&header)
        .attribute(IFA_LOCAL, &address.octets())
        .attribute(IFA_ADDRESS, &address.octets());
    ask("add address", interface, message)
}

/// Sends what has no other route to `gateway`.
///
/// # Errors
/// [`LinkError`] when there is no such interface or the kernel refuses.
pub fn add_default_route(interface: &str, gateway: Ipv4Addr) -> Result<(), LinkError> {
    let index = index(interface)?;
    let header = [
        AF_INET,
        0,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let message = Message::new(RTM_NEWROUTE, REQUEST | ACK | CREATE | REPLACE)
        .with(&header)
        .attribute(RTA_GATEWAY, &gateway.octets())
        .attribute(RTA_OIF, &index.to_ne_bytes());
    ask("add default route", interface, message)
}

fn index(interface: &str) -> Result<u32, LinkError> {
    if_nametoindex(interface).map_err(|cause| LinkError {
        what: "look up interface",
        interface: interface.to_owned(),
        cause: cause.into(),
    })
}

fn ask(what: &'static str, interface: &str, message: Message) -> Result<(), LinkError> {
    Socket::open(SockProtocol::NetlinkRoute, 0)
        .and_then(|socket| socket.ask(message))
        .map(drop)
        .map_err(|cause| LinkError {
            what,
            interface: interface.to_owned(),
            cause,
        })
}
