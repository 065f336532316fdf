//! A program that runs beside the machines, and what it says.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::logs::last_lines;
use crate::keeper::Keeper;

/// Lines that wait to be read; a program that says more waits too.
const MAX_LINES: usize = 1024;
/// Longest line in bytes; a longer one is split.
const MAX_LINE: u64 = 1024 * 1024;
/// Lines of its log that an error shows.
const SHOWN: usize = 20;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Program {
    keeper: Keeper,
    lines: Receiver<String>,
    /// What it writes to its standard error.
    log: PathBuf,
    name: String,
}

impl Program {
    /// Starts `program`; its standard error goes to the file `log`.
    pub(super) fn start(program: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let (keeper, output) = Keeper::start(&program.display().to_string(), arguments, log)?;
        let file = program.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{file} {}", arguments.first().map_or("", String::as_str));
        Ok(Self {
            keeper,
            lines: follow(output)?,
            log: log.to_owned(),
            name,
        })
    }

    /// The next line of its standard output, or nothing once it has ended.
    pub(super) fn line(&self, deadline: Instant) -> Result<Option<String>> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("{} does not answer in time\n{}", self.name, self.said()),
        }
    }

    /// The first line, which says that it is ready.
    pub(super) fn ready(&self, limit: Duration) -> Result<String> {
        match self.line(Instant::now() + limit)? {
            Some(line) => Ok(line),
            None => bail!("{} ended\n{}", self.name, self.said()),
        }
    }

    /// Whether it has ended, or closed its output. Lines that nobody has read are gone.
    pub(super) fn has_ended(&self) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// Waits for its end, after its output has ended.
    pub(super) fn end(self) -> Result<()> {
        let status = self
            .keeper
            .wait()
            .with_context(|| format!("learn how {} ended", self.name))?;
        if !status.success() {
            bail!("{}: {status}\n{}", self.name, self.said());
        }
        Ok(())
    }

    /// Runs a program to its end and returns what it wrote to its standard output.
    pub(super) fn run(program: &Path, arguments: &[String], log: &Path, limit: Duration) -> Result<String> {
        let running = Self::start(program, arguments, log)?;
        let deadline = Instant::now() + limit;
        let mut output = String::new();
        while let Some(line) = running.line(deadline)? {
            output.push_str(&line);
            output.push('\n');
        }
        running.end()?;
        Ok(output)
    }

    fn said(&self) -> String {
        last_lines(&self.log, SHOWN)
    }
}

fn follow(output: ChildStdout) -> Result<Receiver<String>> {
    let (sender, lines) = sync_channel(MAX_LINES);
    thread::Builder::new()
        .name("lines".into())
        .spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut bytes = Vec::new();
                match (&mut output).take(MAX_LINE).read_until(b'\n', &mut bytes) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        })
        .context("start the thread that reads a program's lines")?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, limit: Duration) -> Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        Program::run(Path::new("/bin/sh"), &["-c".into(), script.into()], &log, limit)
    }

    #[test]
    fn output_is_returned_and_a_failure_has_what_the_program_said() {
        assert_eq!(shell("echo one; echo two", LONG).unwrap(), "one\ntwo\n");
        let error = shell("echo reason >&2; exit 3", LONG).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("reason"), "{error}");
    }

    #[test]
    fn program_that_hangs_is_not_waited_for_beyond_its_limit() {
        let error = shell("sleep 1000", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("does not answer in time"), "{error}");
    }

    #[test]
    fn program_that_ends_before_it_is_ready_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let program = Program::start(Path::new("/bin/sh"), &["-c".into(), "echo no >&2".into()], &log).unwrap();
        let error = program.ready(LONG).unwrap_err().to_string();
        assert!(error.contains("ended") && error.ends_with("no"), "{error}");
    }
}
