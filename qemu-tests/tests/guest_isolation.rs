//! A guest tries to reach its node, its neighbour and the farmer's network. Nobody there answers it, not even to refuse; the
//! internet does.
//!
//! The test runs in a network of its own in which one and the same beacon shines at addresses of farmers' networks and of the
//! internet, so only the node's rules tell them apart. What each attempt would find if it came through is tried from where
//! it is allowed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use image::Flavour;
use qemu_tests::grid::{App, Grid, NodeOptions, Terms, Tunnel};
use qemu_tests::network::{self, Beacon, GREETING};
use qemu_tests::{http, iso, workload};

/// Other machines in networks that a farmer may have, cloud metadata and carriers' networks among them.
const LAN: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 77, 0, 10),
    Ipv4Addr::new(172, 16, 77, 10),
    Ipv4Addr::new(192, 168, 77, 10),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(100, 127, 0, 10),
];
/// A machine on the internet.
const INTERNET: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
/// The name server that QEMU's own one asks.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 53);
/// The node, this computer and the name server in QEMU's network, which is the node's LAN.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const COMPUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// A second network of the farmer's, with public addresses, as QEMU's second one; node and computer in it.
const PUBLIC: &str = "user,id=public,net=131.11.22.0/24";
const PUBLIC_NODE: Ipv4Addr = Ipv4Addr::new(131, 11, 22, 15);
const PUBLIC_COMPUTER: Ipv4Addr = Ipv4Addr::new(131, 11, 22, 2);
/// The node's peer link.
const LINK: u16 = 7770;
/// Ports at which a node might listen.
const PORTS: [u16; 4] = [22, 80, 443, LINK];
const WAIT: Duration = Duration::from_secs(60);

/// A guest that tries what it is told.
struct Guest {
    tunnel: Tunnel,
    address: Ipv4Addr,
}

impl Guest {
    fn deploy(grid: &Grid, name: &str) -> Result<Self> {
        let app = App {
            name: name.to_owned(),
            image: "probe".to_owned(),
            volume: None,
            ..App::demo(720)
        };
        grid.customer().deploy(&app.write_in(grid.directory())?, |_| {})?;
        let tunnel = grid.customer().tunnel(name, 80)?;
        tunnel.first_answer("/")?;
        let own = format!("own {INTERNET}:9");
        let outcome = &attempt(&tunnel, std::slice::from_ref(&own))?[&own];
        let address = outcome
            .strip_prefix("answered ")
            .context("the guest has an address")?
            .parse()?;
        Ok(Self { tunnel, address })
    }

    fn attempt(&self, attempts: &[String]) -> Result<BTreeMap<String, String>> {
        attempt(&self.tunnel, attempts)
    }

    /// The node's end of the guest's cable.
    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() - 1)
    }
}

/// Makes a guest try all of these at once; returns how each went.
fn attempt(tunnel: &Tunnel, attempts: &[String]) -> Result<BTreeMap<String, String>> {
    let answer = http::put(tunnel.address(), "/", attempts.join("\n").as_bytes())?;
    let text = answer.text();
    let outcomes: Vec<&str> = text.lines().collect();
    ensure!(answer.status == 200 && outcomes.len() == attempts.len(), "{text}");
    Ok(attempts
        .iter()
        .cloned()
        .zip(outcomes.into_iter().map(str::to_owned))
        .collect())
}

/// Those that did not go as all of them should have.
fn other_than(outcomes: BTreeMap<String, String>, expected: &str) -> BTreeMap<String, String> {
    outcomes
        .into_iter()
        .filter(|(_, outcome)| outcome != expected)
        .collect()
}

fn to(what: &str, address: impl Display) -> String {
    format!("{what} {address}")
}

/// All that leads to a machine with the beacon.
fn to_beacon(beacon: &Beacon, host: Ipv4Addr) -> [String; 2] {
    let address = beacon.at(host);
    [to("tcp", address), format!("udp {address} {host}")]
}

/// All that leads to the node at one of its addresses.
fn to_node(host: Ipv4Addr) -> Vec<String> {
    let ports = PORTS.iter().map(|port| format!("tcp {host}:{port}"));
    ports.chain([format!("quic {host}:{LINK}"), to("ping", host)]).collect()
}

