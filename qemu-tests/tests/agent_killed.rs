//! The agent is killed: the micro-VM goes on answering without a gap, and the next agent adopts it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use image::Flavour;
use qemu_tests::grid::{Grid, JOURNAL, JOURNAL_PORT, LINK, Node, NodeOptions, Terms};
use qemu_tests::iso;
use qemu_tests::journal::Status;

/// The node's first guest, as the node itself reaches it.
const GUEST: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);
/// From the agent's end to the adoption by the next one.
const ADOPTED: Duration = Duration::from_secs(120);
/// Longest time without an answer on a computer that is busy.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);
/// Until the monitor of a cancelled contract has ended.
const GONE: Duration = Duration::from_secs(120);

/// `after` is the same process of the same boot as `before`, and not earlier: what counts in hundredths of a second may be
/// asked twice within one.
fn goes_on(before: &Status, after: &Status) {
    assert_eq!(
        (&before.boot, before.began_ms, before.found),
        (&after.boot, after.began_ms, after.found),
        "no restart"
    );
    assert!(
        after.uptime_ms >= before.uptime_ms && after.flushed >= before.flushed,
        "{before:?} and then {after:?}"
    );
}

/// Asks the guest from inside its node, where no agent is in between, until the next agent has adopted it.
fn ask_until_adopted(node: &mut Node, contract: &str, before: &Status) -> Result<Status> {
    let adopted = format!("adopted the running workload {contract}");
    let (began, mut answered) = (Instant::now(), Instant::now());
    let (mut last, mut answers) = (before.clone(), 0);
    while answers == 0 || node.machine.console.seen(&adopted).is_none() {
        let guest = SocketAddr::from((GUEST, JOURNAL_PORT));
        let status = Status::parse(&node.faults()?.page(guest, "/")?)?;
        goes_on(&last, &status);
        assert!(answered.elapsed() < LONGEST_SILENCE, "{:?}", answered.elapsed());
        (last, answered, answers) = (status, Instant::now(), answers + 1);
        ensure!(
            began.elapsed() < ADOPTED,
            "no agent adopts the workload\n{}",
            node.machine.console.tail()
        );
    }
    Ok(last)
}

/// The contract's monitor ends.
fn monitor_ends(node: &mut Node, contract: &str) -> Result<()> {
    let deadline = Instant::now() + GONE;
    while node.faults()?.monitor(contract).is_ok() {
        ensure!(Instant::now() < deadline, "the adopted monitor is not stopped");
        thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

#[test]
fn micro_vm_answers_without_a_gap_while_the_agent_is_killed_and_is_adopted() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = NodeOptions {
        faults: true,
        ..NodeOptions::new("node", iso(Flavour::Test)?)
    };
    let (grid, mut node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    let contract = grid.deploy_journal(Path::new(env!("CARGO_BIN_EXE_journal")))?;
    let before = grid.journal()?.status_after(10)?;
    let (agent, monitor) = (node.faults()?.agent()?, node.faults()?.monitor(&contract)?);
    // All that the machine hears from the network, while a workload runs.
    assert_eq!(node.faults()?.sockets()?, [format!("udp:{LINK}")]);

    assert_eq!(node.faults()?.kill_agent()?, agent);
    let during = ask_until_adopted(&mut node, &contract, &before)?;
    assert!(
        during.flushed > before.flushed,
        "it writes too: {before:?} and then {during:?}"
    );
    node.hear("init: agent ready")?;
    assert_ne!(node.faults()?.agent()?, agent);
    assert_eq!(node.faults()?.monitor(&contract)?, monitor);

    let after = grid.journal()?.status()?;
    goes_on(&during, &after);
    assert_eq!(grid.customer().deployment(JOURNAL)?["state"], "active");

    // An agent that does nothing any more is no better than none.
    let next = node.faults()?.agent()?;
    assert_eq!(node.faults()?.freeze_agent()?, next);
    node.hear("init: agent gives no sign of life")?;
    node.hear("init: agent ready")?;
    assert_ne!(node.faults()?.agent()?, next);
    goes_on(&after, &grid.journal()?.status()?);

    // What the next agent has adopted, it can also end.
    grid.customer().run(&["cancel", JOURNAL])?;
    node.say(&format!("contract {contract} is cancelled"))?;
    monitor_ends(&mut node, &contract)
}
