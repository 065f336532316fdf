//! `cargo xtask ci`: exactly what CI runs.

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{console, fuzz, process, test};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the scenarios that run whole machines.
    #[arg(long)]
    fast: bool,
}

/// Stops at the first step that fails.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    console::step("format");
    process::run(workspace.cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    let of_fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    process::run(workspace.cargo().args(of_fuzz)).context("run `cargo fmt --manifest-path fuzz/Cargo.toml`")?;
    console::step("lints");
    let lints = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ];
    process::run(workspace.cargo().args(lints)).context("lints")?;
    console::step("licences, sources and bans");
    let deny = test::tool(workspace, "cargo-deny")?;
    let checks = [
        "--workspace",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ];
    process::run(workspace.cargo_tool(&deny).arg("deny").args(checks)).context("see deny.toml")?;
    console::step("documentation");
    let documentation = ["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"];
    process::run(
        workspace
            .cargo()
            .args(documentation)
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
    .context("documentation")?;
    console::step("fuzzing");
    fuzz::run(workspace, &fuzz::Arguments::ci()).context("fuzzing")?;
    console::step("tests");
    test::run(
        workspace,
        &test::Arguments {
            fast: arguments.fast,
            nextest: Vec::new(),
        },
    )
}
