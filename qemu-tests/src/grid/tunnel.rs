//! A port of this computer that leads into a workload.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::program::Program;
use crate::http::{self, Answer};

/// Until the node has let the first connection through.
const READY: Duration = Duration::from_secs(60);
/// Until the workload answers.
const ANSWER: Duration = Duration::from_secs(90);
/// Between two attempts to get an answer.
const PAUSE: Duration = Duration::from_millis(200);

/// An open tunnel. Dropping it closes it.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    _program: Program,
}

impl Tunnel {
    /// Waits until `threebot tunnel` says where it listens.
    pub(super) fn open(program: Program) -> Result<Self> {
        let line = program.ready(READY)?;
        let value: Value = serde_json::from_str(&line).with_context(|| format!("read where the tunnel is: {line}"))?;
        let address = value["listening"].as_str().and_then(|text| text.parse().ok());
        Ok(Self {
            address: address.with_context(|| format!("the tunnel does not say where it listens: {line}"))?,
            _program: program,
        })
    }

    /// Its end on this computer.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for `path` until the answer's status is 200.
    ///
    /// # Errors
    /// If there is none within 90 seconds.
    pub fn first_answer(&self, path: &str) -> Result<Answer> {
        let deadline = Instant::now() + ANSWER;
        loop {
            let asked = http::get(self.address, path);
            let late = Instant::now() >= deadline;
            match asked {
                Ok(answer) if answer.status == 200 => return Ok(answer),
                Ok(answer) => ensure!(!late, "GET {path} from the workload: status {}", answer.status),
                Err(error) if late => return Err(error.context("the workload does not answer")),
                Err(_) => {}
            }
            thread::sleep(PAUSE);
        }
    }

    /// Leaves a file at `path`.
    ///
    /// # Errors
    /// If the workload does not take it.
    pub fn put(&self, path: &str, content: &[u8]) -> Result<()> {
        let answer = http::put(self.address, path, content)?;
        ensure!(
            matches!(answer.status, 201 | 204),
            "PUT {path}: status {}",
            answer.status
        );
        Ok(())
    }

    /// The file at `path`.
    ///
    /// # Errors
    /// If the workload does not give it.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let answer = http::get(self.address, path)?;
        ensure!(answer.status == 200, "GET {path}: status {}", answer.status);
        Ok(answer.body)
    }
}
