//! A 3bot: its home, its daemon, and what its command line answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{HOST, Programs, Stage, Tunnel, program::Program};
use crate::ports::free_udp_port;

/// For a command that asks the daemon.
const COMMAND: Duration = Duration::from_secs(120);
/// Until the daemon stands on the chain.
const READY: Duration = Duration::from_secs(60);
/// Until an application runs.
const DEPLOY: Duration = Duration::from_secs(900);

/// A 3bot whose identity needs no passphrase.
#[derive(Debug)]
pub struct Bot {
    name: String,
    threebot: PathBuf,
    home: PathBuf,
    daemon: Option<Program>,
}

impl Bot {
    /// Makes a bot's home in `directory`. Machines in QEMU and programs beside it reach it at the same port.
    pub(super) fn init(programs: &Programs, directory: &Path, name: &str) -> Result<Self> {
        let bot = Self {
            name: name.to_owned(),
            threebot: programs.threebot.clone(),
            home: directory.join(name),
            daemon: None,
        };
        let port = free_udp_port().context("find a port for a bot")?;
        let (here, from_machines) = (format!("127.0.0.1:{port}"), format!("{HOST}:{port}"));
        let words = [
            "init",
            "--no-passphrase",
            "--name",
            name,
            "--listen",
            &here,
            "--advertise",
            &here,
            "--advertise",
            &from_machines,
        ];
        bot.run(&words)?;
        Ok(bot)
    }

    /// Writes its entity's record into a file in `directory`, for a genesis.
    pub(super) fn entity_in(&self, directory: &Path) -> Result<PathBuf> {
        let file = directory.join(format!("{}.json", self.name()));
        fs::write(&file, self.run(&["entity"])?).with_context(|| format!("write {}", file.display()))?;
        Ok(file)
    }

    /// Says on which chain it is.
    pub(super) fn join(&self, genesis: &str, peer: &str) -> Result<()> {
        self.run(&["chain", "--genesis", genesis, "--peer", peer]).map(drop)
    }

    /// Starts its daemon and waits until it stands on the chain.
    ///
    /// # Errors
    /// If it cannot be started or does not get ready. The error has what it said.
    pub fn serve(&mut self) -> Result<()> {
        let daemon = Program::start(&self.threebot, &self.words(&["serve", "--json"]), &self.log())?;
        daemon.ready(READY)?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills its daemon.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory, for `threebot --home`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Runs `threebot` with these words and returns what it printed.
    ///
    /// # Errors
    /// If it fails or does not answer in two minutes; what it said is in the error.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        Program::run(&self.threebot, &self.words(words), &self.command_log(), COMMAND)
    }

    /// Runs `threebot --json` with these words and returns what it printed.
    ///
    /// # Errors
    /// As [`Self::run`], and if that is no JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let words: Vec<&str> = ["--json"].into_iter().chain(words.iter().copied()).collect();
        let output = self.run(&words)?;
        serde_json::from_str(&output).with_context(|| format!("read the answer to threebot {}", words.join(" ")))
    }

    /// Deploys the application that `app` describes and waits until it runs; `reached` hears of each stage. Returns what
    /// the bot says of the deployment.
    ///
    /// # Errors
    /// If it does not run in the end; what the bot said is in the error.
    pub fn deploy(&self, app: &Path, mut reached: impl FnMut(&Stage)) -> Result<Value> {
        let app = app.display().to_string();
        let words = self.words(&["--json", "deploy", &app]);
        let deploying = Program::start(&self.threebot, &words, &self.command_log())?;
        let deadline = Instant::now() + DEPLOY;
        let mut last = None;
        while let Some(line) = deploying.line(deadline)? {
            let value: Value = serde_json::from_str(&line).with_context(|| format!("read the stage {line}"))?;
            match Stage::read(&value) {
                Some(stage) => reached(&stage),
                None => last = Some(value),
            }
        }
        deploying.end()?;
        last.context("the bot did not say what it deployed")
    }

    /// The deployment `name` as `threebot ps` shows it.
    ///
    /// # Errors
    /// If the bot does not answer or knows no such deployment.
    pub fn deployment(&self, name: &str) -> Result<Value> {
        let Value::Array(all) = self.json(&["ps"])? else {
            bail!("threebot ps gave no list");
        };
        let found = all.into_iter().find(|deployment| deployment["name"] == name);
        found.with_context(|| format!("threebot ps has no deployment {name}"))
    }

    /// Opens a port of this computer that leads to `port` of the deployment `name`.
    ///
    /// # Errors
    /// If the deployment has no such port or its node cannot be reached.
    pub fn tunnel(&self, name: &str, port: u16) -> Result<Tunnel> {
        let ports = format!("0:{port}");
        let log = self.home.with_file_name(format!("tunnel-{name}-{port}.log"));
        let program = Program::start(&self.threebot, &self.words(&["--json", "tunnel", name, &ports]), &log)?;
        Tunnel::open(program)
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let home = self.home.display().to_string();
        let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        all.extend(["--home".to_owned(), home]);
        all
    }

    fn log(&self) -> PathBuf {
        self.home.with_extension("log")
    }

    /// What the last command said on its standard error.
    fn command_log(&self) -> PathBuf {
        self.home.with_file_name(format!("{}-command.log", self.name))
    }
}
