//! All that the commands say: results on standard output, progress and errors on standard error.

/// A line of a result.
#[expect(clippy::print_stdout, reason = "the result of a command")]
pub(crate) fn result(line: &str) {
    println!("{line}");
}

/// A line about what is being done.
#[expect(clippy::print_stderr, reason = "progress of a command")]
pub(crate) fn step(line: &str) {
    eprintln!("xtask: {line}");
}

/// Why the command failed.
#[expect(clippy::print_stderr, reason = "the reason of a failure")]
pub(crate) fn error(line: &str) {
    eprintln!("xtask: error: {line}");
}
