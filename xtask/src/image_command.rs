//! `cargo xtask image verify`: whether a finished image is what its manifest says.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use image::{Flavour, verify};

use crate::workspace::Workspace;
use crate::{console, iso};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare every file of an image with the image's manifest. Finds corruption, not an attacker, who would have
    /// changed the manifest too.
    Verify {
        /// An ISO, or an initramfs.img as a network boots it. Without this, the last one built.
        image: Option<PathBuf>,
    },
}

/// Examines the image.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let Command::Verify { image } = &arguments.command;
    let image = image.clone().unwrap_or_else(|| iso::place(workspace, Flavour::Release));
    ensure!(
        image.exists(),
        "there is no {}: `cargo xtask iso` makes one",
        image.display()
    );
    let report = verify::image(&image)?;
    for problem in &report.problems {
        console::result(problem);
    }
    match &report.problems[..] {
        [] => {}
        [only] => bail!("{} is refused: {only}", image.display()),
        [first, rest @ ..] => bail!("{} is refused: {first}, and {} more", image.display(), rest.len()),
    }
    let farm = if report.farm {
        "with a farm's media"
    } else {
        "for any farm"
    };
    console::result(&format!("{}: sound, {} paths, {farm}", image.display(), report.paths));
    console::result(&format!("programs: {}", report.programs.join(" ")));
    Ok(())
}
