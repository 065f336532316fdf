//! The monitor is killed: the workload is back by itself, its volume intact. The workload ends: it is back in the same micro-VM,
//! and alone there.

use std::path::Path;

use anyhow::Result;
use image::Flavour;
use qemu_tests::grid::{Grid, NodeOptions, Terms};
use qemu_tests::iso;

#[test]
fn workload_of_a_killed_monitor_is_back_by_itself_with_its_volume() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = NodeOptions {
        faults: true,
        ..NodeOptions::new("node", iso(Flavour::Test)?)
    };
    let (grid, mut node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    let contract = grid.deploy_journal(Path::new(env!("CARGO_BIN_EXE_journal")))?;
    let starting = format!("starting the workload {contract}");
    node.say(&starting)?;
    let before = grid.journal()?.status_after(50)?;
    assert_eq!(before.found, 0, "its volume was empty");
    let agent = node.faults()?.agent()?;

    let killed = node.faults()?.kill_monitor(&contract)?;
    node.say(&starting)?;
    let tunnel = grid.journal()?;
    let after = tunnel.status()?;
    assert_ne!(after.boot, before.boot, "it is another micro-VM");
    assert!(after.found >= before.flushed, "{before:?} and then {after:?}");
    assert!(tunnel.whole_records()? >= after.found, "all records are whole");
    tunnel.status_after(after.found + 10)?;
    assert_ne!(node.faults()?.monitor(&contract)?, killed);
    assert_eq!(node.faults()?.agent()?, agent, "the agent was not concerned");
    grid.keeps_journal(&contract)?;

    // It would not begin beside the process that it leaves behind.
    tunnel.get("/end")?;
    let again = tunnel.status()?;
    assert_eq!(again.boot, after.boot, "the same micro-VM");
    assert!(again.began_ms > after.began_ms, "{after:?} and then {again:?}");
    Ok(())
}
