//! A whole grid on one computer: a chain with one validator, a farmer's and a customer's 3bot, and nodes in QEMU.
//!
//! Everything but the nodes runs as a process on the loopback address. From inside QEMU's own network that address is
//! [`HOST`], so bots and validator are named by both; a node's link port is forwarded from a port of the loopback
//! address, which the node advertises.
//!
//! ```text
//! ledgerd ◀── loopback ──▶ farmer, customer ◀── loopback, forwarded ──▶ node in QEMU
//!    ▲                                                                    │
//!    └───────────────────────── 10.0.2.2 of QEMU's network ───────────────┘
//! ```
//!
//! All files are in one directory: a home for each program, and each one's log beside it as `NAME.log`.
//!
//! Architecture invariant: programs are started and asked as a user does it, by their command lines alone.

mod app;
mod bot;
mod logs;
mod node;
mod program;
mod programs;
mod stage;
mod tunnel;
mod validator;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use app::{App, Volume};
pub use bot::Bot;
pub use logs::last_lines;
pub use node::{Node, NodeOptions};
pub use programs::Programs;
pub use stage::Stage;
pub use tunnel::Tunnel;

use validator::Validator;

/// The host as QEMU's own network shows it to a machine.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

/// Whole tokens that the customer has from the chain's first block on.
pub const CUSTOMER_TOKENS: u32 = 1_000;

/// A running grid. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Grid {
    directory: PathBuf,
    farmer: Bot,
    customer: Bot,
    validator: Validator,
}

/// What a farm asks of its customers.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Length of a period.
    pub period: Duration,
    /// How long report and receipt are waited for.
    pub grace: Duration,
    /// In what time a node must acknowledge a contract.
    pub acknowledge: Duration,
    /// In what time a workload must run.
    pub deploy: Duration,
    /// Periods in a row without a report after which a contract fails.
    pub missed_limit: u32,
}

impl Default for Terms {
    /// Short enough to see periods pass, long enough for a machine that is emulated on a busy computer.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            acknowledge: Duration::from_secs(90),
            deploy: Duration::from_secs(600),
            missed_limit: 12,
        }
    }
}

impl Grid {
    /// Starts chain and bots in `directory`, and waits until both bots stand on the chain.
    ///
    /// # Errors
    /// If a program is not there, cannot be started or does not get ready. The error has what it said.
    pub fn start(programs: &Programs, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let directory = directory.canonicalize().context("find the grid's directory")?;
        let mut farmer = Bot::init(programs, &directory, "farmer")?;
        let mut customer = Bot::init(programs, &directory, "customer")?;
        let validator = Validator::start(programs, &directory, &[(&customer, CUSTOMER_TOKENS)])?;
        for bot in [&mut farmer, &mut customer] {
            bot.join(validator.chain(), validator.peer())?;
            bot.serve()?;
        }
        Ok(Self {
            directory,
            farmer,
            customer,
            validator,
        })
    }

    /// Starts a grid with a farm, and boots a node that is registered there when this returns.
    ///
    /// # Errors
    /// If anything of it does not come up.
    pub fn with_node(directory: &Path, terms: &Terms, options: &NodeOptions) -> Result<(Self, Node)> {
        let grid = Self::start(&Programs::built()?, directory)?;
        grid.create_farm(terms)?;
        let mut node = grid.boot_node(options)?;
        node.wait_until_registered()?;
        Ok((grid, node))
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Hash of the chain's genesis.
    #[must_use]
    pub fn chain(&self) -> &str {
        self.validator.chain()
    }

    /// The farmer's 3bot.
    #[must_use]
    pub fn farmer(&self) -> &Bot {
        &self.farmer
    }

    /// The customer's 3bot.
    #[must_use]
    pub fn customer(&self) -> &Bot {
        &self.customer
    }

    /// Makes the farmer's farm with its terms, and returns its id.
    ///
    /// # Errors
    /// If the farmer's bot refuses.
    pub fn create_farm(&self, terms: &Terms) -> Result<String> {
        let id = self.farmer.run(&[
            "farm",
            "create",
            "home",
            "--country",
            "BE",
            "--lat",
            "51.05",
            "--lon",
            "3.72",
        ])?;
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let missed = terms.missed_limit.to_string();
        let prices = ["--cru-hour", "1", "--mru-gib-hour", "0.5", "--sru-gib-hour", "0.01"];
        let rule = [
            ("--period", seconds(terms.period)),
            ("--grace", seconds(terms.grace)),
            ("--acknowledge", seconds(terms.acknowledge)),
            ("--deploy", seconds(terms.deploy)),
            ("--missed-limit", missed),
        ];
        let rule = rule.iter().flat_map(|(option, value)| [*option, value.as_str()]);
        let words: Vec<&str> = ["farm", "terms"].into_iter().chain(prices).chain(rule).collect();
        self.farmer.run(&words)?;
        Ok(id.trim().to_owned())
    }

    /// Writes the farm's media into the image at `iso`, with the right to join for one node.
    ///
    /// # Errors
    /// If the farmer's bot refuses or the image has no room for media.
    pub fn write_media(&self, iso: &Path, name: &str) -> Result<()> {
        let media = self.directory.join(format!("{name}-media.json"));
        let (media, iso) = (media.display().to_string(), iso.display().to_string());
        let peer = self.validator.peer_from(HOST)?;
        let words = ["farm", "media", "--peer", &peer, "--out", &media, "--iso", &iso];
        self.farmer.run(&words).map(drop)
    }

    /// Publishes the image layout at `layout` as the customer's image `demo`.
    ///
    /// # Errors
    /// If the customer's bot refuses.
    pub fn push_demo(&self, layout: &Path) -> Result<()> {
        self.push(layout, "demo")
    }

    /// Publishes the image layout at `layout` as the customer's image `name`.
    ///
    /// # Errors
    /// If the customer's bot refuses.
    pub fn push(&self, layout: &Path, name: &str) -> Result<()> {
        let layout = layout.display().to_string();
        self.customer.run(&["image", "push", &layout, name]).map(drop)
    }

    /// Boots a node that joins the farm.
    ///
    /// # Errors
    /// If its image cannot be made or QEMU does not start.
    pub fn boot_node(&self, options: &NodeOptions) -> Result<Node> {
        Node::boot(self, options)
    }
}
