//! `cargo xtask bench size`: what the image and its programs weigh.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image::{Flavour, Profile};

use super::{Figure, Value};
use crate::workspace::Workspace;
use crate::{build, iso};

/// The most that the ISO may be, in bytes, with all drivers.
const ISO_GOAL: Value = Value::Count(80_000_000);

/// Builds the release image and weighs it.
pub(super) fn measure(workspace: &Workspace) -> Result<Vec<Figure>> {
    let out = workspace.zos("release/zos.iso");
    let iso = iso::make(workspace, Profile::Release, Flavour::Release, &[], Some(out))?;
    let mut figures = vec![figure("iso_bytes", &iso, Some(ISO_GOAL))?];
    let programs = build::programs(workspace, Profile::Release)?;
    for program in build::PROGRAMS {
        let name = format!("{}_bytes", program.replace('-', "_"));
        figures.push(figure(&name, &programs.join(program), None)?);
    }
    Ok(figures)
}

fn figure(name: &str, path: &Path, goal: Option<Value>) -> Result<Figure> {
    let value = fs::metadata(path)
        .with_context(|| format!("weigh {}", path.display()))?
        .len();
    Ok(Figure {
        bench: "size",
        figure: name.to_owned(),
        value: Value::Count(value),
        unit: "B",
        goal,
    })
}
