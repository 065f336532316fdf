//! `cargo xtask devnet`: a chain of several validators on this computer.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu_tests::grid::{Programs, Validators, homes, last_lines};

use crate::interrupt::{Heard, Listener};
use crate::workspace::Workspace;
use crate::{build, console};

/// Pause between looks whether a validator has ended.
const LOOK: Duration = Duration::from_millis(500);
/// Lines of the log of one that has ended.
const SHOWN: usize = 5;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many validators, 1 to 100.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    validators: u16,
    /// UDP port of the first one; the others take the next ones.
    #[arg(long, default_value_t = 7_771, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    port: u16,
    /// An entity that exists from the start, as `ledgerd init` takes it.
    #[arg(long = "entity", value_name = "FILE=TOKENS")]
    entities: Vec<String>,
    /// Throw an earlier chain away.
    #[arg(long)]
    fresh: bool,
    /// Build the programs optimized.
    #[arg(long)]
    release: bool,
}

/// Starts the validators and stays until it is interrupted.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(&build::programs(workspace, build::profile(arguments.release))?)?;
    let directory = workspace.zos("devnet");
    if arguments.fresh && directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    let goes_on = homes(&directory).exists();
    if goes_on && !arguments.entities.is_empty() {
        bail!(
            "the chain in {} exists already; --entity is for a new one: add --fresh",
            directory.display()
        );
    }
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let ports: Vec<u16> = (0..arguments.validators)
        .map(|number| arguments.port + number)
        .collect();
    let listener = Listener::new()?;
    let validators = Validators::start(&programs, &directory, &ports, &arguments.entities)
        .context("start the validators; --fresh begins with a new chain")?;
    show(&validators, &programs, &directory, goes_on);
    // They die with this process, whatever ends it: see `qemu_tests`.
    listener.work(move || say_who_ends(&validators, &directory))?;
    match listener.wait()? {
        Heard::Interrupt => console::step("everything is stopped; the chain is kept"),
        Heard::Done(()) => console::step("no validator is left"),
    }
    Ok(())
}

fn show(validators: &Validators, programs: &Programs, directory: &Path, goes_on: bool) {
    console::result(&format!(
        "chain {}{}",
        validators.chain(),
        if goes_on { ", going on" } else { "" }
    ));
    for (peer, http) in validators.peers().zip(validators.http()) {
        console::result(&format!("peer {peer}, {http}"));
    }
    let (chain, ledgerd, threebot) = (
        validators.chain(),
        programs.ledgerd().display(),
        programs.threebot().display(),
    );
    let peer = validators.peers().next().unwrap_or_default();
    let http = validators.http().next().unwrap_or_default();
    for line in [
        "What to try next:".to_owned(),
        format!("  {ledgerd} join --dir follower --chain {chain} --peer {peer}"),
        format!("  {ledgerd} run --dir follower --listen 127.0.0.1:0    # a copy of the chain that has no vote"),
        format!("  {threebot} chain --genesis {chain} --peer {peer}"),
        format!("  curl -N {http}v1/events    # each block as it comes"),
        "  kill a validator: the others go on; start this again: it catches up".to_owned(),
        format!("Homes and logs are in {}. Ctrl-C ends all of it.", directory.display()),
    ] {
        console::step(&line);
    }
}

/// Says which validators end by themselves, until none is left.
fn say_who_ends(validators: &Validators, directory: &Path) {
    let mut said = BTreeSet::new();
    while said.len() < validators.peers().count() {
        thread::sleep(LOOK);
        for number in validators.ended() {
            if said.insert(number) {
                let log = directory.join(format!("validator-{number}.log"));
                console::step(&format!("validator {number} has ended; {} ends with:", log.display()));
                console::step(&last_lines(&log, SHOWN));
            }
        }
    }
}
