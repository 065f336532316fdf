//! `cargo xtask build`: the static programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use image::{Binaries, Flavour, Profile};

use crate::workspace::Workspace;
use crate::{console, process};

/// Programs that people and machines run.
pub(crate) const PROGRAMS: [&str; 7] = [
    "init",
    "guest-init",
    "zos-agent",
    "vmm",
    "ledgerd",
    "ledger",
    "threebot",
];
/// What the test flavour of the image has besides.
const TEST_AGENT: &str = "zos-test-agent";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Optimize for size and speed, whatever time it takes.
    #[arg(long)]
    release: bool,
}

/// Builds and says where the programs are.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let directory = programs(workspace, profile(arguments.release))?;
    for program in PROGRAMS {
        console::result(&directory.join(program).display().to_string());
    }
    Ok(())
}

/// The profile that an option `--release` means.
pub(crate) fn profile(release: bool) -> Profile {
    if release { Profile::Release } else { Profile::Dev }
}

/// Builds all programs of the workspace in one call, so that what they share is built once, and returns the directory
/// that they are in.
pub(crate) fn programs(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let mut command = workspace.cargo();
    match profile {
        // With the tests, which bring features of their own into what all share: without them, the tests would build
        // hundreds of crates a second time.
        Profile::Dev => command.args(["build", "--workspace", "--bins", "--tests"]),
        Profile::Release => command.args(["build", "--workspace", "--exclude", "xtask", "--bins", "--release"]),
    };
    process::run(&mut command).context("build the programs")?;
    Ok(directory(workspace, profile))
}

/// Where the programs of a profile are.
pub(crate) fn directory(workspace: &Workspace, profile: Profile) -> PathBuf {
    workspace.programs(directory_of(profile))
}

/// Takes the programs of an image, without symbols, from the directory `built` of those of a profile.
pub(crate) fn binaries(workspace: &Workspace, built: &Path, profile: Profile, flavour: Flavour) -> Result<Binaries> {
    let stripped = workspace.zos("bin").join(directory_of(profile));
    fs::create_dir_all(&stripped).with_context(|| format!("make {}", stripped.display()))?;
    let take = |program: &str| strip(&built.join(program), &stripped.join(program));
    let test_agent = stripped.join(TEST_AGENT);
    Ok(Binaries {
        init: take("init")?,
        guest_init: take("guest-init")?,
        agent: take("zos-agent")?,
        vmm: take("vmm")?,
        test_agent: if flavour == Flavour::Test {
            take(TEST_AGENT)?
        } else {
            test_agent
        },
    })
}

fn directory_of(profile: Profile) -> &'static str {
    match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    }
}

/// Copies a program without its symbols; one that was copied since it was built is left alone.
fn strip(from: &Path, to: &Path) -> Result<PathBuf> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let built = modified(from).with_context(|| format!("find {}", from.display()))?;
    if modified(to).is_ok_and(|copied| copied > built) {
        return Ok(to.to_owned());
    }
    let partial = to.with_extension("partial");
    process::output(Command::new("strip").arg("-o").arg(&partial).arg(from))?;
    fs::rename(&partial, to).with_context(|| format!("write {}", to.display()))?;
    Ok(to.to_owned())
}
