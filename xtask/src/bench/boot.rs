//! `cargo xtask bench boot`: how long a node takes to be ready, and how long the stages of the demo take.
//!
//! What happens inside the node alone is measured by a clock that counts instructions, so that it is the same in each run
//! and on each computer. The time is the kernel's own, which begins when the kernel starts its clocks. The node has its
//! data disk and identity already, as at every boot but the first, and boots without firmware.
//!
//! The demo's stages wait for programs beside the machine; their times are those of a clock on the wall, the median of
//! some runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use image::{Flavour, Profile};
use node_api::milestone;
use qemu_tests::{Acceleration, Bus, Config, Disk, Machine, OnReset, boot_directly};

use super::{Figure, Goal, Value};
use crate::workspace::Workspace;
use crate::{iso, run, run_directory};

/// The most that userland may take to be ready, in seconds.
const READY_GOAL: Goal = Goal::AtMost(Value::Real(0.8));
/// Size of the node's disk in bytes.
const DISK: u64 = 1 << 30;
/// For a boot without a clock that counts, and for one with it, which is some times slower.
const PATIENCE: Duration = Duration::from_secs(600);

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How often the demo runs; 0 leaves it out.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Measure an image that is there instead of building the release image; without the demo.
    #[arg(long, value_name = "ISO")]
    image: Option<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { runs: 3, image: None }
    }
}

/// Builds the release image, boots it, and runs the demo with it.
pub(super) fn measure(workspace: &Workspace, arguments: &Arguments) -> Result<Vec<Figure>> {
    let directory = run_directory::fresh(&workspace.zos("bench"))?;
    if let Some(image) = &arguments.image {
        return counted(image, directory.path());
    }
    let out = workspace.zos("release/zos.iso");
    let iso = iso::make(workspace, Profile::Release, Flavour::Release, &[], Some(out))?;
    let mut figures = counted(&iso, directory.path())?;
    let mut runs = Vec::new();
    for number in 0..arguments.runs {
        let place = directory.path().join(number.to_string());
        runs.push(run::stages_of_a_run(workspace, Profile::Release, iso.clone(), &place)?);
    }
    figures.extend(medians(&runs));
    Ok(figures)
}

/// Boots twice: once for the disk and the identity, once to measure.
fn counted(iso: &Path, directory: &Path) -> Result<Vec<Figure>> {
    let disk = directory.join("disk.img");
    let made = File::create(&disk).and_then(|file| file.set_len(DISK));
    made.with_context(|| format!("make {}", disk.display()))?;
    let config = Config {
        on_reset: OnReset::End,
        disks: vec![Disk {
            bus: Bus::Nvme,
            ..Disk::file(disk, "data-1")
        }],
        ..Config::new(boot_directly(iso, &[], None, directory)?)
    };
    let mut first = Machine::start(&config, &directory.join("first"))?;
    first.console.wait_for("agent: identity ", PATIENCE)?;
    first.console.wait_for("init: agent ready", PATIENCE)?;
    first.power_off(PATIENCE)?;

    let config = Config {
        acceleration: Acceleration::Counted,
        processors: 1,
        ..config
    };
    let mut machine = Machine::start(&config, &directory.join("counted"))?;
    let mut at = |text: &str| -> Result<Duration> {
        let line = machine.console.wait_for(text, PATIENCE)?;
        let (uptime, _, _) = milestone::parse(&line).with_context(|| format!("{line:?} is no milestone"))?;
        Ok(uptime)
    };
    let init = at("init: mounts")?;
    let ready = at("init: agent ready")?;
    machine.cut_power();
    fs::remove_file(directory.join("disk.img")).context("remove the disk")?;
    Ok(vec![
        figure("kernel_entry_to_init_s", init, None),
        figure("userland_init_to_ready_s", ready.saturating_sub(init), Some(READY_GOAL)),
        figure("kernel_entry_to_ready_s", ready, None),
    ])
}

fn figure(name: &str, time: Duration, goal: Option<Goal>) -> Figure {
    Figure {
        bench: "boot",
        figure: name.to_owned(),
        value: Value::time(time),
        unit: "s",
        goal,
    }
}

/// The median of each stage, and of their sum.
fn medians(runs: &[Vec<(String, f64)>]) -> Vec<Figure> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let mut figures: Vec<Figure> = first
        .iter()
        .map(|(stage, _)| {
            let times = runs
                .iter()
                .filter_map(|run| run.iter().find(|(name, _)| name == stage))
                .map(|(_, seconds)| *seconds);
            let name = stage.to_lowercase().replace([' ', '-'], "_");
            figure(&format!("wall_{name}_s"), median(times), None)
        })
        .collect();
    let sums = runs.iter().map(|run| run.iter().map(|(_, seconds)| seconds).sum());
    figures.push(figure("wall_all_stages_s", median(sums), None));
    figures
}

/// The middle one, or the later of the middle two.
fn median(times: impl Iterator<Item = f64>) -> Duration {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    Duration::from_secs_f64(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_stage_by_stage() {
        let run = |chain: f64, offer: f64| vec![("chain up".to_owned(), chain), ("counter-offer".to_owned(), offer)];
        let figures = medians(&[run(1.0, 9.0), run(3.0, 7.0), run(2.0, 8.0)]);
        let shown: Vec<_> = figures.iter().map(|f| (f.figure.as_str(), f.value)).collect();
        assert_eq!(
            shown,
            [
                ("wall_chain_up_s", Value::Real(2.0)),
                ("wall_counter_offer_s", Value::Real(8.0)),
                ("wall_all_stages_s", Value::Real(10.0)),
            ]
        );
        assert_eq!(medians(&[]), []);
    }
}
