//! `vmm --config-fd N` runs one micro-VM as the JSON configuration on descriptor N says. `vmm --version` says which it is.

use std::{io::Read, process::ExitCode};

use node_api::vmm::exit;
use vmm::{
    config::{self, ConfigError},
    run, sys,
};

/// Where the configuration comes from.
enum Command {
    Run { config_fd: i32 },
    Version,
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|bug| sys::leave(exit::BUG, Some(&format!("bug: {bug}")))));
    match command(std::env::args().skip(1)) {
        Ok(Command::Version) => version(),
        Ok(Command::Run { config_fd }) => {
            let failure = match read(config_fd) {
                Ok(config) => run::run(&config),
                Err(error) => error.into(),
            };
            sys::leave(failure.code(), Some(&failure.line()))
        }
        Err(error) => sys::leave(exit::BAD_CONFIG, Some(&error.to_string())),
    }
}

fn command(mut arguments: impl Iterator<Item = String>) -> Result<Command, ConfigError> {
    let usage = || ConfigError::new("command line", "vmm --config-fd N, or vmm --version");
    let command = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--version"), None) => Command::Version,
        (Some("--config-fd"), Some(number)) => Command::Run {
            config_fd: number.parse().map_err(|_| usage())?,
        },
        _ => return Err(usage()),
    };
    if arguments.next().is_some() {
        Err(usage())
    } else {
        Ok(command)
    }
}

#[expect(clippy::print_stdout, reason = "the answer to a command-line question")]
fn version() -> ExitCode {
    println!("vmm {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn read(config_fd: i32) -> Result<node_api::vmm::Config, ConfigError> {
    let unreadable = |error: std::io::Error| ConfigError::new("--config-fd", format!("a readable descriptor: {error}"));
    if config_fd < config::FIRST_DESCRIPTOR {
        return Err(ConfigError::new("--config-fd", "a descriptor number, 3 or more"));
    }
    let file = std::fs::File::from(sys::adopt(config_fd).map_err(unreadable)?);
    let mut text = Vec::new();
    file.take(config::MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if vmm::bytes::wide(text.len()) > config::MAX_CONFIG {
        return Err(ConfigError::new(
            "configuration",
            format!("at most {} bytes", config::MAX_CONFIG),
        ));
    }
    config::parse(&text)
}
