//! The whole firewall of a node as one text for `nft -f`, replaced atomically.
//!
//! What it lets through, and nothing else: answers to the node's own connections, DHCP and the peer link from the uplinks; from
//! a guest, its own address only, to the internet and to its name server; to a guest, answers to its own packets only and what
//! the node itself opens.
//!
//! The kernel's table of flows is shared by all. A guest has at most [`FLOWS_OF_A_GUEST`] of them, and each bears the mark of
//! its tenant, so that the next tenant of the slot hears nothing of them. The node's own link needs none, and guests' flows
//! never appear under its port.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::Ipv4Addr,
    ops::RangeInclusive,
};

use super::{FlowMark, RANGE, RANGE_PREFIX, Slot, TAP_PREFIX};

/// Name of the table that [`ruleset`] makes.
pub const TABLE: &str = "inet zos";
/// Most flows of one guest at a time.
pub const FLOWS_OF_A_GUEST: u32 = 4096;
/// The table that bounds a guest's flows by their mark, which [`TABLE`] has set before. It is loaded once, for the kernel counts
/// anew with each load. A packet of a flow that exists is not counted: the kernel would walk the list for each of them.
pub const FLOW_LIMIT: &str = "\
table inet zos_flows
delete table inet zos_flows
table inet zos_flows {
	set flows {
		type mark
		size 65535
		flags dynamic
	}
	chain count {
		type filter hook forward priority filter + 10; policy accept;
		iifname \"zt*\" ct status ! confirmed add @flows { ct mark ct count over 4096 } drop
	}
}
";
/// Ports under which guests' flows appear to the internet; [`LOW_PORTS`] if the node's own port is among them.
const PORTS: RangeInclusive<u16> = 16384..=65535;
const LOW_PORTS: RangeInclusive<u16> = 1024..=16383;

/// Destinations that no guest reaches: this network, private, shared (guests' own range among it), loopback, link-local (cloud
/// metadata among it), protocol assignments, documentation, benchmarking, multicast, reserved and broadcast (RFC 6890).
const NOT_INTERNET: [&str; 14] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// An uplink with the subnet that it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uplink {
    /// Kernel name of the interface.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of its network's prefix.
    pub prefix: u8,
}

/// What the rule set depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// Guests with a network, and the marks of their flows.
    pub guests: BTreeMap<Slot, FlowMark>,
    /// Physical interfaces, also those without an address.
    pub interfaces: BTreeSet<String>,
    /// Uplinks with an address.
    pub uplinks: BTreeSet<Uplink>,
    /// Name server that guests' questions go to.
    pub dns: Option<Ipv4Addr>,
    /// UDP port of the peer link.
    pub port: u16,
}

/// Makes the text. Same input, same text.
#[must_use]
pub fn ruleset(input: &Input) -> String {
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    spoofing(&mut text, input);
    own_link(&mut text, input);
    incoming(&mut text, input);
    forwarding(&mut text, input);
    translation(&mut text, input);
    text.push_str("}\n");
    text
}

/// A guest's packets carry its own address, before anything else looks at them. IPv6 of guests ends here.
fn spoofing(text: &mut String, input: &Input) {
    text.push_str("\tchain own_address {\n\t\ttype filter hook prerouting priority raw; policy accept;\n");
    for guest in input.guests.keys() {
        line(
            text,
            &format!("iifname \"{}\" ip saddr {} accept", guest.tap(), guest.guest()),
        );
    }
    line(text, &format!("iifname \"{TAP_PREFIX}*\" drop"));
    text.push_str("\t}\n");
}

/// The node's link is no flow of the table, so that nobody can crowd it out of there.
fn own_link(text: &mut String, input: &Input) {
    let Some(interfaces) = names(&input.interfaces) else {
        return;
    };
    let port = input.port;
    text.push_str("\tchain own_link_in {\n\t\ttype filter hook prerouting priority raw; policy accept;\n");
    line(text, &format!("iifname {interfaces} udp dport {port} notrack"));
    text.push_str("\t}\n\tchain own_link_out {\n\t\ttype filter hook output priority raw; policy accept;\n");
    line(text, &format!("oifname {interfaces} udp sport {port} notrack"));
    text.push_str("\t}\n");
}

fn incoming(text: &mut String, input: &Input) {
    text.push_str("\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n");
    line(text, "iifname \"lo\" accept");
    line(text, "ct state invalid drop");
    line(text, "ct state established,related accept");
    line(text, &format!("iifname \"{TAP_PREFIX}*\" drop"));
    if let Some(interfaces) = names(&input.interfaces) {
        line(text, &format!("iifname {interfaces} udp sport 67 udp dport 68 accept"));
        line(text, &format!("iifname {interfaces} udp dport {} accept", input.port));
        line(
            text,
            &format!(
                "iifname {interfaces} icmpv6 type {{ nd-neighbor-advert, nd-neighbor-solicit, nd-router-advert }} accept"
            ),
        );
    }
    text.push_str("\t}\n");
}

