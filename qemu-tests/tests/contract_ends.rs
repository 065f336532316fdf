//! One contract is cancelled and another runs out: each time the micro-VM goes, its resources are free again, and what was
//! not earned is back with the customer.

use anyhow::{Context, Result};
use image::Flavour;
use qemu_tests::grid::{App, CUSTOMER_TOKENS, Grid, Node, NodeOptions, Terms};
use qemu_tests::{demo_image, http, iso};
use serde_json::Value;

const MICRO: u64 = 1_000_000;

/// Deploys an application and returns the beginning of its contract's id, as the node's console shows it.
fn deploy(grid: &Grid, app: &App) -> Result<String> {
    let deployment = grid.customer().deploy(&app.write_in(grid.directory())?, |_| {})?;
    let contract = deployment["contract"]
        .as_str()
        .context("the deployment has a contract")?;
    Ok(contract[..8].to_owned())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// The node has seen the end and holds nothing any more, on the chain either.
fn is_over(grid: &Grid, node: &mut Node, contract: &str, how: &str) -> Result<()> {
    node.say(&format!("contract {contract} is {how}"))?;
    node.say("workloads 0")?;
    let farms = grid.farmer().json(&["farm", "list"])?;
    let on_chain = &farms[0]["nodes"][0];
    assert_eq!(
        (number(&on_chain["reserved"]["cru"]), number(&on_chain["contracts"])),
        (0, 0),
        "{on_chain}"
    );
    assert_eq!(on_chain["state"]["state"], "active", "it has attested: {on_chain}");
    Ok(())
}

/// What a deployment has cost, all of the rest being with the customer again; and what of it the farmer has not got.
fn cost(grid: &Grid, name: &str, before: u64) -> Result<(u64, u64)> {
    let deployment = grid.customer().deployment(name)?;
    assert_eq!(number(&deployment["held"]), 0, "{deployment}");
    let withheld = number(&deployment["withheld"]);
    let cost = number(&deployment["paid"]) + withheld;
    let balance = number(&grid.customer().json(&["balance"])?["balance"]);
    assert_eq!(balance + cost, before, "no token is lost: {deployment}");
    Ok((cost, withheld))
}

#[test]
fn cancelled_and_expired_contracts_free_what_they_held() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = NodeOptions::new("node", iso(Flavour::Release)?);
    let (grid, mut node) = Grid::with_node(directory.path(), &Terms::default(), &options)?;
    grid.push_demo(&demo_image()?)?;
    let all = u64::from(CUSTOMER_TOKENS) * MICRO;

    let contract = deploy(&grid, &App::demo(720))?;
    let tunnel = grid.customer().tunnel("demo", 80)?;
    tunnel.first_answer("/")?;
    grid.customer().run(&["cancel", "demo"])?;
    is_over(&grid, &mut node, &contract, "cancelled")?;
    assert!(http::get(tunnel.address(), "/").is_err(), "the workload is gone");
    let deployment = grid.customer().deployment("demo")?;
    let (cancelled, withheld) = cost(&grid, "demo", all)?;
    let price = number(&deployment["price"]);
    assert!(cancelled < 720 * price, "{deployment}");
    let earned = || anyhow::Ok(number(&grid.farmer().json(&["balance"])?["balance"]));
    assert_eq!(
        earned()? + withheld,
        cancelled,
        "the farmer has what was paid: {deployment}"
    );

    // It needs so much memory that it runs only if the other one's is free.
    let brief = App {
        name: "brief".to_owned(),
        memory_mib: 1300,
        ..App::demo(2)
    };
    let contract = deploy(&grid, &brief)?;
    is_over(&grid, &mut node, &contract, "expired")?;
    let (expired, withheld_again) = cost(&grid, "brief", all - cancelled)?;
    let deployment = grid.customer().deployment("brief")?;
    let price = number(&deployment["price"]);
    assert!(expired > price && expired <= 2 * price, "{deployment}");
    assert_eq!(
        earned()? + withheld + withheld_again,
        cancelled + expired,
        "{deployment}"
    );
    Ok(())
}
