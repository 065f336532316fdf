//! `ledgerd`: a validator of the contract chain.
//!
//! Exit codes: 0 done, 1 failed with the reason in one line, 2 wrong usage.

mod cli;

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use error_line::with_causes;
use ledger_node::is_disk_full;
use tracing_subscriber::EnvFilter;

/// Exit code when a command failed, or a validator could not start or failed.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    abort_on_panic::install();
    let filter = EnvFilter::try_from_env("LEDGERD_LOG").unwrap_or_else(|_| EnvFilter::new("warn,ledger_node=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli::perform(cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(error.as_ref());
            ExitCode::from(FAILED)
        }
    }
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
