//! Measures the ledger as a whole: its processes, its links, its files. Prints a JSON object a line.
//!
//! `cargo xtask bench ledger` builds it and what it runs, and shows the figures beside their goals.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use ledger::encoding::encode;
use ledger_bench::{
    bare, load, machine,
    network::{self, Program},
    proofs::{SIZES, State},
    start,
    world::{self, CONTRACTS_OF_A_NODE, Sample},
};
use ledger_node::Home;
use peer_link::PeerAddress;
use serde_json::{Value, json};

/// How often a node is started.
const STARTS: usize = 5;
/// Contracts whose proofs are looked at.
const PROVEN: usize = 1_000;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a validator's directory with a chain of many contracts.
    Grow {
        /// The directory, which is made.
        #[arg(long)]
        dir: PathBuf,
        /// How many contracts.
        #[arg(long, default_value_t = 1_000_000)]
        contracts: usize,
    },
    /// The size of that chain, of proofs, and what `ledgerd` and a starting node need with it.
    Whole {
        /// The directory.
        #[arg(long)]
        dir: PathBuf,
        /// The program `ledgerd`.
        #[arg(long)]
        ledgerd: PathBuf,
    },
    /// Transactions a second through validators of the ledger, or without one through bare engines.
    Throughput {
        /// An empty directory.
        #[arg(long)]
        dir: PathBuf,
        /// The program `ledgerd`.
        #[arg(long)]
        ledgerd: Option<PathBuf>,
        /// How many validators.
        #[arg(long)]
        validators: u16,
        /// Time between two blocks in milliseconds.
        #[arg(long)]
        interval_ms: u32,
        /// How long it is measured.
        #[arg(long)]
        seconds: u64,
    },
    /// A validator without an application.
    Bare {
        /// Its directory.
        #[arg(long)]
        dir: PathBuf,
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Another validator.
        #[arg(long = "peer")]
        peers: Vec<PeerAddress>,
    },
}

fn main() -> ExitCode {
    abort_on_panic::install();
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("ledger-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn print(figure: &str, value: impl Into<Value>) {
    println!("{}", json!({"figure": figure, "value": value.into()}));
}

#[expect(clippy::print_stderr, reason = "what a person reads beside the answer")]
fn tell(line: &str) {
    eprintln!("{line}");
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::Grow { dir, contracts } => world::grow(&dir, contracts, |made| {
            if made % 100_000 == 0 {
                tell(&format!("{made} contracts"));
            }
        }),
        Command::Whole { dir, ledgerd } => {
            machine::own_network()?;
            runtime()?.block_on(whole(dir, ledgerd))
        }
        Command::Throughput {
            dir,
            ledgerd,
            validators,
            interval_ms,
            seconds,
        } => {
            machine::own_network()?;
            let program = ledgerd.map_or(Program::Bare, Program::Ledgerd);
            let seconds = Duration::from_secs(seconds);
            runtime()?.block_on(throughput(&program, dir, (validators, interval_ms), seconds))
        }
        Command::Bare { dir, listen, peers } => runtime()?.block_on(async {
            tell_ready();
            bare::run(&dir, listen, peers, std::future::pending()).await
        }),
    }
}

/// Whoever waits for a validator waits for a line.
#[expect(clippy::print_stdout, reason = "the line that says that it is ready")]
fn tell_ready() {
    println!("ready");
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Runtime::new()?)
}

async fn throughput(program: &Program, directory: PathBuf, chain: (u16, u32), duration: Duration) -> Result<()> {
    machine::loopback_up().await?;
    let network = network::start(program, &directory, chain, &load::payers())?;
    let measured = load::measure(&network, duration).await?;
    print("tx_per_s", measured.per_second.round());
    print("p50_ms", millis(measured.p50));
    print("p99_ms", millis(measured.p99));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}

async fn whole(directory: PathBuf, ledgerd: PathBuf) -> Result<()> {
    machine::loopback_up().await?;
    let sample = Sample::read(&directory)?;
    let home = Home::open(&directory)?;
    let database = directory.join("chain.redb");
    print(
        "disk_bytes_per_contract_version",
        machine::disk_bytes(&database)? / sample.contracts,
    );
    prove(&directory, &sample)?;
    let process = network::start_one(&Program::Ledgerd(ledgerd), &directory, 0, &[])?;
    let peer = Home::introduce(&directory, vec![([127, 0, 0, 1], 7771).into()])?.peer;
    let mut starts = Vec::new();
    // The last node may have fewer.
    let nodes = sample.nodes.iter().rev().skip(1).take(STARTS);
    for node in nodes {
        starts.push(start::measure(home.genesis.hash(), &peer, *node, CONTRACTS_OF_A_NODE).await?);
    }
    let most = starts
        .iter()
        .map(|start| start.bytes)
        .max()
        .context("no node to start")?;
    starts.sort_by_key(|start| start.took);
    print("node_start_bytes", most);
    print("node_start_ms", millis(starts[starts.len() / 2].took));
    print("ledgerd_rss_bytes", machine::resident_bytes(process.id())?);
    Ok(())
}

/// The longest of some contracts with its proof, as it is sent.
fn prove(directory: &Path, sample: &Sample) -> Result<()> {
    let records = world::contracts(&world::open(directory)?, sample, PROVEN)?;
    for (size, name) in SIZES {
        let state = State::new(&records, size);
        let bytes = records.iter().map(|record| encode(&state.prove(record)).len()).max();
        print(&format!("proof_bytes_{name}"), bytes);
    }
    Ok(())
}
