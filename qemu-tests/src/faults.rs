//! The agent that causes faults inside a machine, spoken to on the machine's second serial line.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Until the agent is there: it is started with the machine.
const READY: Duration = Duration::from_secs(180);
/// Until it answers.
const ANSWER: Duration = Duration::from_secs(60);

/// A process of the machine. One that is started again differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since the machine's start.
    pub start: u64,
}

/// A line to the agent that causes faults; only the test flavour of the image has one.
#[derive(Debug)]
pub struct Faults {
    stream: BufReader<UnixStream>,
    is_ready: bool,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Faults {
    /// Takes QEMU's connection, which exists once QEMU answers on its control socket.
    pub(crate) fn accept(listener: &UnixListener) -> Result<Self> {
        listener
            .set_nonblocking(true)
            .context("set up the second serial line")?;
        let (stream, _) = listener.accept().context("take the second serial line")?;
        stream.set_nonblocking(false).context("set up the second serial line")?;
        Ok(Self {
            stream: BufReader::new(stream),
            is_ready: false,
            partial: Vec::new(),
        })
    }

    /// Which process the node's agent is.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn agent(&mut self) -> Result<Process> {
        self.process("agent")
    }

    /// Which process the monitor of the contract is whose id begins with `contract`.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn monitor(&mut self, contract: &str) -> Result<Process> {
        self.process(&format!("monitor {contract}"))
    }

    /// Kills the node's agent and returns which process it was.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn kill_agent(&mut self) -> Result<Process> {
        self.process("kill agent")
    }

    /// Makes the node's agent do nothing any more, and returns which process it is.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn freeze_agent(&mut self) -> Result<Process> {
        self.process("freeze agent")
    }

    /// The sockets of the machine that hear from anyone, `PROTOCOL:PORT` each.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn sockets(&mut self) -> Result<Vec<String>> {
        let answer = self.ask("sockets")?;
        let mut words = answer.split(' ').map(str::to_owned);
        ensure!(words.next().as_deref() == Some("sockets"), "{answer}");
        Ok(words.collect())
    }

    /// Kills the monitor of the contract whose id begins with `contract`, and returns which process it was.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn kill_monitor(&mut self, contract: &str) -> Result<Process> {
        self.process(&format!("kill monitor {contract}"))
    }

    /// Asks a guest for a page from inside the machine, without its agent, and returns the page's first line.
    ///
    /// # Errors
    /// If the guest or the machine does not answer.
    pub fn page(&mut self, guest: SocketAddr, path: &str) -> Result<String> {
        let answer = self.ask(&format!("get {guest} {path}"))?;
        let page = answer.strip_prefix("page ").map(str::to_owned);
        page.with_context(|| format!("the guest gave no page: {answer}"))
    }

    /// Bytes of memory that PID 1 holds.
    ///
    /// # Errors
    /// If the machine does not answer.
    pub fn init_memory(&mut self) -> Result<u64> {
        self.memory("memory init")
    }

    /// Bytes of memory that the node's agent holds.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn agent_memory(&mut self) -> Result<u64> {
        self.memory("memory agent")
    }

    /// Bytes of memory that the monitor of a contract holds beyond its guest's `guest` bytes.
    ///
    /// # Errors
    /// If there is none or the machine does not answer.
    pub fn monitor_memory(&mut self, contract: &str, guest: u64) -> Result<u64> {
        self.memory(&format!("memory monitor {contract} {guest}"))
    }

    fn memory(&mut self, line: &str) -> Result<u64> {
        let answer = self.ask(line)?;
        let bytes = answer.strip_prefix("memory ").and_then(|bytes| bytes.parse().ok());
        bytes.with_context(|| format!("{line}: {answer}"))
    }

    fn process(&mut self, line: &str) -> Result<Process> {
        let answer = self.ask(line)?;
        process(&answer).with_context(|| format!("{line}: {answer}"))
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        if !self.is_ready {
            let said = self.read(Instant::now() + READY).context("wait for the test agent")?;
            ensure!(said == "ready", "the test agent says {said}");
            self.is_ready = true;
        }
        writeln!(self.stream.get_mut(), "{line}").context("write to the second serial line")?;
        self.read(Instant::now() + ANSWER).with_context(|| line.to_owned())
    }

    fn read(&mut self, deadline: Instant) -> Result<String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "the second serial line says nothing");
            let stream = self.stream.get_ref();
            stream.set_read_timeout(Some(left)).context("set a limit")?;
            match self.stream.read_until(b'\n', &mut self.partial) {
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
                }
                Ok(_) => bail!("the second serial line has ended"),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("read the second serial line"),
            }
        }
    }
}

/// Reads `process PID START`, `killed PID START` or `frozen PID START`.
fn process(answer: &str) -> Option<Process> {
    let words: Vec<&str> = answer.split(' ').collect();
    let ["process" | "killed" | "frozen", pid, start] = words.as_slice() else {
        return None;
    };
    Some(Process {
        pid: pid.parse().ok()?,
        start: start.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_told_from_a_refusal() {
        assert_eq!(process("killed 12 345"), Some(Process { pid: 12, start: 345 }));
        assert_eq!(process("refused: 0 processes are meant"), None);
    }
}
