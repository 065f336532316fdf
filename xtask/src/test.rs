//! `cargo xtask test`: every test, with all that they need made before.

use std::{fs::OpenOptions, path::PathBuf};

use anyhow::{Context, Result, ensure};
use image::{Flavour, Profile};

use crate::workspace::Workspace;
use crate::{build, console, iso, process, setup};

/// Scenarios: the integration tests of qemu-tests.
const SCENARIOS: &str = "package(qemu-tests) & kind(test)";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the scenarios that run whole machines.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Passed on to nextest, after `--`.
    #[arg(last = true)]
    pub(crate) nextest: Vec<String>,
}

/// Builds the images that scenarios need, then runs the tests.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    check_machine()?;
    setup::ensure(workspace)?;
    let nextest = tool(workspace, "cargo-nextest")?;
    if !arguments.fast {
        let built = build::programs(workspace, Profile::Dev)?;
        for flavour in [Flavour::Release, Flavour::Test] {
            iso::put_together(workspace, &built, Profile::Dev, flavour, &[], None)?;
        }
        image::demo::build(&workspace.sources(), &workspace.zos("demo-image"))?;
    }
    let mut command = workspace.cargo_tool(&nextest);
    command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    if arguments.fast {
        command.args(["--filterset", &format!("not ({SCENARIOS})")]);
    }
    process::run(command.args(&arguments.nextest)).context("tests")
}

/// Says what the tests need of this computer before hours are spent on them.
fn check_machine() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the tests jail monitors and make networks of their own, which takes root; run this command as root"
    );
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .context("the monitor's tests need /dev/kvm; load kvm_intel or kvm_amd, or turn nested virtualization on")?;
    Ok(())
}

/// Finds a tool of cargo in PATH or among those built here, and builds it if it is nowhere.
pub(crate) fn tool(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let own = workspace.target().join("tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([own.join("bin")]);
    for place in places {
        let tool = place.join(name);
        if tool.is_file() {
            return Ok(tool);
        }
    }
    console::step(&format!("building {name}, which takes some minutes"));
    let mut command = workspace.cargo();
    command
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(&own)
        .arg(name);
    process::run(&mut command).with_context(|| format!("build {name}"))?;
    Ok(own.join("bin").join(name))
}
