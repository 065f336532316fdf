//! From a machine with an empty disk and the farm's image to the first answer of a workload that two bots agreed on: by
//! BIOS, and by UEFI.

use anyhow::Result;
use image::Flavour;
use qemu_tests::grid::{App, Grid, NodeOptions, Programs, Terms};
use qemu_tests::{Firmware, demo_image, iso};

/// What a customer sees of a deployment, in this order.
const STAGES: [&str; 7] = [
    "capacity found",
    "offer",
    "counter-offer",
    "agreement signed by both",
    "escrow funded",
    "image fetched and verified",
    "micro-VM up",
];

fn first_answer(firmware: Firmware) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let grid = Grid::start(&Programs::built()?, directory.path())?;
    grid.create_farm(&Terms::default())?;
    let mut node = grid.boot_node(&NodeOptions {
        firmware,
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    })?;
    node.wait_until_booted()?;
    let identity = node.wait_for_identity()?;
    node.wait_for_chain()?;
    node.wait_until_registered()?;
    let farms = grid.farmer().json(&["farm", "list"])?;
    assert_eq!(farms[0]["nodes"][0]["id"], identity, "the chain has the node: {farms}");

    grid.push_demo(&demo_image()?)?;
    let app = App::demo(720).write_in(grid.directory())?;
    let mut stages = Vec::new();
    let deployment = grid.customer().deploy(&app, |stage| stages.push(stage.name.clone()))?;
    assert_eq!(stages, STAGES);
    assert_eq!(deployment["node"], identity);
    let reserved = grid.farmer().json(&["farm", "list"])?[0]["nodes"][0]["reserved"].clone();
    assert_eq!(reserved["cru"], 1, "{reserved}");
    assert_eq!(reserved["mru"], 256 << 20, "{reserved}");

    let tunnel = grid.customer().tunnel("demo", 80)?;
    let answer = tunnel.first_answer("/")?;
    assert!(answer.text().contains("<title>It runs<"), "{}", answer.text());
    tunnel.put("/data/file", b"content")?;
    assert_eq!(tunnel.get("/data/file")?, b"content");
    let refused = node.machine.console.seen("init: load module ");
    assert_eq!(refused, None, "every module goes in, those for guests as well");
    Ok(())
}

#[test]
fn workload_answers_on_a_node_that_booted_by_bios() -> Result<()> {
    first_answer(Firmware::Bios)
}

#[test]
fn workload_answers_on_a_node_that_booted_by_uefi() -> Result<()> {
    first_answer(Firmware::Uefi)
}
