//! A peer that the node asks first lies, sends garbage or says nothing, and another one is not there: each is named on the
//! console with the check that failed, once. Nothing is stopped or deleted, and the node goes on with the honest peer.

mod liar;

use std::time::Duration;

use anyhow::{Context, Result};
use image::Flavour;
use peer_link::LinkKey;
use qemu_tests::grid::{App, Grid, HOST, Node, NodeOptions, Programs, Terms, Tunnel};
use qemu_tests::{demo_image, free_udp_port, iso};

use liar::{Liar, Lie};

/// What the node says of the liar for each lie, in the order in which they are told.
const LIES: [(Lie, &str); 7] = [
    (Lie::Cancelled, "refused: altered record: contract "),
    (Lie::NoContracts, "refused: truncated contract set of node "),
    (Lie::Past, "refused: stale head: height "),
    (Lie::ForgedCertificate, "refused: forged certificate: "),
    (Lie::ValidatorSet, "refused: wrong validator set: "),
    (Lie::Garbage, "refused: broken protocol: "),
    (Lie::Silence, "silent: no answer within 10s"),
];
/// Until a peer that is asked all the time is found out, on a busy computer.
const FOUND_OUT: Duration = Duration::from_secs(120);
/// What is in the workload's volume.
const DATA: &[u8] = b"what must not be lost";

/// How the console names a peer.
fn name(peer: &str) -> String {
    format!("agent: peer {} ", &peer[..8])
}

/// The node found out about a lie, the workload and its data are there, and the node goes on reporting.
fn outlives(lie: Lie, line: &str, node: &mut Node, tunnel: &Tunnel, contract: &str) -> Result<()> {
    node.machine
        .console
        .wait_for(line, FOUND_OUT)
        .with_context(|| format!("{lie:?}"))?;
    node.say(&format!("contract {contract} reported"))
        .with_context(|| format!("{lie:?}: the node goes on"))?;
    assert_eq!(tunnel.get("/data/file")?, DATA, "{lie:?}");
    Ok(())
}

#[test]
fn a_lying_peer_is_refused_by_name_of_the_check_and_nothing_is_lost() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let grid = Grid::start(&Programs::built()?, directory.path())?;
    grid.create_farm(&Terms::default())?;
    let liar = Liar::start(grid.peer(), Lie::Genesis)?;
    let of_liar = name(&liar.address().to_string());
    let port = liar.address().addresses()[0].port();
    let (liar_id, gone_id) = (liar.address().id(), LinkKey::from_seed(&[7; 32]).id().to_string());
    let gone = format!("{gone_id}@{HOST}:{}", free_udp_port()?);
    let mut node = grid.boot_node(&NodeOptions {
        arguments: vec![format!("zos.peer={liar_id}@{HOST}:{port}"), format!("zos.peer={gone}")],
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    })?;
    let mut beginning = node.machine.console.clone();
    node.wait_until_booted()?;
    node.machine
        .console
        .wait_for(&format!("{of_liar}refused: wrong genesis: "), FOUND_OUT)?;
    node.wait_until_registered()?;
    beginning.wait_for(&format!("{}not reached: ", name(&gone_id)), FOUND_OUT)?;

    liar.tell(Lie::Nothing);
    grid.push_demo(&demo_image()?)?;
    let app = App::demo(720).write_in(grid.directory())?;
    let deployment = grid.customer().deploy(&app, |_| {})?;
    let contract = deployment["contract"].as_str().context("there is a contract")?[..8].to_owned();
    let tunnel = grid.customer().tunnel("demo", 80)?;
    tunnel.first_answer("/")?;
    tunnel.put("/data/file", DATA)?;

    for (lie, said) in LIES {
        liar.tell(lie);
        outlives(lie, &format!("{of_liar}{said}"), &mut node, &tunnel, &contract)?;
    }
    // Once each for an agent, though the peer went on with every lie for seconds, and not a word of what it wanted to be
    // believed. On a computer that is too busy init starts the agent anew, and what has been said is forgotten.
    let agents = node.machine.console.count("init: agent started");
    for (lie, said) in LIES {
        assert!(
            node.machine.console.count(&format!("{of_liar}{said}")) <= agents,
            "{lie:?}"
        );
    }
    let honest = format!("{}refused", name(grid.peer()));
    for text in [&*honest, &format!("contract {contract} is "), "deleting the data"] {
        assert_eq!(node.machine.console.seen(text), None);
    }
    assert_eq!(
        node.machine.console.count("starting the workload "),
        1,
        "the same micro-VM, with {agents} agents so far; the console since it was started:\n{}",
        node.machine.console.since("starting the workload ")
    );

    // With the liar silent, what is true is still learned.
    grid.customer().run(&["cancel", "demo"])?;
    node.say(&format!("contract {contract} is cancelled"))?;
    node.say("workloads 0")?;
    Ok(())
}
