//! Running other programs.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program that talks to the user itself.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let status = command.status().with_context(|| format!("start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// Runs a program in silence and returns what it wrote to standard output. Its standard error is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {name}"))
}

fn name(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let first = command
        .get_args()
        .next()
        .map(|word| format!(" {}", word.to_string_lossy()))
        .unwrap_or_default();
    format!("{}{first}", program.rsplit('/').next().unwrap_or(&program))
}
