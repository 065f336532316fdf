//! What a farmer's bot does for its farm.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Bot;

/// What a farm asks of its customers.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Length of a period.
    pub period: Duration,
    /// How long report and receipt are waited for.
    pub grace: Duration,
    /// In what time a node must acknowledge a contract.
    pub acknowledge: Duration,
    /// In what time a workload must run.
    pub deploy: Duration,
    /// Periods in a row without a report after which a contract fails.
    pub missed_limit: u32,
}

impl Default for Terms {
    /// Short enough to see periods pass, long enough for a machine that is emulated on a busy computer.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            acknowledge: Duration::from_secs(90),
            deploy: Duration::from_secs(600),
            missed_limit: 12,
        }
    }
}

impl Bot {
    /// Makes a farm with its terms, and returns its id.
    ///
    /// # Errors
    /// If the bot refuses.
    pub fn create_farm(&self, name: &str, terms: &Terms) -> Result<String> {
        let id = self.run(&[
            "farm",
            "create",
            name,
            "--country",
            "BE",
            "--lat",
            "51.05",
            "--lon",
            "3.72",
        ])?;
        let seconds = |time: Duration| format!("{}s", time.as_secs());
        let missed = terms.missed_limit.to_string();
        let prices = ["--cru-hour", "1", "--mru-gib-hour", "0.5", "--sru-gib-hour", "0.01"];
        let rule = [
            ("--period", seconds(terms.period)),
            ("--grace", seconds(terms.grace)),
            ("--acknowledge", seconds(terms.acknowledge)),
            ("--deploy", seconds(terms.deploy)),
            ("--missed-limit", missed),
        ];
        let rule = rule.iter().flat_map(|(option, value)| [*option, value.as_str()]);
        let words: Vec<&str> = ["farm", "terms"].into_iter().chain(prices).chain(rule).collect();
        self.run(&words)?;
        Ok(id.trim().to_owned())
    }

    /// Writes the media of its only farm into the image at `iso`, with the right to join for one node, which asks `peer`
    /// for the chain. A copy is left at `copy`.
    pub(super) fn write_media(&self, peer: &str, copy: &Path, iso: &Path) -> Result<()> {
        let (copy, iso) = (copy.display().to_string(), iso.display().to_string());
        let words = ["farm", "media", "--peer", peer, "--out", &copy, "--iso", &iso];
        self.run(&words).map(drop)
    }
}
