//! A data disk of another node, plugged into a running machine and there when it boots again: both times it is refused by name,
//! and the machine stays the node that it was.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use image::Flavour;
use qemu_tests::{Bus, Config, Disk, Machine, boot_directly, iso};
use serde_json::json;

/// Far more than a boot takes on a busy computer without virtualization, and the wait before an identity is made.
const BOOT: Duration = Duration::from_secs(180);
/// From one line to the next.
const STEP: Duration = Duration::from_secs(90);
/// The slot into which a disk is plugged while the machine runs.
const SLOT: &str = "pcie-root-port,id=late-slot,chassis=1";
const REFUSAL: &str = "is a data disk of another node";

/// A machine that its firmware tells from others, with its disks.
fn machine(directory: &Path, uuid: &str, disks: &[Disk]) -> Result<Config> {
    let mut config = Config::new(boot_directly(&iso(Flavour::Release)?, &[], None, directory)?);
    config.disks = disks.to_vec();
    config.extra.extend(["-uuid", uuid, "-device", SLOT].map(str::to_owned));
    Ok(config)
}

/// The identity that a machine comes to have, or has.
fn identity(machine: &mut Machine) -> Result<String> {
    let line = machine.console.wait_for("agent: identity ", BOOT)?;
    let (_, identity) = line.split_once("agent: identity ").context("an identity")?;
    Ok(identity.trim().to_owned())
}

fn empty(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    File::create(&path).and_then(|file| file.set_len(1 << 30))?;
    Ok(path)
}

#[test]
fn data_disk_of_another_node_is_refused_while_the_machine_runs_and_when_it_boots() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let nvme = |path: &Path, serial: &str| Disk {
        bus: Bus::Nvme,
        ..Disk::file(path, serial)
    };
    let (own, other) = (empty(directory, "own")?, empty(directory, "other")?);
    let [one, two] = ["1", "2"].map(|digit| format!("{0}-0000-4000-8000-{1}", digit.repeat(8), digit.repeat(12)));

    let config = machine(directory, &two, &[nvme(&other, "other-1")])?;
    let mut stranger = Machine::start(&config, directory)?;
    let strangers = identity(&mut stranger)?;
    stranger.power_off(STEP)?;

    let config = machine(directory, &one, &[nvme(&own, "own-1")])?;
    let mut node = Machine::start(&config, directory)?;
    let nodes = identity(&mut node)?;
    assert_ne!(nodes, strangers);
    let file = json!({ "driver": "file", "filename": other });
    node.qmp.execute(
        "blockdev-add",
        &json!({ "driver": "raw", "node-name": "late", "file": file }),
    )?;
    let device = json!({ "driver": "virtio-blk-pci", "drive": "late", "serial": "other-1", "bus": "late-slot" });
    node.qmp.execute("device_add", &device)?;
    let line = node.console.wait_for(REFUSAL, STEP)?;
    assert!(
        line.contains("serial other-1") && line.contains(&strangers[..8]),
        "{line}"
    );
    node.power_off(STEP)?;

    // The other one comes first this time, and its index is as low.
    let config = machine(directory, &one, &[nvme(&other, "other-1"), nvme(&own, "own-1")])?;
    let mut node = Machine::start(&config, directory)?;
    let line = node.console.wait_for_any(&[REFUSAL, "agent: identity "], BOOT)?;
    if line.contains(REFUSAL) {
        assert_eq!(identity(&mut node)?, nodes);
    } else {
        assert!(line.contains(&nodes), "{line}");
        node.console.wait_for(REFUSAL, STEP)?;
    }
    node.power_off(STEP)?;

    let config = machine(directory, &two, &[nvme(&other, "other-1")])?;
    let mut stranger = Machine::start(&config, directory)?;
    assert_eq!(identity(&mut stranger)?, strangers, "its own disk lost nothing");
    stranger.power_off(STEP)
}
