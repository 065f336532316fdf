//! `cargo xtask run`: the whole of it on one computer, from nothing to the first answer of a workload.

mod demo;
mod stages;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use image::{Flavour, Profile};
use qemu_tests::Firmware;
use qemu_tests::grid::Programs;

use crate::interrupt::{Heard, Listener};
use crate::workspace::Workspace;
use crate::{build, console, iso, run_directory};
use demo::{Demo, Sources};
use stages::{Shown, Stages};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Stop everything after the first answer.
    #[arg(long)]
    once: bool,
    /// Print each stage as a JSON object a line.
    #[arg(long)]
    json: bool,
    /// Build the programs optimized, as for farms.
    #[arg(long)]
    release: bool,
    /// Boot the node by UEFI instead of BIOS.
    #[arg(long)]
    uefi: bool,
}

/// Builds all, starts all, and stays until it is interrupted.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let profile = build::profile(arguments.release);
    let iso = iso::make(workspace, profile, Flavour::Release, &[], None)?;
    let firmware = if arguments.uefi { Firmware::Uefi } else { Firmware::Bios };
    console::step("building the demo workload's image");
    let sources = sources(workspace, profile, iso, firmware)?;
    let directory = run_directory::fresh(&workspace.zos("run"))?;
    console::step(&format!("all files of this run are in {}", directory.path().display()));

    let mut stages = Stages::new(if arguments.json { Shown::Json } else { Shown::Text });
    let listener = Listener::new()?;
    let place = directory.path().to_owned();
    // What is started here dies with this process, whatever ends it: see `qemu_tests`.
    listener.work(move || {
        let began = Instant::now();
        match Demo::start(&sources, &place, &mut stages) {
            Ok(demo) => Ok((demo, began.elapsed())),
            Err(error) => Err(error.context(stages.failed())),
        }
    })?;
    let (demo, elapsed) = match listener.wait()? {
        Heard::Interrupt => bail!("interrupted; everything is stopped"),
        Heard::Done(Ok(done)) => done,
        Heard::Done(Err(error)) => {
            report(directory.path());
            return Err(error);
        }
    };
    if !arguments.json {
        demo.show_answer();
    }
    if arguments.once {
        console::step(&format!(
            "done in {:.1} s, everything is stopped",
            elapsed.as_secs_f64()
        ));
        return Ok(());
    }
    demo.show_next_steps();
    // Nothing but an interrupt comes any more.
    listener.wait()?;
    console::step("everything is stopped");
    Ok(())
}

/// Builds the workload's image and finds the programs.
fn sources(workspace: &Workspace, profile: Profile, iso: PathBuf, firmware: Firmware) -> Result<Sources> {
    let image = workspace.zos("demo-image");
    image::demo::build(&workspace.sources(), &image)?;
    Ok(Sources {
        programs: Programs::find(&build::directory(workspace, profile))?,
        iso,
        image,
        firmware,
    })
}

/// Runs the demo once with an image and programs that were made before, in silence, and returns each stage with the seconds
/// that it took.
pub(crate) fn stages_of_a_run(
    workspace: &Workspace,
    profile: Profile,
    iso: PathBuf,
    directory: &Path,
) -> Result<Vec<(String, f64)>> {
    let sources = sources(workspace, profile, iso, Firmware::Bios)?;
    let mut stages = Stages::new(Shown::Nothing);
    match Demo::start(&sources, directory, &mut stages) {
        Ok(_demo) => Ok(stages.into_reached()),
        Err(error) => {
            report(directory);
            Err(error.context(stages.failed()))
        }
    }
}

/// Shows the last lines of every log, for somebody who is to find out what went wrong.
fn report(directory: &Path) {
    for (name, lines) in run_directory::last_lines_of_logs(directory) {
        console::step(&format!("last lines of {name}:"));
        for line in lines.lines() {
            console::step(&format!("    {line}"));
        }
    }
    console::step(&format!("all logs are in {}", directory.display()));
}
