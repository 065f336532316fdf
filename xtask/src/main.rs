//! What a builder does with this workspace: `cargo xtask COMMAND`.
//!
//! Exit codes: 0 done, 1 failed with the reason in one line, 2 wrong usage.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod build;
mod ci;
mod console;
mod demo_image;
mod devnet;
mod fuzz;
mod image_command;
mod interrupt;
mod iso;
mod packages;
mod process;
mod run;
mod run_directory;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, tests and runs ZOS.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install and unpack the Debian packages that the other commands need.
    Setup(setup::Arguments),
    /// Build the static programs.
    Build(build::Arguments),
    /// Build the node's bootable image, and beside it what a network boots.
    Iso(iso::Arguments),
    /// Examine a finished image.
    Image(image_command::Arguments),
    /// Build the demo workload's OCI image.
    DemoImage(demo_image::Arguments),
    /// Start a chain, two bots and a node in QEMU, and run a workload on it.
    Run(run::Arguments),
    /// Run a chain of several validators on this computer.
    Devnet(devnet::Arguments),
    /// Pass every test.
    Test(test::Arguments),
    /// Do what CI does: format, lints, licences, documentation, tests.
    Ci(ci::Arguments),
    /// Try inputs that nobody thought of on whatever reads what others wrote.
    Fuzz(fuzz::Arguments),
    /// Measure speed and size.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match perform(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup(arguments) => setup::run(&workspace, &arguments),
        Command::Build(arguments) => build::run(&workspace, &arguments),
        Command::Iso(arguments) => iso::run(&workspace, &arguments),
        Command::Image(arguments) => image_command::run(&workspace, &arguments),
        Command::DemoImage(arguments) => demo_image::run(&workspace, &arguments),
        Command::Run(arguments) => run::run(&workspace, &arguments),
        Command::Devnet(arguments) => devnet::run(&workspace, &arguments),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::Ci(arguments) => ci::run(&workspace, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
    }
}
