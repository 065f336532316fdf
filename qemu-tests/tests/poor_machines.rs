//! Machines that lack what a node needs: each says in one line what is missing and what to do, and those that can be
//! helped while they run go on when they are.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use image::Flavour;
use qemu_tests::grid::{Grid, NodeOptions, Terms};
use qemu_tests::{Cable, Config, Machine, OnReset, boot_directly, iso};
use serde_json::json;

/// Far more than a boot takes on a busy computer without virtualization.
const BOOT: Duration = Duration::from_secs(180);
/// From one line to the next.
const STEP: Duration = Duration::from_secs(90);
/// The slot into which a disk is plugged while the machine runs.
const SLOT: &str = "pcie-root-port,id=late-slot,chassis=1";

fn machine(directory: &Path) -> Result<Config> {
    Ok(Config {
        on_reset: OnReset::End,
        ..Config::new(boot_directly(&iso(Flavour::Release)?, &[], None, directory)?)
    })
}

#[test]
fn machine_with_512_mib_says_how_much_it_needs_and_switches_itself_off() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let config = machine(directory.path())?.memory_mib(512);
    let mut machine = Machine::start(&config, directory.path())?;
    let line = machine.console.wait_for("too little memory", BOOT)?;
    assert!(
        line.contains("a node needs a machine with 1024 MiB; add memory"),
        "{line}"
    );
    machine.wait_until_off(STEP)
}

#[test]
fn machine_with_the_least_memory_and_without_a_disk_waits_and_takes_the_one_that_is_plugged_in() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = machine(directory.path())?.memory_mib(1024);
    config.extra.extend(["-device".to_owned(), SLOT.to_owned()]);
    let mut machine = Machine::start(&config, directory.path())?;
    let line = machine.console.wait_for("agent: no data disk", BOOT)?;
    assert!(line.contains("attach an empty disk of 1 GiB or more"), "{line}");

    let disk = directory.path().join("disk.img");
    File::create(&disk)
        .and_then(|file| file.set_len(1 << 30))
        .context("make a disk")?;
    let file = json!({ "driver": "file", "filename": disk });
    machine.qmp.execute(
        "blockdev-add",
        &json!({ "driver": "raw", "node-name": "late", "file": file }),
    )?;
    let device = json!({ "driver": "virtio-blk-pci", "drive": "late", "serial": "late", "bus": "late-slot" });
    machine.qmp.execute("device_add", &device)?;
    machine.console.wait_for("agent: identity ", BOOT)?;
    machine.power_off(STEP)
}

#[test]
fn machine_without_a_cable_asks_on_and_has_an_address_when_it_is_plugged_in() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut machine = Machine::start(&machine(directory.path())?, directory.path())?;
    machine.cable(Cable::Out)?;
    let line = machine.console.wait_for("agent: no address on ", BOOT)?;
    assert!(line.contains(": no link; check the cable"), "{line}");
    machine.cable(Cable::In)?;
    machine.console.wait_for("agent: address 10.0.2.15", BOOT)?;
    Ok(())
}

#[test]
fn network_card_that_is_plugged_in_later_has_an_address_until_it_is_pulled_out() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let mut config = machine(directory.path())?;
    let network = "user,id=late,net=10.0.9.0/24";
    config
        .extra
        .extend(["-device", SLOT, "-netdev", network].map(str::to_owned));
    let mut machine = Machine::start(&config, directory.path())?;
    machine.console.wait_for("agent: address 10.0.2.15", BOOT)?;
    let card = json!({ "driver": "virtio-net-pci", "id": "card", "netdev": "late", "bus": "late-slot" });
    machine.qmp.execute("device_add", &card)?;
    let line = machine.console.wait_for("agent: address 10.0.9.15", STEP)?;
    let (_, name) = line.rsplit_once(" on ").context("the card's name")?;
    machine.qmp.execute("device_del", &json!({ "id": "card" }))?;
    let gone = format!("agent: network interface {} is gone", name.trim());
    machine.console.wait_for(&gone, STEP)?;
    Ok(())
}

#[test]
fn node_with_the_least_memory_whose_clock_says_1970_joins_its_farm() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = NodeOptions {
        memory_mib: 1024,
        extra: vec!["-rtc".to_owned(), "base=1970-01-01T00:00:00".to_owned()],
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    };
    let (grid, _node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    let farms = grid.farmer().json(&["farm", "list"])?;
    assert_eq!(farms[0]["nodes"].as_array().map(Vec::len), Some(1), "{farms}");
    Ok(())
}