/// The internet and the name server answer, which shows that the guest can tell an answer from silence.
fn internet_works(guest: &Guest, beacon: &Beacon) -> Result<()> {
    let [tcp, udp] = to_beacon(beacon, INTERNET);
    let names = format!("udp {}:53 question", guest.gateway());
    let echo = to("ping", guest.address);
    let outcomes = guest.attempt(&[tcp.clone(), udp.clone(), names.clone(), echo.clone()])?;
    let expected = BTreeMap::from([
        (tcp, format!("answered {GREETING}")),
        (udp, format!("answered {INTERNET}")),
        (names, "answered question".to_owned()),
        (echo, "answered echo".to_owned()),
    ]);
    assert_eq!(outcomes, expected);
    Ok(())
}

/// Packets under another's address go nowhere: one under the guest's own, sent the same way and later, arrives.
fn forged_packets_are_lost(guest: &Guest, neighbour: &Guest, beacon: &Beacon) -> Result<()> {
    let address = beacon.at(INTERNET);
    let forge = |from: Ipv4Addr| format!("forge {from} {address} from-{from}");
    let others = [neighbour.address, NODE, COMPUTER, guest.gateway()];
    for from in others.into_iter().chain([guest.address]) {
        let outcomes = guest.attempt(&[forge(from)])?;
        assert_eq!(other_than(outcomes, "sent"), BTreeMap::new());
    }
    beacon.wait_for(&format!("from-{}", guest.address), WAIT)?;
    let heard = beacon.heard();
    assert!(
        !others.iter().any(|from| heard.contains(&format!("from-{from}"))),
        "{heard:?}"
    );
    Ok(())
}

#[test]
fn guest_reaches_the_internet_and_neither_node_nor_neighbour_nor_lan() -> Result<()> {
    let addresses: Vec<Ipv4Addr> = LAN.into_iter().chain([INTERNET, RESOLVER]).collect();
    let name = "guest_reaches_the_internet_and_neither_node_nor_neighbour_nor_lan";
    if !network::is_own(name, &addresses)? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let (beacon, _names) = (Beacon::light(0)?, Beacon::light(53)?);
    let second = ["-netdev", PUBLIC, "-device", "virtio-net-pci,netdev=public"];
    let options = NodeOptions {
        extra: second.map(str::to_owned).to_vec(),
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    };
    let (grid, node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    let layout = directory.path().join("probe");
    workload::write_layout(Path::new(env!("CARGO_BIN_EXE_guest-probe")), &[], &[80], &layout)?;
    grid.push(&layout, "probe")?;
    let guest = Guest::deploy(&grid, "probe")?;
    let neighbour = Guest::deploy(&grid, "neighbour")?;

    // What is looked for is there: the link answers who may ask, the beacon shines everywhere, the neighbour answers.
    assert!(network::answers(SocketAddr::from(node.link()), &first_of_quic(), WAIT)?);
    for host in LAN {
        let greeting = format!("{GREETING}-{host}");
        assert!(network::answers(beacon.at(host).into(), greeting.as_bytes(), WAIT)?);
    }
    internet_works(&neighbour, &beacon)?;
    internet_works(&guest, &beacon)?;

    let mut attempts: Vec<String> = [guest.gateway(), neighbour.gateway(), NODE, PUBLIC_NODE]
        .into_iter()
        .flat_map(to_node)
        .collect();
    attempts.extend(
        LAN.into_iter()
            .chain([COMPUTER, PUBLIC_COMPUTER])
            .flat_map(|host| to_beacon(&beacon, host)),
    );
    // Names are asked for at the own gateway alone.
    for host in [NAME_SERVER, NODE, neighbour.gateway()] {
        attempts.extend([format!("udp {host}:53 question"), format!("tcp {host}:53")]);
    }
    attempts.extend([format!("tcp {}:80", neighbour.address), to("ping", neighbour.address)]);
    assert_eq!(other_than(guest.attempt(&attempts)?, "silent"), BTreeMap::new());
    forged_packets_are_lost(&guest, &neighbour, &beacon)?;

    internet_works(&guest, &beacon)?;
    internet_works(&neighbour, &beacon)
}

/// A packet that whoever speaks QUIC answers; see the probe's own.
fn first_of_quic() -> Vec<u8> {
    let mut packet = vec![
        0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1,
    ];
    packet.resize(1200, 0);
    packet
}
