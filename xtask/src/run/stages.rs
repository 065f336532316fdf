//! The stages of a run, in their order, as people and programs read them.

use std::time::Instant;

use serde::Serialize;

use crate::console;

/// All stages.
pub(super) const STAGES: [&str; 15] = [
    "chain up",
    "farm created",
    "node booted",
    "identity made",
    "chain verified",
    "node registered",
    "capacity found",
    "offer",
    "counter-offer",
    "agreement signed by both",
    "escrow funded",
    "image fetched and verified",
    "micro-VM up",
    "first HTTP answer",
    "volume written and read",
];

/// Reports stages as they are reached.
#[derive(Debug)]
pub(super) struct Stages {
    shown: Shown,
    reached: Vec<(String, f64)>,
    began: Instant,
    last: Instant,
    /// Index of the stage that is being worked on.
    next: usize,
}

/// How a stage is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Text,
    Json,
    Nothing,
}

/// A line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    stage: &'a str,
    /// Since the stage before.
    seconds: f64,
    /// Since the first began.
    at: f64,
    detail: &'a str,
}

impl Stages {
    /// The first stage begins now.
    pub(super) fn new(shown: Shown) -> Self {
        let now = Instant::now();
        Self {
            shown,
            reached: Vec::new(),
            began: now,
            last: now,
            next: 0,
        }
    }

    /// A stage was reached. One that is out of order is reported all the same.
    pub(super) fn reached(&mut self, stage: &str, detail: &str) {
        let now = Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        let line = Line {
            stage,
            seconds: tenths(seconds),
            at: tenths(now.duration_since(self.began).as_secs_f64()),
            detail,
        };
        self.last = now;
        if let Some(index) = STAGES.iter().position(|known| *known == stage) {
            self.next = index + 1;
        }
        match self.shown {
            Shown::Text => console::result(&line.text(false)),
            Shown::Json => console::result(&line.text(true)),
            Shown::Nothing => {}
        }
        self.reached.push((stage.to_owned(), seconds));
    }

    /// The stages that were reached, each with the seconds since the one before.
    pub(super) fn into_reached(self) -> Vec<(String, f64)> {
        self.reached
    }

    /// Names the stage that was not reached.
    pub(super) fn failed(&self) -> String {
        let name = STAGES.get(self.next).copied().unwrap_or("end");
        format!("stage `{name}` was not reached")
    }
}

impl Line<'_> {
    fn text(&self, json: bool) -> String {
        if json {
            // Numbers and texts can always be written as JSON.
            return serde_json::to_string(self).unwrap_or_default();
        }
        let Self {
            stage,
            seconds,
            at,
            detail,
        } = self;
        format!("{at:>7.1} s {:>9}  {stage:<27} {detail}", format!("+{seconds:.1} s"))
            .trim_end()
            .to_owned()
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_well_and_as_json() {
        let line = Line {
            stage: "offer",
            seconds: tenths(1.26),
            at: 12.5,
            detail: "3 for a period",
        };
        assert_eq!(
            line.text(false),
            "   12.5 s    +1.3 s  offer                       3 for a period"
        );
        assert_eq!(
            line.text(true),
            r#"{"stage":"offer","seconds":1.3,"at":12.5,"detail":"3 for a period"}"#
        );
    }

    #[test]
    fn failure_names_the_stage_after_the_last_that_was_reached() {
        let mut stages = Stages::new(Shown::Nothing);
        assert_eq!(stages.failed(), "stage `chain up` was not reached");
        stages.reached("escrow funded", "");
        assert_eq!(stages.failed(), "stage `image fetched and verified` was not reached");
        stages.reached(STAGES[STAGES.len() - 1], "");
        assert_eq!(stages.failed(), "stage `end` was not reached");
    }
}
