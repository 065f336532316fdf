//! A node finds a disk with somebody's files, one with bytes that nobody knows in the midst of nothing, and an empty one: the
//! first two stay as they are to the last byte, and their refusal stands on the console and on the chain; the third is used.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use image::Flavour;
use qemu_tests::grid::{Grid, NodeOptions, Terms};
use qemu_tests::{Bus, Disk, iso};
use serde_json::Value;

const WAIT: Duration = Duration::from_secs(180);
/// Between two looks at the chain.
const PAUSE: Duration = Duration::from_millis(500);
const BYTES: u64 = 1536 << 20;

/// Makes a disk with an ext4 file system and a file in it.
fn make_foreign(disk: &Path, directory: &Path) -> Result<()> {
    let files = directory.join("files");
    fs::create_dir(&files)?;
    fs::write(files.join("letter"), "somebody's only copy\n".repeat(10_000))?;
    File::create(disk)?.set_len(BYTES)?;
    let mut command = Command::new("/sbin/mke2fs");
    let output = command
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(&files)
        .arg(disk)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Makes a disk that only a full read tells from an empty one.
fn make_unknown(disk: &Path) -> Result<()> {
    let file = File::create(disk)?;
    file.set_len(BYTES)?;
    file.write_all_at(b"?", BYTES / 2)?;
    Ok(())
}

/// Waits until the chain has the refusal of as many disks.
fn refused_on_chain(grid: &Grid, disks: usize) -> Result<Value> {
    let deadline = Instant::now() + WAIT;
    loop {
        let farms = grid.farmer().json(&["farm", "list"])?;
        let node = &farms[0]["nodes"][0];
        if node["refused_disks"]
            .as_array()
            .is_some_and(|refused| refused.len() == disks)
        {
            return Ok(node.clone());
        }
        ensure!(
            Instant::now() < deadline,
            "not {disks} disks refused on the chain: {node}"
        );
        thread::sleep(PAUSE);
    }
}

fn hash(disk: &Path) -> Result<blake3::Hash> {
    Ok(blake3::Hasher::new().update_reader(File::open(disk)?)?.finalize())
}

#[test]
fn disks_with_somebodys_data_are_refused_and_stay_as_they_are() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let [foreign, unknown] = ["foreign", "unknown"].map(|name| directory.path().join(name));
    make_foreign(&foreign, directory.path())?;
    make_unknown(&unknown)?;
    let before = [hash(&foreign)?, hash(&unknown)?];
    let nvme = |path: &Path, serial: &str| Disk {
        bus: Bus::Nvme,
        ..Disk::file(path, serial)
    };
    let options = NodeOptions {
        disks: vec![nvme(&foreign, "foreign-1"), nvme(&unknown, "unknown-1")],
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    };
    let (grid, node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;

    let on_chain = refused_on_chain(&grid, 2)?;
    let refused = on_chain["refused_disks"].to_string();
    for (serial, what) in [("foreign-1", "ext4"), ("unknown-1", "unknown kind")] {
        assert!(refused.contains(serial) && refused.contains(what), "{on_chain}");
        let refusal = node
            .machine
            .console
            .seen(&format!("(serial {serial}"))
            .unwrap_or_default();
        assert!(
            refusal.contains("carries") && refusal.contains(what) && refusal.contains("not touched"),
            "{refusal}"
        );
    }
    let flash = on_chain["capacity"]["sru"].as_u64().unwrap_or_default();
    assert!(
        flash > 0 && flash <= options.disk_bytes,
        "the empty disk alone is offered: {on_chain}"
    );

    node.machine.power_off(WAIT)?;
    assert_eq!([hash(&foreign)?, hash(&unknown)?], before, "not one byte was changed");
    Ok(())
}
