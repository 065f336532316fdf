//! `cargo xtask iso`: the node's bootable image.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::{Flavour, Options, Profile};

use crate::workspace::Workspace;
use crate::{build, console, setup};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Make it as small as it is for farms.
    #[arg(long)]
    release: bool,
    /// Where to put it. Without this it is target/zos/zos.iso, or target/zos/test/zos.iso with --test.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Add the agent that causes faults from within, for the scenarios.
    #[arg(long)]
    test: bool,
    /// Something to add to the kernel's command line, such as zos.peer=…; may be repeated.
    #[arg(long = "argument", value_name = "WORD")]
    arguments: Vec<String>,
}

/// Builds the image and says where it is.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let flavour = if arguments.test {
        Flavour::Test
    } else {
        Flavour::Release
    };
    let out = make(
        workspace,
        build::profile(arguments.release),
        flavour,
        &arguments.arguments,
        arguments.out.clone(),
    )?;
    let size = fs::metadata(&out)
        .with_context(|| format!("find {}", out.display()))?
        .len();
    console::result(&format!("{} ({} MB)", out.display(), size / 1_000_000));
    Ok(())
}

/// Sets up, builds the programs and puts the image at `out` or its usual place.
pub(crate) fn make(
    workspace: &Workspace,
    profile: Profile,
    flavour: Flavour,
    arguments: &[String],
    out: Option<PathBuf>,
) -> Result<PathBuf> {
    setup::ensure(workspace)?;
    let built = build::programs(workspace, profile)?;
    put_together(workspace, &built, profile, flavour, arguments, out)
}

/// Puts the image of programs that are in the directory `built` at `out` or its usual place.
pub(crate) fn put_together(
    workspace: &Workspace,
    built: &Path,
    profile: Profile,
    flavour: Flavour,
    arguments: &[String],
    out: Option<PathBuf>,
) -> Result<PathBuf> {
    let binaries = build::binaries(workspace, built, profile, flavour)?;
    let out = match out {
        Some(out) => std::path::absolute(out).context("find the current directory")?,
        None => place(workspace, flavour),
    };
    console::step(&format!("putting {} together", out.display()));
    let options = Options {
        sources: workspace.sources(),
        binaries,
        flavour,
        profile,
        arguments: arguments.to_vec(),
    };
    image::build::image(&options, &out)?;
    Ok(out)
}

/// Where the image of a flavour is unless the user says otherwise.
pub(crate) fn place(workspace: &Workspace, flavour: Flavour) -> PathBuf {
    match flavour {
        Flavour::Release => workspace.zos("zos.iso"),
        Flavour::Test => workspace.zos("test/zos.iso"),
    }
}
