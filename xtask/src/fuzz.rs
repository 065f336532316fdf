//! `cargo xtask fuzz`: inputs that nobody thought of, for whatever reads what others wrote.
//!
//! The targets are in `fuzz/`, a workspace of its own that is built with the fuzzer's instrumentation. Their first inputs are
//! in `fuzz/corpus`; what a run finds beside them is kept under `target/zos/fuzz`.

use std::collections::VecDeque;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::Workspace;
use crate::{console, process, setup};

/// What the fuzzer learns from: every edge, by counters, and what is compared with what.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";
/// How long CI fuzzes, in seconds, all targets together.
const CI_SECONDS: u64 = 300;
/// Longest input in bytes.
const LONGEST: &str = "-max_len=65536";
/// Most memory of a target in megabytes.
const MEMORY: &str = "-rss_limit_mb=1024";
/// Longest time for one input in seconds.
const SLOWEST: &str = "-timeout=20";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which targets; all without one.
    targets: Vec<String>,
    /// How long, in seconds, all targets together; 0 replays the corpus alone.
    #[arg(long, default_value_t = CI_SECONDS)]
    seconds: u64,
    /// Write the corpus anew from true values, after a format has changed, and end.
    #[arg(long)]
    seeds: bool,
}

impl Arguments {
    /// What CI does.
    pub(crate) const fn ci() -> Self {
        Self {
            targets: Vec::new(),
            seconds: CI_SECONDS,
            seeds: false,
        }
    }
}

/// Replays the corpus, then fuzzes.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let fuzz = workspace.root().join("fuzz");
    if arguments.seeds {
        return write_seeds(workspace, &fuzz);
    }
    setup::ensure(workspace)?;
    let known = targets(&fuzz)?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let chosen = if arguments.targets.is_empty() {
        known
    } else {
        arguments.targets.clone()
    };
    let programs = build(workspace, &fuzz)?;
    let runner = Runner {
        fuzz,
        programs,
        found: workspace.zos("fuzz"),
    };
    let (workers, count) = (workers(), u64::try_from(chosen.len())?);
    runner.all(&chosen, workers, |target| runner.replay(target))?;
    if arguments.seconds > 0 {
        let each = (arguments.seconds * u64::try_from(workers)?)
            .div_ceil(count)
            .min(arguments.seconds);
        console::step(&format!("fuzzing {count} targets for {each} s each"));
        runner.all(&chosen, workers, |target| runner.fuzz(target, each))?;
    }
    Ok(())
}

fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The targets by name: those that have a corpus.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let corpus = fuzz.join("corpus");
    let entries = fs::read_dir(&corpus).with_context(|| format!("list {}", corpus.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("list {}", corpus.display()))?.file_name();
        targets.push(name.into_string().ok().context("the name of a fuzz target")?);
    }
    targets.sort();
    Ok(targets)
}

/// Builds all targets. Returns where they are.
fn build(workspace: &Workspace, fuzz: &Path) -> Result<PathBuf> {
    console::step("building the fuzz targets");
    let target = workspace.target().join("fuzz");
    let mut command = workspace.cargo();
    command.args(["build", "--quiet", "--locked", "--release", "--bins", "--manifest-path"]);
    command.arg(fuzz.join("Cargo.toml"));
    command
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env("CARGO_TARGET_DIR", &target);
    process::run(&mut command).context("build the fuzz targets")?;
    Ok(target.join("x86_64-unknown-linux-gnu/release"))
}

fn write_seeds(workspace: &Workspace, fuzz: &Path) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--features",
        "seeds",
        "--bin",
        "seeds",
        "--manifest-path",
    ]);
    process::run(command.arg(fuzz.join("Cargo.toml"))).context("write the corpus")
}

struct Runner {
    fuzz: PathBuf,
    programs: PathBuf,
    found: PathBuf,
}

