//! `cargo xtask bench ledger`: the chain's speed beside its peers or limits, in one run.
//!
//! Small pieces are measured by criterion, whole processes by the crate `ledger-bench`, which says what is measured how.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Figure, Goal, Value};
use crate::workspace::Workspace;
use crate::{console, process, run_directory};

/// Cargo's profile and its directory.
const PROFILE: &str = "measured";
/// Pause between blocks that `ledgerd init` gives a chain, in milliseconds.
const INTERVAL_MS: u32 = 1_000;
/// The shortest that a chain may have.
const SHORTEST_MS: u32 = 100;
/// Nanoseconds of a microsecond.
const MICROSECOND: f64 = 1_000.0;

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Contracts on the chain.
    #[arg(long, default_value_t = 1_000_000)]
    contracts: u32,
    /// Use the chain that `ledger-bench grow` made in this directory instead of making one.
    #[arg(long, value_name = "DIR")]
    chain: Option<PathBuf>,
    /// How long transactions are counted, in seconds, for each kind and number of validators.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            contracts: 1_000_000,
            chain: None,
            seconds: 20,
        }
    }
}

/// Builds what is measured, makes the chain, and measures.
pub(super) fn measure(workspace: &Workspace, arguments: &Arguments) -> Result<Vec<Figure>> {
    let directory = run_directory::fresh(&workspace.zos("bench"))?;
    let bench = Bench::build(workspace, directory.path())?;
    let chain = match &arguments.chain {
        Some(chain) => fs::canonicalize(chain).with_context(|| format!("open {}", chain.display()))?,
        None => bench.grow(arguments.contracts)?,
    };
    let micro = bench.micro(workspace, &chain)?;
    let mut figures = vec![
        ratio(
            "verify_ratio_of_strict",
            micro.time("signatures/bare")? / micro.time("signatures/block")?,
            Some(Goal::AtLeast(Value::Real(0.8))),
        ),
        real("read_by_id_us", micro.time("reads/ledger_by_id")? / MICROSECOND, "µs"),
        real(
            "read_by_index_us",
            micro.time("reads/ledger_by_index")? / MICROSECOND,
            "µs",
        ),
        ratio(
            "read_time_ratio_of_redb",
            micro.read_ratio()?,
            Some(Goal::AtMost(Value::Real(2.0))),
        ),
    ];
    for size in ["1e3", "1e5", "1e6"] {
        let microseconds = Value::real(micro.time(&format!("proofs/{size}"))? / MICROSECOND);
        figures.push(Figure {
            goal: (size == "1e6").then_some(Goal::AtMost(Value::Real(100.0))),
            ..figure(&format!("proof_verify_us_{size}"), microseconds, "µs")
        });
    }
    figures.extend(whole(&bench.told(&["whole", "--dir"], Some(&chain), true)?)?);
    for validators in [1, 4] {
        figures.extend(bench.throughput(validators, INTERVAL_MS, arguments.seconds)?);
        figures.extend(bench.throughput(validators, SHORTEST_MS, arguments.seconds)?);
    }
    Ok(figures)
}

fn figure(name: &str, value: Value, unit: &'static str) -> Figure {
    Figure {
        bench: "ledger",
        figure: name.to_owned(),
        value,
        unit,
        goal: None,
    }
}

fn real(name: &str, value: f64, unit: &'static str) -> Figure {
    figure(name, Value::real(value), unit)
}

fn ratio(name: &str, value: f64, goal: Option<Goal>) -> Figure {
    Figure {
        goal,
        ..real(name, value, "")
    }
}

/// What `ledger-bench` says.
#[derive(Debug, Deserialize)]
struct Told {
    figure: String,
    value: f64,
}

fn told(all: &[Told], name: &str) -> Result<f64> {
    let found = all.iter().find(|told| told.figure == name);
    Ok(found.with_context(|| format!("ledger-bench did not say {name}"))?.value)
}

/// Figures of the chain as a whole, with their units and goals.
fn whole(all: &[Told]) -> Result<Vec<Figure>> {
    let at_most = |value| Some(Goal::AtMost(Value::Count(value)));
    let rows = [
        ("proof_bytes_1e3", "proof_bytes_1e3", None),
        ("proof_bytes_1e5", "proof_bytes_1e5", None),
        ("proof_bytes_1e6", "proof_bytes_1e6", at_most(2_047)),
        ("node_start_bytes", "node_start_bytes_1e6", at_most(1 << 20)),
        ("ledgerd_rss_bytes", "ledgerd_rss_bytes_1e6", None),
        (
            "disk_bytes_per_contract_version",
            "disk_bytes_per_contract_version",
            None,
        ),
    ];
    let mut figures = Vec::new();
    for (name, shown, goal) in rows {
        let value = Value::count(told(all, name)?);
        figures.push(Figure {
            goal,
            ..figure(shown, value, "B")
        });
    }
    figures.push(real("node_start_ms_1e6", told(all, "node_start_ms")?, "ms"));
    Ok(figures)
}

/// The programs that measure, and where they work.
struct Bench<'a> {
    directory: &'a Path,
    bench: PathBuf,
    ledgerd: PathBuf,
}

