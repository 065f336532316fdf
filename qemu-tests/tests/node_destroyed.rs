//! A node is destroyed with its disk. Within the time that follows from the terms, and with nobody's help, what was left of
//! its escrow is back with the customer, and the workload runs on the node of another farmer.
//!
//! From the destruction on, the programs are only asked what they know; nobody tells them anything.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use image::Flavour;
use qemu_tests::grid::{App, Bot, CUSTOMER_TOKENS, Grid, Node, NodeOptions, Programs, Terms};
use qemu_tests::{demo_image, iso};
use serde_json::Value;

/// The least memory of a node, in MiB, as the README has it.
const MEMORY: u32 = 1024;
/// Author of what a rule of the chain has done.
const CHAIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// For blocks, for the customer's bot to look at the chain, and for its search and negotiation.
const MARGIN: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// All tokens of the chain, in millionths.
fn all() -> u64 {
    u64::from(CUSTOMER_TOKENS) * 1_000_000
}

/// Short, but a healthy node that is emulated on a busy computer reports within them.
fn terms() -> Terms {
    Terms {
        period: Duration::from_secs(10),
        grace: Duration::from_secs(10),
        acknowledge: Duration::from_secs(90),
        deploy: Duration::from_secs(300),
        missed_limit: 8,
    }
}

/// Until the chain has ended the contract of a node that is no more, at most: the limit of missed periods begins with the
/// one in which the node was destroyed, and the last of them is settled when its grace is over.
fn escrow_is_back_within(terms: &Terms) -> Duration {
    terms.period * terms.missed_limit + terms.grace + MARGIN
}

/// From then on until the workload runs on another node, at most; later than that the customer's bot would try the next one.
fn workload_is_back_within(terms: &Terms) -> Duration {
    terms.acknowledge + terms.deploy + MARGIN
}

/// A farmer, and its only node.
struct Place {
    farmer: Bot,
    node: Node,
    id: String,
}

impl Place {
    fn open(grid: &Grid, name: &str) -> Result<Self> {
        let farmer = grid.add_farmer(&format!("farmer-{name}"))?;
        farmer.create_farm(name, &terms())?;
        let options = NodeOptions {
            memory_mib: MEMORY,
            ..NodeOptions::new(name, iso(Flavour::Release)?)
        };
        let mut node = grid.boot_node_of(&farmer, &options)?;
        let id = node.wait_for_identity()?;
        node.wait_until_registered()?;
        Ok(Self { farmer, node, id })
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn balance(bot: &Bot) -> Result<u64> {
    Ok(number(&bot.json(&["balance"])?["balance"]))
}

/// Asks until there is an answer.
fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        thread::sleep(PAUSE);
    }
}

/// What has changed the customer's balance, newest first.
fn movements(customer: &Bot) -> Result<Vec<Value>> {
    let Value::Array(movements) = customer.json(&["history"])? else {
        bail!("threebot history gave no list");
    };
    Ok(movements)
}

/// The customer's balance right after a rule of the chain gave back more than `least` at once, if it has since a block's height.
fn balance_after_return(customer: &Bot, since: u64, least: u64) -> Result<Option<u64>> {
    let movements = movements(customer)?;
    let returned = movements.windows(2).find(|pair| {
        let [later, earlier] = pair else { return false };
        let more = number(&later["balance"]).saturating_sub(number(&earlier["balance"]));
        number(&later["height"]) > since && later["author"] == CHAIN && more > least
    });
    Ok(returned.map(|pair| number(&pair[0]["balance"])))
}

/// What a deployment holds, nobody has, the customer has and farmers have earned, all at one moment: nothing was earned meanwhile.
fn tokens(customer: &Bot, name: &str, farmers: [&Bot; 2]) -> Result<u64> {
    let earned = || Ok::<_, anyhow::Error>(balance(farmers[0])? + balance(farmers[1])?);
    within(MARGIN, "a moment without payment", || {
        let before = earned()?;
        let deployment = customer.deployment(name)?;
        let sum = before + balance(customer)? + number(&deployment["held"]) + number(&deployment["withheld"]);
        Ok((before == earned()?).then_some(sum))
    })
}

#[test]
fn workload_of_a_destroyed_node_is_back_on_another_farmers_node() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let grid = Grid::start(&Programs::built()?, directory.path())?;
    let customer = grid.customer();
    let places = [Place::open(&grid, "north")?, Place::open(&grid, "south")?];
    grid.push_demo(&demo_image()?)?;
    let app = App::demo(720).write_in(grid.directory())?;
    let first = customer.deploy(&app, |_| {})?;
    customer.tunnel("demo", 80)?.first_answer("/")?;
    let funded = number(&movements(customer)?[0]["height"]);
    let [lost, spare] = match places {
        [north, south] if first["node"] == north.id.as_str() => [north, south],
        [north, south] => [south, north],
    };
    assert_eq!(first["node"], lost.id.as_str(), "{first}");

    lost.node.destroy()?;

    let returned = within(escrow_is_back_within(&terms()), "the escrow is back", || {
        balance_after_return(customer, funded, number(&first["price"]) * 360)
    })?;
    let earned = balance(&lost.farmer)?;
    assert!(earned < number(&first["price"]) * 720, "{first}");
    let second = within(workload_is_back_within(&terms()), "the workload is back", || {
        let now = customer.deployment("demo")?;
        Ok((now["state"] == "active" && now["contract"] != first["contract"]).then_some(now))
    })?;
    assert_eq!(second["node"], spare.id.as_str(), "{second}");
    let withheld = number(&second["withheld"]);
    assert_eq!(
        returned + earned + withheld,
        all(),
        "the first contract holds nothing any more"
    );
    let answer = customer.tunnel("demo", 80)?.first_answer("/")?;
    assert!(answer.text().contains("<title>It runs<"), "{}", answer.text());

    assert_eq!(
        tokens(customer, "demo", [&lost.farmer, &spare.farmer])?,
        all(),
        "no token is lost"
    );
    let farms = lost.farmer.json(&["farm", "list"])?;
    let on_chain = farms[0]["nodes"].get(0).context("the farm has its node")?;
    assert_eq!(
        (number(&on_chain["reserved"]["cru"]), number(&on_chain["contracts"])),
        (0, 0),
        "{on_chain}"
    );
    Ok(())
}
