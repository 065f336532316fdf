//! The workload that keeps a journal, deployed on a grid.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{App, Grid, Tunnel};
use crate::journal::Status;
use crate::workload::write_layout;

/// Its name, and its image's.
pub const JOURNAL: &str = "journal";
/// Port that it answers on.
pub const JOURNAL_PORT: u16 = 80;

/// Periods that it is paid for: an hour and more.
const PERIODS: u32 = 720;
/// Until it has written what is waited for.
const WRITTEN: Duration = Duration::from_secs(120);
/// Between two questions how far it is.
const PAUSE: Duration = Duration::from_millis(200);
/// Digits of a contract's id that the node's console shows.
const SHOWN: usize = 8;

impl Grid {
    /// Deploys the journal, whose program is `program`, with its records on a volume, and returns the beginning of its
    /// contract's id.
    ///
    /// # Errors
    /// If it does not run in the end.
    pub fn deploy_journal(&self, program: &Path) -> Result<String> {
        let layout = self.directory().join("journal-image");
        let port = JOURNAL_PORT.to_string();
        let demo = App::demo(PERIODS);
        let mount = demo.volume.as_ref().context("the demo has a volume")?.mount.clone();
        write_layout(program, &[&port, &mount], &[JOURNAL_PORT], &layout)?;
        self.push(&layout, JOURNAL)?;
        let app = App {
            name: JOURNAL.to_owned(),
            image: JOURNAL.to_owned(),
            ports: vec![JOURNAL_PORT],
            ..demo
        };
        let deployment = self.customer().deploy(&app.write_in(self.directory())?, |_| {})?;
        let contract = deployment["contract"].as_str().and_then(|id| id.get(..SHOWN));
        contract.map(str::to_owned).context("the deployment has no contract")
    }

    /// Sees that the journal runs on under the contract whose id begins with `contract`.
    ///
    /// # Errors
    /// If it does not, or does under another one.
    pub fn keeps_journal(&self, contract: &str) -> Result<()> {
        let deployment = self.customer().deployment(JOURNAL)?;
        let is_same = deployment["contract"]
            .as_str()
            .is_some_and(|id| id.starts_with(contract));
        ensure!(deployment["state"] == "active" && is_same, "{deployment}");
        Ok(())
    }

    /// Opens a tunnel to the journal.
    ///
    /// # Errors
    /// If its node cannot be reached.
    pub fn journal(&self) -> Result<Tunnel> {
        self.customer().tunnel(JOURNAL, JOURNAL_PORT)
    }
}

impl Tunnel {
    /// What the journal says, once it answers.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<Status> {
        Status::parse(&self.first_answer("/")?.text())
    }

    /// What the journal says once it has flushed `records`.
    ///
    /// # Errors
    /// If that takes more than two minutes.
    pub fn status_after(&self, records: u64) -> Result<Status> {
        let deadline = Instant::now() + WRITTEN;
        loop {
            let status = self.status()?;
            if status.flushed >= records {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "record {records} is not written: {status:?}");
            thread::sleep(PAUSE);
        }
    }

    /// Has the journal read all its records, and returns up to which all are whole.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn whole_records(&self) -> Result<u64> {
        let text = self.first_answer("/verify")?.text();
        text.trim().parse().with_context(|| format!("read the answer {text}"))
    }
}