impl Runner {
    /// Does something with each target, several at a time. Every failure is told, and any is one of the whole.
    fn all(&self, targets: &[String], workers: usize, work: impl Fn(&str) -> Result<String> + Sync) -> Result<()> {
        let waiting = Mutex::new(targets.iter().collect::<VecDeque<_>>());
        let failed = Mutex::new(Vec::new());
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(target) = next() {
                        match work(target) {
                            Ok(line) => console::result(&line),
                            Err(error) => {
                                console::error(&format!("{error:#}"));
                                failed
                                    .lock()
                                    .unwrap_or_else(PoisonError::into_inner)
                                    .push(target.clone());
                            }
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(failed.is_empty(), "fuzz targets failed: {}", failed.join(", "));
        Ok(())
    }

    fn corpus(&self, target: &str) -> PathBuf {
        self.fuzz.join("corpus").join(target)
    }

    fn command(&self, target: &str) -> Result<Command> {
        let artifacts = self.found.join("artifacts").join(target);
        fs::create_dir_all(&artifacts).with_context(|| format!("make {}", artifacts.display()))?;
        let mut command = Command::new(self.programs.join(target));
        command.args([LONGEST, MEMORY, SLOWEST, "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        Ok(command)
    }

    fn replay(&self, target: &str) -> Result<String> {
        let corpus = self.corpus(target);
        let mut command = self.command(target)?;
        let ended = finished(target, command.arg("-runs=0").arg(&corpus))?;
        Ok(format!(
            "{target:<10} corpus replayed: {} inputs",
            stat(&ended, "number_of_executed_units")?
        ))
    }

    fn fuzz(&self, target: &str, seconds: u64) -> Result<String> {
        let found = self.found.join("corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("make {}", found.display()))?;
        let mut command = self.command(target)?;
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(&found)
            .arg(self.corpus(target));
        let ended = finished(target, &mut command)?;
        Ok(format!(
            "{target:<10} {} inputs, {} of them new, the slowest took {} s",
            stat(&ended, "number_of_executed_units")?,
            stat(&ended, "new_units_added")?,
            stat(&ended, "slowest_unit_time_sec")?,
        ))
    }
}

/// Runs a target to its end and returns what it said.
fn finished(target: &str, command: &mut Command) -> Result<String> {
    let ended = command
        .output()
        .with_context(|| format!("start the fuzz target {target}"))?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    if ended.status.success() {
        return Ok(said);
    }
    let program = command.get_program().to_string_lossy().into_owned();
    bail!("{}", failure(target, &program, &said))
}

/// What a person needs to see the failure again.
fn failure(target: &str, program: &str, said: &str) -> String {
    let why = said
        .lines()
        .find(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let detail = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"))
        .nth(1)
        .unwrap_or_default();
    let input = said.lines().find_map(|line| line.split_once("Test unit written to "));
    let again = input.map_or_else(String::new, |(_, path)| format!("; again: {program} {path}"));
    format!(
        "{target}: {} {detail}{again}",
        why.unwrap_or("it ended without saying why")
    )
}

/// A figure of those that a target says at its end.
fn stat<'a>(said: &'a str, name: &str) -> Result<&'a str> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.with_context(|| format!("the fuzzer did not say {name}"))?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_and_how_to_see_it_again() {
        let said = "INFO: Seed: 1\nthread '<unnamed>' panicked at targets/values.rs:9:5:\nnot canonical\n==7== ERROR: libFuzzer: \
            deadly signal\nartifact_prefix='a/'; Test unit written to a/crash-1\n";
        let expected =
            "values: thread '<unnamed>' panicked at targets/values.rs:9:5: not canonical; again: bin/values a/crash-1";
        assert_eq!(failure("values", "bin/values", said), expected);
        assert_eq!(failure("values", "v", ""), "values: it ended without saying why ");
    }

    #[test]
    fn figures_are_read_by_name() {
        let said = "stat::number_of_executed_units: 4352901\nstat::new_units_added:          3000\n";
        assert_eq!(stat(said, "new_units_added").unwrap(), "3000");
        assert!(stat(said, "peak_rss_mb").is_err());
    }

    #[test]
    fn every_target_has_a_program_and_a_corpus() {
        let fuzz = Workspace::find().unwrap().root().join("fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let targets = targets(&fuzz).unwrap();
        for target in &targets {
            assert!(
                manifest.contains(&format!("path = \"targets/{target}.rs\"")),
                "{target}"
            );
        }
        assert_eq!(manifest.matches("path = \"targets/").count(), targets.len());
    }
}
