//! QEMU's control socket (docs/interop/qmp-spec of QEMU): a JSON object a line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

/// QEMU connects and answers at once; on a busy computer "at once" may take some seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// Events that nobody has waited for yet; the oldest are dropped.
const MAX_EVENTS: usize = 1024;

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Takes QEMU's connection.
    pub(crate) fn accept(listener: &UnixListener) -> Result<Self> {
        let limit = Timespec {
            tv_sec: i64::try_from(LIMIT.as_secs())?,
            tv_nsec: 0,
        };
        let mut waited = [PollFd::new(listener, PollFlags::IN)];
        if poll(&mut waited, Some(&limit)).context("wait for QEMU")? == 0 {
            bail!("QEMU did not connect within {LIMIT:?}");
        }
        let (stream, _) = listener.accept().context("take QEMU's connection")?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
            partial: Vec::new(),
            events: VecDeque::new(),
        };
        let greeting = qmp.read(Instant::now() + LIMIT)?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greets with {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its answer.
    ///
    /// # Errors
    /// If QEMU refuses it, is gone, or does not answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.stream
            .get_mut()
            .write_all(line.as_bytes())
            .with_context(|| format!("send {command}"))?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut message = self
                .read(deadline)
                .with_context(|| format!("read the answer to {command}"))?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses {command}: {}", error["desc"].as_str().unwrap_or_default());
            }
            self.keep(message);
        }
    }

    /// Waits for an event by its name, such as `SHUTDOWN`, and returns it whole.
    ///
    /// # Errors
    /// If it does not come within `limit`, or QEMU is gone.
    pub fn wait_for_event(&mut self, name: &str, limit: Duration) -> Result<Value> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(index) = self.events.iter().position(|event| event["event"] == name) {
                return self.events.remove(index).context("the event was there");
            }
            let message = self
                .read(deadline)
                .with_context(|| format!("wait for QEMU's event {name}"))?;
            self.keep(message);
        }
    }

    fn keep(&mut self, event: Value) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn read(&mut self, deadline: Instant) -> Result<Value> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("QEMU says nothing");
            }
            self.stream
                .get_ref()
                .set_read_timeout(Some(left))
                .context("set a limit for QEMU")?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(0) => bail!("QEMU has ended"),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_slice(&line).context("parse what QEMU says");
                }
                Ok(_) => bail!("QEMU has ended in the middle of a line"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read what QEMU says"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn events_between_command_and_answer_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = thread::spawn(move || {
            let stream = UnixStream::connect(path).unwrap();
            let mut input = BufReader::new(stream.try_clone().unwrap());
            let mut output = stream;
            let mut read = || {
                let mut line = String::new();
                input.read_line(&mut line).unwrap();
                line
            };
            output.write_all(b"{\"QMP\":{}}\n").unwrap();
            assert!(read().contains("qmp_capabilities"));
            output.write_all(b"{\"return\":{}}\n").unwrap();
            assert!(read().contains("system_powerdown"));
            output.write_all(b"{\"event\":\"POWERDOWN\"}\n{\"ret").unwrap();
            output.write_all(b"urn\":{}}\n").unwrap();
            read();
            output.write_all(b"{\"error\":{\"desc\":\"no\"}}\n").unwrap();
        });
        let mut qmp = Qmp::accept(&listener).unwrap();
        qmp.execute("system_powerdown", &json!({})).unwrap();
        qmp.wait_for_event("POWERDOWN", LIMIT).unwrap();
        let error = qmp.execute("nonsense", &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refuses nonsense: no");
        qemu.join().unwrap();
        assert!(qmp.wait_for_event("SHUTDOWN", LIMIT).is_err());
    }
}
