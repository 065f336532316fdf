//! `cargo xtask demo-image`: the demo workload.

use std::path::PathBuf;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{console, setup};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Directory for the OCI image layout; one that is there is replaced. Without this, target/zos/demo-image.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Builds the OCI image and says where it is.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace)?;
    let out = arguments.out.clone().unwrap_or_else(|| workspace.zos("demo-image"));
    image::demo::build(&workspace.sources(), &out)?;
    console::result(&out.display().to_string());
    Ok(())
}
