//! `ledgerd`: a validator of the contract chain.
//!
//! Exit codes: 0 done, 1 failed with the reason in one line, 2 wrong usage.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use error_line::with_causes;
use ledger_node::is_disk_full;
use tracing::Level;

use cli::{LogFormat, log};

/// Exit code when a command failed, or a validator could not start or failed.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let format = arguments.log_format;
    log::install(format);
    abort_on_panic::install();
    match cli::perform(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(format, error.as_ref());
            ExitCode::from(FAILED)
        }
    }
}

fn say_error(format: LogFormat, error: &(dyn std::error::Error + 'static)) {
    let advice = if is_disk_full(error) {
        "; free space there and start again: nothing that was decided is lost"
    } else {
        ""
    };
    let text = format!("{}{advice}", with_causes(error));
    match format {
        LogFormat::Text => log::say(format, Level::ERROR, &format!("ledgerd: {text}")),
        LogFormat::Json => log::say(format, Level::ERROR, &text),
    }
}
