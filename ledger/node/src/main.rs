//! `ledgerd`: a validator of the contract chain.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use error_line::with_causes;
use ledger::Tokens;
use ledger_node::{Home, InitOptions, RunOptions, is_disk_full, run};
use tracing_subscriber::EnvFilter;

/// Exit code when a validator could not start or failed.
const FAILED: u8 = 1;

#[derive(Parser)]
#[command(name = "ledgerd", version, about = "A validator of the contract chain")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new chain with this machine as its only validator.
    Init {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// Name of the chain, for people.
        #[arg(long, default_value = "zos")]
        name: String,
        /// Time between two blocks in milliseconds.
        #[arg(long, default_value_t = 1_000)]
        interval_ms: u32,
        /// An entity that exists from the start: a file with its record as JSON, and how many whole tokens it owns.
        #[arg(long = "entity", value_name = "FILE=TOKENS", value_parser = parse_entity)]
        entities: Vec<(PathBuf, Tokens)>,
    },
    /// Runs the validator until it is told to stop.
    Run {
        /// Directory of the validator.
        #[arg(long)]
        dir: PathBuf,
        /// UDP address of the peer link; port 0 takes a free one.
        #[arg(long, default_value = "0.0.0.0:7771")]
        listen: SocketAddr,
        /// An address where others reach the peer link, for instance the router's; may be given several times. If absent,
        /// the address of this machine on its default route.
        #[arg(long, value_name = "IP:PORT")]
        advertise: Vec<SocketAddr>,
    },
}

fn parse_entity(text: &str) -> Result<(PathBuf, Tokens), String> {
    let (path, tokens) = text.rsplit_once('=').ok_or("expected FILE=TOKENS")?;
    let tokens: u64 = tokens
        .parse()
        .map_err(|_| "the number of tokens is not a whole number".to_owned())?;
    let micro = tokens.checked_mul(Tokens::PER_TOKEN).ok_or("too many tokens")?;
    Ok((path.into(), Tokens::from_micro(micro)))
}

fn main() -> ExitCode {
    abort_on_panic::install();
    let filter = EnvFilter::try_from_env("LEDGERD_LOG").unwrap_or_else(|_| EnvFilter::new("warn,ledger_node=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match perform(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn perform(command: Command) -> Result<(), Failure> {
    match command {
        Command::Init {
            dir,
            name,
            interval_ms,
            entities,
        } => {
            let home = Home::init(
                &dir,
                &InitOptions {
                    name,
                    interval_ms,
                    entities,
                },
            )?;
            say(&format!("{{\"chain\":\"{}\"}}", home.genesis.hash()));
            Ok(())
        }
        Command::Run { dir, listen, advertise } => {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(validate(RunOptions {
                advertise,
                ..RunOptions::new(dir, listen)
            }))
        }
    }
}

async fn validate(options: RunOptions) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = run(options).await?;
    say(&format!(
        "{{\"chain\":\"{}\",\"peer\":\"{}\"}}",
        running.chain(),
        running.address()
    ));
    tokio::select! {
        failed = running.failed() => {
            running.close().await;
            return failed.map_err(Failure::from);
        }
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(running.stop().await?)
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "the one line that says what went wrong")]
fn say_error(error: &(dyn std::error::Error + 'static)) {
    let advice = if is_disk_full(error) {
        "; free space there and start again: nothing that was decided is lost"
    } else {
        ""
    };
    eprintln!("ledgerd: {}{advice}", with_causes(error));
}
