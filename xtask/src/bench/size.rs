//! `cargo xtask bench size`: what the image and its programs weigh, and what they hold in memory.
//!
//! Memory is read from the kernel's map of each process, in a node that runs the demo's workload, by the agent of the test
//! flavour of the image.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image::{Flavour, Profile};
use qemu_tests::grid::{App, Grid, NodeOptions, Programs, Terms};

use super::{Figure, Goal, Value};
use crate::workspace::Workspace;
use crate::{build, iso, run_directory};

/// The most that the ISO may be, in bytes, with all drivers.
const ISO_GOAL: Goal = Goal::AtMost(Value::Count(80_000_000));
/// The most that PID 1, the agent, and a monitor beyond its guest's memory may hold, in bytes.
const INIT_GOAL: Goal = Goal::AtMost(Value::Count(4 << 20));
const AGENT_GOAL: Goal = Goal::AtMost(Value::Count(48 << 20));
const MONITOR_GOAL: Goal = Goal::AtMost(Value::Count(6 << 20));
/// Digits that tell one contract of the node from another.
const SHOWN: usize = 8;
/// Periods that the workload is paid for: an hour and more.
const PERIODS: u32 = 720;

/// Builds the release image, weighs it and looks at it while it runs.
pub(super) fn measure(workspace: &Workspace) -> Result<Vec<Figure>> {
    let out = workspace.zos("release/zos.iso");
    let iso = iso::make(workspace, Profile::Release, Flavour::Release, &[], Some(out))?;
    let mut figures = vec![weight("iso_bytes", &iso, Some(ISO_GOAL))?];
    let programs = build::directory(workspace, Profile::Release);
    for program in build::PROGRAMS {
        let name = format!("{}_bytes", program.replace('-', "_"));
        figures.push(weight(&name, &programs.join(program), None)?);
    }
    figures.extend(memory(workspace)?);
    Ok(figures)
}

fn memory(workspace: &Workspace) -> Result<Vec<Figure>> {
    let out = workspace.zos("release/test.iso");
    let iso = iso::make(workspace, Profile::Release, Flavour::Test, &[], Some(out))?;
    let image = workspace.zos("demo-image");
    image::demo::build(&workspace.sources(), &image)?;
    let directory = run_directory::fresh(&workspace.zos("bench"))?;
    let programs = Programs::find(&build::directory(workspace, Profile::Release))?;
    let grid = Grid::start(&programs, directory.path())?;
    grid.create_farm(&Terms::default())?;
    let mut node = grid.boot_node(&NodeOptions {
        faults: true,
        ..NodeOptions::new("node", iso)
    })?;
    node.wait_until_registered()?;
    grid.push_demo(&image)?;
    let app = App::demo(PERIODS);
    let guest = u64::from(app.memory_mib) << 20;
    let deployment = grid.customer().deploy(&app.write_in(grid.directory())?, |_| {})?;
    let contract = deployment["contract"]
        .as_str()
        .and_then(|id| id.get(..SHOWN))
        .context("the deployment has no contract")?;
    grid.customer().tunnel(&app.name, 80)?.first_answer("/")?;
    let faults = node.faults()?;
    Ok(vec![
        figure("init_rss_bytes", faults.init_memory()?, Some(INIT_GOAL)),
        figure("agent_rss_bytes", faults.agent_memory()?, Some(AGENT_GOAL)),
        figure(
            "vmm_overhead_bytes",
            faults.monitor_memory(contract, guest)?,
            Some(MONITOR_GOAL),
        ),
    ])
}

fn weight(name: &str, path: &Path, goal: Option<Goal>) -> Result<Figure> {
    let value = fs::metadata(path)
        .with_context(|| format!("weigh {}", path.display()))?
        .len();
    Ok(figure(name, value, goal))
}

fn figure(name: &str, value: u64, goal: Option<Goal>) -> Figure {
    Figure {
        bench: "size",
        figure: name.to_owned(),
        value: Value::Count(value),
        unit: "B",
        goal,
    }
}
