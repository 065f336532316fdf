//! The power is cut while the workload writes, and the disk loses what was not flushed: the same node is back with the same
//! contract and the same workload, which finds every record that it had flushed. A disk that ignores flushes shows that the
//! scenario can fail.

use std::path::Path;

use anyhow::{Result, ensure};
use image::Flavour;
use qemu_tests::grid::{Grid, NodeOptions, Programs, Terms};
use qemu_tests::iso;
use qemu_tests::journal::Status;
use qemu_tests::nbd::{Flushes, Loss, NbdDisk};

const DISK_BYTES: u64 = 3 << 30;
/// Records that are written before the power is cut.
const RECORDS: u64 = 60;

/// Sectors that are written and not flushed when the power is cut: more than the page that holds a record.
const UNFLUSHED: usize = 16;

/// What the journal said last before the cut, and first after it.
#[derive(Debug)]
struct Around {
    before: Status,
    after: Status,
}

/// Cuts the power of a node while its workload writes to a disk that treats flushes so from some records on.
fn cut_while_writing(flushes: Flushes, loss: Loss) -> Result<Around> {
    let directory = tempfile::tempdir()?;
    let disk = NbdDisk::serve(&directory.path().join("disk.img"), DISK_BYTES)?;
    let grid = Grid::start(&Programs::built()?, directory.path())?;
    grid.create_farm(&Terms {
        // A machine that is emulated on a busy computer takes some periods to boot.
        missed_limit: 60,
        ..Terms::default()
    })?;
    let mut node = grid.boot_node(&NodeOptions {
        disk_bytes: 0,
        disks: vec![disk.disk("data-1")],
        ..NodeOptions::new("node", iso(Flavour::Release)?)
    })?;
    let identity = node.wait_for_identity()?;
    node.wait_until_registered()?;
    let contract = grid.deploy_journal(Path::new(env!("CARGO_BIN_EXE_journal")))?;
    let tunnel = grid.journal()?;
    let status = tunnel.status_after(RECORDS)?;
    disk.set_flushes(flushes);
    tunnel.status_after(status.flushed + RECORDS)?;
    // What it says while its disk is gone is all that it ever said of records.
    disk.fail_while_writing(UNFLUSHED)?;
    let before = tunnel.status()?;
    let node = node.cut_power();
    drop(tunnel);
    let cut = disk.cut(loss)?;
    ensure!(cut.lost > 0, "nothing was lost: {cut:?}");
    let mut node = node.switch_on()?;
    assert_eq!(node.wait_for_identity()?, identity);
    node.say(&format!("starting the workload {contract}"))?;
    let tunnel = grid.journal()?;
    let after = tunnel.status()?;
    assert_ne!(after.boot, before.boot, "it is another micro-VM");
    assert!(tunnel.whole_records()? >= after.found, "what it found is whole");
    tunnel.status_after(after.found + RECORDS)?;
    grid.keeps_journal(&contract)?;
    Ok(Around { before, after })
}

#[test]
fn flushed_records_are_there_after_a_power_cut_that_lost_half_of_the_rest() -> Result<()> {
    let Around { before, after } = cut_while_writing(Flushes::Honoured, Loss::Half { seed: 20_261_122 })?;
    assert!(after.found >= before.flushed, "{before:?} and then {after:?}");
    Ok(())
}

#[test]
fn records_are_lost_with_a_disk_that_ignores_flushes() -> Result<()> {
    let Around { before, after } = cut_while_writing(Flushes::Ignored, Loss::All)?;
    assert!(after.found < before.flushed, "{before:?} and then {after:?}");
    Ok(())
}