impl<'a> Bench<'a> {
    fn build(workspace: &Workspace, directory: &'a Path) -> Result<Self> {
        console::step("building ledgerd and what measures it");
        let mut command = workspace.cargo();
        command.args(["build", "--profile", PROFILE, "--bins"]);
        command.args(["--package", "ledger-bench", "--package", "ledger-node"]);
        process::run(&mut command).context("build the bench")?;
        let programs = workspace.programs(PROFILE);
        Ok(Self {
            directory,
            bench: programs.join("ledger-bench"),
            ledgerd: programs.join("ledgerd"),
        })
    }

    fn grow(&self, contracts: u32) -> Result<PathBuf> {
        console::step(&format!("making a chain of {contracts} contracts"));
        let chain = self.directory.join("chain");
        let mut command = Command::new(&self.bench);
        command
            .args(["grow", "--contracts", &contracts.to_string(), "--dir"])
            .arg(&chain);
        process::run(&mut command)?;
        Ok(chain)
    }

    /// What criterion measures.
    fn micro(&self, workspace: &Workspace, chain: &Path) -> Result<Micro> {
        let home = self.directory.join("criterion");
        let mut command = workspace.cargo();
        command.args(["bench", "--profile", PROFILE, "--package", "ledger-bench", "--benches"]);
        command.env("CRITERION_HOME", &home).env("LEDGER_BENCH_DIR", chain);
        // What is printed here is the figures alone.
        command.stdout(Stdio::from(std::io::stderr()));
        process::run(&mut command)?;
        Ok(Micro(home))
    }

    fn told(&self, arguments: &[&str], directory: Option<&Path>, ledgerd: bool) -> Result<Vec<Told>> {
        let mut command = Command::new(&self.bench);
        command.args(arguments).args(directory);
        if ledgerd {
            command.arg("--ledgerd").arg(&self.ledgerd);
        }
        let lines = process::output(&mut command)?;
        let parse = |line| serde_json::from_str(line).with_context(|| format!("ledger-bench said {line}"));
        lines.lines().map(parse).collect()
    }

    /// The ledger's transactions beside those of the bare engine.
    fn throughput(&self, validators: u16, interval_ms: u32, seconds: u32) -> Result<Vec<Figure>> {
        console::step(&format!(
            "counting transactions of {validators} validators with a block each {interval_ms} ms"
        ));
        let run = |kind: &str, ledgerd| {
            let place = self.directory.join(format!("{kind}-{validators}-{interval_ms}"));
            let (validators, interval) = (validators.to_string(), interval_ms.to_string());
            let seconds = seconds.to_string();
            let mut arguments = vec!["throughput", "--validators", &validators, "--interval-ms", &interval];
            arguments.extend(["--seconds", &seconds, "--dir"]);
            self.told(&arguments, Some(&place), ledgerd)
        };
        let (bare, ledger) = (run("bare", false)?, run("ledger", true)?);
        let paced = interval_ms == INTERVAL_MS;
        let suffix = if paced {
            String::new()
        } else {
            format!("_{interval_ms}_ms")
        };
        let mut figures = Vec::new();
        for (name, all) in [("bare_", &bare), ("", &ledger)] {
            for (figure, unit) in [("tx_per_s", "1/s"), ("p50_ms", "ms"), ("p99_ms", "ms")] {
                let shown = format!("{name}{figure}_{validators}{suffix}");
                figures.push(real(&shown, told(all, figure)?, unit));
            }
        }
        figures.push(ratio(
            &format!("tx_ratio_of_bare_engine_{validators}{suffix}"),
            told(&ledger, "tx_per_s")? / told(&bare, "tx_per_s")?,
            paced.then_some(Goal::AtLeast(Value::Real(0.7))),
        ));
        Ok(figures)
    }
}

/// Where criterion keeps what it measured.
struct Micro(PathBuf);

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

impl Micro {
    /// The median of a bench in nanoseconds.
    fn time(&self, bench: &str) -> Result<f64> {
        let path = self.0.join(bench).join("new/estimates.json");
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let estimates: Estimates =
            serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))?;
        Ok(estimates.median.point_estimate)
    }

    /// The worse of both kinds of reading.
    fn read_ratio(&self) -> Result<f64> {
        let by_id = self.time("reads/ledger_by_id")? / self.time("reads/redb_by_id")?;
        let by_index = self.time("reads/ledger_by_index")? / self.time("reads/redb_by_index")?;
        Ok(by_id.max(by_index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterions_median_is_read_and_the_worse_ratio_counts() {
        let directory = tempfile::tempdir().unwrap();
        let medians = [
            ("ledger_by_id", 3.0),
            ("redb_by_id", 2.0),
            ("ledger_by_index", 8.0),
            ("redb_by_index", 4.0),
        ];
        for (bench, median) in medians {
            let place = directory.path().join("reads").join(bench).join("new");
            fs::create_dir_all(&place).unwrap();
            let text = format!(r#"{{"mean":{{"point_estimate":9.0}},"median":{{"point_estimate":{median}}}}}"#);
            fs::write(place.join("estimates.json"), text).unwrap();
        }
        let micro = Micro(directory.path().to_owned());
        assert_eq!(micro.read_ratio().unwrap(), 2.0);
        let missing = micro.time("reads/other").unwrap_err();
        assert!(format!("{missing:#}").contains("reads/other/new/estimates.json"));
    }

    #[test]
    fn a_figure_that_is_not_said_is_missed_by_its_name() {
        let all = [Told {
            figure: "proof_bytes_1e3".into(),
            value: 7.0,
        }];
        let missing = whole(&all).unwrap_err();
        assert_eq!(missing.to_string(), "ledger-bench did not say proof_bytes_1e5");
    }
}
