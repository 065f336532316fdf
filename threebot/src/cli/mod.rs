//! The command line: reads arguments, asks the daemon, prints.

mod arguments;
mod client;
mod commands;
mod keys;
mod passphrase;
mod print;
mod release;
mod setup;
mod tunnel;

use std::process::ExitCode;

use clap::Parser;
use threebot::control::{Failure, FailureKind};

pub(crate) use arguments::Arguments;

/// Reads the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed standard output is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(FailureKind::Usage.exit_code())
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match commands::perform(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print::error(&failure.text);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

/// A failure of this kind with this text.
fn failure(kind: FailureKind, text: impl Into<String>) -> Failure {
    Failure {
        kind,
        text: text.into(),
    }
}

/// A failure of this kind with an error and its causes as the text.
fn because(kind: FailureKind) -> impl Fn(&dyn std::error::Error) -> Failure {
    move |error| failure(kind, threebot::bot::error_line(error))
}
