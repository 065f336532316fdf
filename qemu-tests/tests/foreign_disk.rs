//! A node finds a disk with somebody's files and an empty one: the first stays as it is to the last byte, and its refusal
//! stands on the console and on the chain; the second is used.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use image::Flavour;
use qemu_tests::grid::{Grid, NodeOptions, Terms};
use qemu_tests::{Bus, Disk, iso};

const WAIT: Duration = Duration::from_secs(180);
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

fn hash(disk: &Path) -> Result<blake3::Hash> {
    Ok(blake3::Hasher::new().update_reader(File::open(disk)?)?.finalize())
}

#[test]
fn disk_with_somebodys_files_is_refused_and_stays_as_it_is() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("foreign.img");
    make_foreign(&disk, directory.path())?;
    let before = hash(&disk)?;
    let options = NodeOptions {
        disks: vec![Disk {
            bus: Bus::Nvme,
            ..Disk::file(&disk, "foreign-1")
        }],
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    };
    let (grid, node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;

    let refusal = node.machine.console.seen("(serial foreign-1").unwrap_or_default();
    assert!(
        refusal.contains("carries") && refusal.contains("ext4") && refusal.contains("not touched"),
        "{refusal}"
    );
    let farms = grid.farmer().json(&["farm", "list"])?;
    let on_chain = &farms[0]["nodes"][0];
    let refused = on_chain["refused_disks"][0].as_str().unwrap_or_default();
    assert!(refused.contains("foreign-1") && refused.contains("ext4"), "{on_chain}");
    let flash = on_chain["capacity"]["sru"].as_u64().unwrap_or_default();
    assert!(
        flash > 0 && flash <= options.disk_bytes,
        "the empty disk alone is offered: {on_chain}"
    );

    node.machine.power_off(WAIT)?;
    assert_eq!(hash(&disk)?, before, "not one byte was changed");
    Ok(())
}
