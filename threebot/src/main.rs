//! `threebot`: a 3bot's command line and daemon.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic in any task ends the process, whatever the profile says: nothing goes on with half of its parts.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |bug| {
        report(bug);
        std::process::abort();
    }));
    cli::run()
}
