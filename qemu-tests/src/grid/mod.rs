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
mod farm;
mod journal;
mod logs;
mod node;
mod program;
mod programs;
mod stage;
mod tunnel;
mod validators;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use app::{App, Volume};
pub use bot::Bot;
pub use farm::Terms;
pub use journal::{JOURNAL, JOURNAL_PORT};
pub use logs::last_lines;
pub use node::{LINK, Node, NodeOptions, NodeWithoutPower};
pub use programs::Programs;
pub use stage::Stage;
pub use tunnel::Tunnel;
pub use validators::{Validators, homes};

/// The host as QEMU's own network shows it to a machine.
pub const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

/// Whole tokens that the customer has from the chain's first block on.
pub const CUSTOMER_TOKENS: u32 = 1_000;

/// A running grid. Dropping it ends everything in it.
#[derive(Debug)]
pub struct Grid {
    programs: Programs,
    directory: PathBuf,
    farmer: Bot,
    customer: Bot,
    validators: Validators,
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
        let owner = customer.entity_in(&directory)?;
        let owner = format!("{}={CUSTOMER_TOKENS}", owner.display());
        let validators = Validators::start(programs, &directory, &[0], &[owner])?;
        for bot in [&mut farmer, &mut customer] {
            bot.join(validators.chain(), validators.peer())?;
            bot.serve()?;
        }
        Ok(Self {
            programs: programs.clone(),
            directory,
            farmer,
            customer,
            validators,
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
        self.validators.chain()
    }

    /// The validator's address on this computer, `KEY@IP:PORT`.
    #[must_use]
    pub fn peer(&self) -> &str {
        self.validators.peer()
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

    /// The customer's 3bot, to end and start it.
    #[must_use]
    pub fn customer_mut(&mut self) -> &mut Bot {
        &mut self.customer
    }

    /// Starts the 3bot of one more farmer, who has nothing yet, and waits until it stands on the chain.
    ///
    /// # Errors
    /// If it cannot be made, started or does not get ready. The error has what it said.
    pub fn add_farmer(&self, name: &str) -> Result<Bot> {
        let mut farmer = Bot::init(&self.programs, &self.directory, name)?;
        farmer.join(self.validators.chain(), self.validators.peer())?;
        farmer.serve()?;
        Ok(farmer)
    }

    /// Makes the farmer's farm with its terms, and returns its id.
    ///
    /// # Errors
    /// If the farmer's bot refuses.
    pub fn create_farm(&self, terms: &Terms) -> Result<String> {
        self.farmer.create_farm("home", terms)
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
        self.boot_node_of(&self.farmer, options)
    }

    /// Boots a node that joins the only farm of `farmer`.
    ///
    /// # Errors
    /// As [`Self::boot_node`].
    pub fn boot_node_of(&self, farmer: &Bot, options: &NodeOptions) -> Result<Node> {
        Node::boot(&self.directory, farmer, &self.validators.peer_from(HOST)?, options)
    }
}
