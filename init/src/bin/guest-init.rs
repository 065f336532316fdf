//! PID 1 of a micro-VM.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        // Nothing here is of use to a process that is not the first, and much of it would do harm.
        return ExitCode::from(2);
    }
    init::guest::run()
}