fn forwarding(text: &mut String, input: &Input) {
    text.push_str("\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n");
    line(text, "ct state invalid drop");
    for (guest, mark) in &input.guests {
        line(text, &format!("iifname \"{}\" ct mark set {mark}", guest.tap()));
    }
    line(text, &format!("iifname \"{TAP_PREFIX}*\" jump from_guest"));
    for (guest, mark) in &input.guests {
        let tap = guest.tap();
        line(
            text,
            &format!("oifname \"{tap}\" ct mark {mark} ct state established,related accept"),
        );
    }
    text.push_str("\t}\n");

    text.push_str("\tchain from_guest {\n");
    line(text, &format!("oifname \"{TAP_PREFIX}*\" drop"));
    if let Some(dns) = input.dns {
        line(
            text,
            &format!("ct status dnat ip daddr {dns} meta l4proto {{ tcp, udp }} th dport 53 accept"),
        );
    }
    let mut refused: Vec<String> = NOT_INTERNET.iter().map(ToString::to_string).collect();
    // A farmer's network may have public addresses; it is the farmer's all the same.
    refused.extend(
        input
            .uplinks
            .iter()
            .map(subnet)
            .filter(|subnet| !subnet.ends_with("/0")),
    );
    for network in refused {
        line(text, &format!("ip daddr {network} drop"));
    }
    if let Some(interfaces) = names(&input.interfaces) {
        line(text, &format!("oifname {interfaces} accept"));
    }
    line(text, "drop");
    text.push_str("\t}\n");
}

fn translation(text: &mut String, input: &Input) {
    text.push_str("\tchain name_server {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
    if let Some(dns) = input.dns {
        for guest in input.guests.keys() {
            line(
                text,
                &format!(
                    "iifname \"{}\" ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {dns}",
                    guest.tap(),
                    guest.gateway()
                ),
            );
        }
    }
    text.push_str("\t}\n");
    text.push_str("\tchain to_internet {\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
    if let Some(interfaces) = names(&input.interfaces) {
        let ports = if PORTS.contains(&input.port) { LOW_PORTS } else { PORTS };
        let guests = format!("oifname {interfaces} ip saddr {RANGE}/{RANGE_PREFIX}");
        line(
            text,
            &format!(
                "{guests} meta l4proto {{ tcp, udp }} masquerade to :{}-{}",
                ports.start(),
                ports.end()
            ),
        );
        line(text, &format!("{guests} masquerade"));
    }
    text.push_str("\t}\n");
}

fn line(text: &mut String, rule: &str) {
    writeln!(text, "\t\t{rule}").expect("writing to a string does not fail");
}

/// An empty set is no valid text, so there is none.
fn names(interfaces: &BTreeSet<String>) -> Option<String> {
    let quoted: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    (!quoted.is_empty()).then(|| format!("{{ {} }}", quoted.join(", ")))
}

fn subnet(uplink: &Uplink) -> String {
    let prefix = uplink.prefix.min(32);
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    format!("{}/{prefix}", Ipv4Addr::from_bits(uplink.address.to_bits() & mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_guests() -> Input {
        Input {
            guests: [(0, 0x0a), (3, 0xb000_0001)]
                .into_iter()
                .filter_map(|(slot, mark)| Some((Slot::new(slot)?, FlowMark(mark))))
                .collect(),
            interfaces: ["eth0".to_owned()].into(),
            uplinks: [Uplink {
                interface: "eth0".to_owned(),
                address: Ipv4Addr::new(192, 168, 7, 20),
                prefix: 24,
            }]
            .into(),
            dns: Some(Ipv4Addr::new(192, 168, 7, 1)),
            port: 7770,
        }
    }

    #[test]
    fn rule_set_of_two_guests_is_this() {
        let expected = include_str!("golden/two_guests.nft");
        assert_eq!(ruleset(&two_guests()), expected);
    }

    #[test]
    fn rule_set_without_network_and_guests_lets_nothing_in() {
        let expected = include_str!("golden/nothing.nft");
        assert_eq!(
            ruleset(&Input {
                port: 7770,
                ..Input::default()
            }),
            expected
        );
    }

    #[test]
    fn name_server_in_the_farmers_network_is_allowed_only_before_that_network_is_refused() {
        let text = ruleset(&two_guests());
        let allowed = text.find("ct status dnat ip daddr 192.168.7.1").unwrap();
        let refused = text.find("ip daddr 192.168.7.0/24 drop").unwrap();
        assert!(allowed < refused);
    }

    #[test]
    fn guests_never_appear_under_the_nodes_own_port() {
        for (port, others) in [(7770, ":16384-65535"), (16_384, ":1024-16383"), (65_535, ":1024-16383")] {
            let text = ruleset(&Input { port, ..two_guests() });
            let masquerade = text.lines().find(|line| line.contains("udp } masquerade to")).unwrap();
            assert!(masquerade.ends_with(others), "{port}: {masquerade}");
        }
    }

    #[test]
    fn limit_of_flows_is_what_it_says() {
        assert!(FLOW_LIMIT.contains(&format!("ct count over {FLOWS_OF_A_GUEST} ")));
    }

    #[test]
    fn subnets_are_masked() {
        let uplink = |prefix| Uplink {
            interface: "e".to_owned(),
            address: Ipv4Addr::new(203, 0, 113, 77),
            prefix,
        };
        assert_eq!(subnet(&uplink(28)), "203.0.113.64/28");
        assert_eq!(subnet(&uplink(32)), "203.0.113.77/32");
        assert_eq!(subnet(&uplink(0)), "0.0.0.0/0");
    }
}
