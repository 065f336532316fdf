//! `threebot`: a 3bot's command line and daemon.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic::install();
    cli::run()
}
