//! The node's own network: every physical interface up, an address by DHCP on each, IPv6 by the kernel's own SLAAC.
//!
//! [`dhcp`] decides; [`links`] tells the kernel; [`uplink`] runs one interface; [`roster`] has one for each interface.

pub mod dhcp;
pub mod links;
pub mod packet;
pub mod roster;
pub mod uplink;

use std::{collections::BTreeMap, net::Ipv4Addr};

use dhcp::Lease;

/// What the uplinks have, by interface name.
pub type Leases = BTreeMap<String, Lease>;

/// Name servers of all leases, each once, in the order of the interfaces.
#[must_use]
pub fn name_servers(leases: &Leases) -> Vec<Ipv4Addr> {
    let mut servers = Vec::new();
    for server in leases.values().flat_map(|lease| &lease.dns) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers
}
