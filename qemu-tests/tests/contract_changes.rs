//! A contract that runs gets more memory: its workload comes back in a larger micro-VM with its volume. Its customer's bot is gone:
//! when what it paid in is used up the workload stops, and when the bot is back it runs again with its volume.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use image::Flavour;
use qemu_tests::grid::{App, Grid, NodeOptions, Terms};
use qemu_tests::{demo_image, iso};

/// What is in the workload's volume.
const DATA: &[u8] = b"what must not be lost";
/// Until a micro-VM on a busy computer has given way to another one.
const CHANGED: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(500);

/// The workload answers with what was put into its volume.
fn has_its_data(grid: &Grid) -> Result<()> {
    let deadline = Instant::now() + CHANGED;
    loop {
        let answer = grid.customer().tunnel("demo", 80).and_then(|tunnel| {
            tunnel.first_answer("/")?;
            tunnel.get("/data/file")
        });
        match answer {
            Ok(data) => {
                assert_eq!(data, DATA);
                return Ok(());
            }
            // It is on its way.
            Err(_) if Instant::now() < deadline => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

#[test]
fn contract_is_changed_while_it_runs_and_suspended_while_nobody_pays() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = NodeOptions::new("node", iso(Flavour::Release)?);
    let (mut grid, mut node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    grid.push_demo(&demo_image()?)?;
    let app = App {
        deposit: Some(2),
        ..App::demo(720)
    };
    let deployment = grid.customer().deploy(&app.write_in(grid.directory())?, |_| {})?;
    let contract = deployment["contract"].as_str().context("there is a contract")?[..8].to_owned();
    let starting = format!("starting the workload {contract}");
    node.say(&starting)?;
    let tunnel = grid.customer().tunnel("demo", 80)?;
    tunnel.first_answer("/")?;
    tunnel.put("/data/file", DATA)?;

    let larger = App { memory_mib: 384, ..app };
    let file = larger.write_in(grid.directory())?.display().to_string();
    let changed = grid.customer().json(&["amend", &file])?;
    let (before, after) = (deployment["price"].as_u64(), changed["price"].as_u64());
    ensure!(before < after, "{before:?} {after:?}: memory is not free");
    node.say(&starting)?;
    has_its_data(&grid)?;

    grid.customer_mut().kill();
    node.say(&format!("contract {contract} is suspended"))?;
    node.say(&format!("workload {contract} suspended"))?;
    grid.customer_mut().serve()?;
    node.say(&format!("contract {contract} is active"))?;
    node.say(&starting)?;
    has_its_data(&grid)
}
