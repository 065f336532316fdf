//! `cargo xtask bench`: figures of speed and size.

mod size;

use anyhow::Result;
use serde::Serialize;

use crate::console;
use crate::workspace::Workspace;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Without one, all.
    #[command(subcommand)]
    bench: Option<Bench>,
    /// Print a JSON object a line instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Bytes of the release image and of each program.
    Size,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Figure {
    bench: &'static str,
    figure: String,
    value: u64,
    unit: &'static str,
    /// The most that it may be, where there is a limit.
    #[serde(skip)]
    goal: Option<u64>,
}

/// Measures and prints.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let figures = match arguments.bench {
        None | Some(Bench::Size) => size::measure(workspace)?,
    };
    for figure in &figures {
        console::result(&if arguments.json {
            serde_json::to_string(figure)?
        } else {
            row(figure)
        });
    }
    Ok(())
}

fn row(figure: &Figure) -> String {
    let goal = figure
        .goal
        .map(|goal| format!("  (at most {goal})"))
        .unwrap_or_default();
    format!(
        "{:<8} {:<28} {:>14} {}{goal}",
        figure.bench, figure.figure, figure.value, figure.unit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_line_has_the_documented_fields_in_order() {
        let figure = Figure {
            bench: "size",
            figure: "iso_bytes".into(),
            value: 7,
            unit: "B",
            goal: Some(80_000_000),
        };
        let line = serde_json::to_string(&figure).unwrap();
        assert_eq!(line, r#"{"bench":"size","figure":"iso_bytes","value":7,"unit":"B"}"#);
    }
}
