//! `cargo xtask bench`: figures of speed and size.

mod boot;
mod ledger;
mod size;

use std::fmt;
use std::time::Duration;

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
    /// From the kernel's start to a node that is ready, and the stages of the demo.
    Boot(boot::Arguments),
    /// The chain: its speed, its proofs, what it takes of memory and disk with a million contracts.
    Ledger(ledger::Arguments),
    /// Bytes of the release image and of each program.
    Size,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Figure {
    bench: &'static str,
    figure: String,
    value: Value,
    unit: &'static str,
    /// What it should be, where there is a limit.
    #[serde(skip)]
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    AtMost(Value),
    AtLeast(Value),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(value) => write!(f, "at most {value}"),
            Self::AtLeast(value) => write!(f, "at least {value}"),
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
enum Value {
    Count(u64),
    /// A ratio, or a time or a rate in the figure's unit, to the thousandth.
    Real(f64),
}

impl Value {
    fn time(time: Duration) -> Self {
        Self::real(time.as_secs_f64())
    }

    /// A number of whole things.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no other way; counts are not that large"
    )]
    fn count(value: f64) -> Self {
        Self::Count(value.max(0.0).round() as u64)
    }

    fn real(value: f64) -> Self {
        Self::Real((value * 1000.0).round() / 1000.0)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Real(value) => format!("{value:.3}").fmt(f),
        }
    }
}

/// Measures and prints.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let show = |figures: Vec<Figure>| -> Result<()> {
        for figure in &figures {
            console::result(&if arguments.json {
                serde_json::to_string(figure)?
            } else {
                row(figure)
            });
        }
        Ok(())
    };
    match &arguments.bench {
        Some(Bench::Boot(options)) => show(boot::measure(workspace, options)?),
        Some(Bench::Ledger(options)) => show(ledger::measure(workspace, options)?),
        Some(Bench::Size) => show(size::measure(workspace)?),
        None => {
            show(size::measure(workspace)?)?;
            show(boot::measure(workspace, &boot::Arguments::default())?)?;
            show(ledger::measure(workspace, &ledger::Arguments::default())?)
        }
    }
}

fn row(figure: &Figure) -> String {
    let goal = figure.goal.map(|goal| format!("  ({goal})")).unwrap_or_default();
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
            value: Value::Count(7),
            unit: "B",
            goal: Some(Goal::AtMost(Value::Count(80_000_000))),
        };
        let line = serde_json::to_string(&figure).unwrap();
        assert_eq!(line, r#"{"bench":"size","figure":"iso_bytes","value":7,"unit":"B"}"#);
    }

    #[test]
    fn times_have_three_places() {
        let value = Value::time(Duration::from_micros(742_499));
        assert_eq!(serde_json::to_string(&value).unwrap(), "0.742");
        assert_eq!(format!("{value:>8}"), "   0.742");
    }
}
