//! What the machine says on its serial line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What the kernel says when it gives up.
pub const PANIC: &str = "Kernel panic";

/// Lines that are kept in memory; the file has all.
const MAX_LINES: usize = 200_000;
/// Longest line in bytes; a longer one is split.
const MAX_LINE: u64 = 16 * 1024;
/// Lines shown when a wait fails.
const LAST_LINES: usize = 40;

/// Follows a machine's console. Clones follow the same console, each from its own place.
#[derive(Debug, Clone)]
pub struct Console {
    shared: Arc<Shared>,
    /// Lines before this one have been waited for.
    next: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Console {
    /// Follows `stream` to its end, and writes what comes to the file `log`.
    pub(crate) fn follow(stream: impl Read + Send + 'static, log: &Path) -> Result<Self> {
        let mut log = File::create(log).with_context(|| format!("make {}", log.display()))?;
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        thread::Builder::new()
            .name("console".into())
            .spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(line) = read_line(&mut stream, &mut log) {
                    writer.update(|state| {
                        if state.lines.len() < MAX_LINES {
                            state.lines.push(line);
                        }
                    });
                }
                writer.update(|state| state.ended = true);
            })
            .context("start the console's thread")?;
        Ok(Self { shared, next: 0 })
    }

    /// Waits for a line with `text` after the last one that was waited for, and returns it.
    ///
    /// # Errors
    /// If there is none within `limit`, the kernel panics, or the machine ends. The error has the last lines.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        self.wait_for_any(&[text], limit)
    }

    /// As [`Console::wait_for`], for a line with one of `texts`.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_any(&mut self, texts: &[&str], limit: Duration) -> Result<String> {
        let shared = Arc::clone(&self.shared);
        let deadline = Instant::now() + limit;
        let mut state = shared.lock();
        loop {
            while let Some(line) = state.lines.get(self.next) {
                self.next += 1;
                if texts.iter().any(|text| line.contains(text)) {
                    return Ok(line.clone());
                }
                if line.contains(PANIC) {
                    let line = line.clone();
                    bail!("waiting for {texts:?}: {line}\n{}", last(&state));
                }
            }
            if state.ended {
                bail!("waiting for {texts:?}: the machine ended\n{}", last(&state));
            }
            let now = Instant::now();
            if now >= deadline {
                bail!("waiting for {texts:?}: no such line within {limit:?}\n{}", last(&state));
            }
            state = shared.wait(state, deadline - now);
        }
    }

    /// Waits until the machine says no more because QEMU has ended.
    ///
    /// # Errors
    /// If it goes on beyond `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut state = self.shared.lock();
        while !state.ended {
            let now = Instant::now();
            if now >= deadline {
                bail!("the machine did not end within {limit:?}\n{}", last(&state));
            }
            state = self.shared.wait(state, deadline - now);
        }
        Ok(())
    }

    /// The first line with `text` of all that was said so far.
    #[must_use]
    pub fn seen(&self, text: &str) -> Option<String> {
        self.shared
            .lock()
            .lines
            .iter()
            .find(|line| line.contains(text))
            .cloned()
    }

    /// How many of all lines so far have `text` in them.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        let state = self.shared.lock();
        state.lines.iter().filter(|line| line.contains(text)).count()
    }

    /// All lines from the first one with `text` on, for a report.
    #[must_use]
    pub fn since(&self, text: &str) -> String {
        let state = self.shared.lock();
        let lines: Vec<&str> = state.lines.iter().map(String::as_str).collect();
        let first = lines.iter().position(|line| line.contains(text)).unwrap_or(lines.len());
        lines[first..].join("\n")
    }

    /// The last lines, for a report.
    #[must_use]
    pub fn tail(&self) -> String {
        last(&self.shared.lock())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole lines are pushed, so the state is sound whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// The next line without its end and without control sequences, or nothing at the end.
fn read_line(stream: &mut impl BufRead, log: &mut File) -> Option<String> {
    let mut bytes = Vec::new();
    match stream.take(MAX_LINE).read_until(b'\n', &mut bytes) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            // The log is for people; a full disk must not stop the scenario.
            let _ = log.write_all(&bytes);
            let text = String::from_utf8_lossy(&bytes);
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

fn last(state: &State) -> String {
    let from = state.lines.len().saturating_sub(LAST_LINES);
    format!("last lines of the console:\n{}", state.lines[from..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn console() -> (Console, std::io::PipeWriter, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let console = Console::follow(reader, &directory.path().join("log")).unwrap();
        (console, writer, directory)
    }

    #[test]
    fn waits_find_lines_in_their_order_and_each_once() {
        let (mut console, mut writer, directory) = console();
        writer.write_all(b"one up\r\ntwo up\nthree\n").unwrap();
        assert_eq!(console.wait_for("up", LONG).unwrap(), "one up");
        assert_eq!(console.wait_for_any(&["none", "up"], LONG).unwrap(), "two up");
        let error = console.wait_for("up", SHORT).unwrap_err().to_string();
        assert!(
            error.contains("no such line within 50ms") && error.ends_with("three"),
            "{error}"
        );
        assert_eq!(console.seen("one").unwrap(), "one up");
        assert_eq!(console.count("up"), 2);
        assert_eq!(
            std::fs::read(directory.path().join("log")).unwrap(),
            b"one up\r\ntwo up\nthree\n"
        );
    }

    #[test]
    fn wait_ends_at_once_when_the_machine_ends() {
        let (mut console, writer, _directory) = console();
        drop(writer);
        assert!(
            console
                .wait_for("up", LONG)
                .unwrap_err()
                .to_string()
                .contains("the machine ended")
        );
        console.wait_for_end(LONG).unwrap();
    }

    #[test]
    fn wait_ends_at_once_when_the_kernel_panics_unless_that_is_awaited() {
        let (console, mut writer, _directory) = console();
        writer
            .write_all(b"[ 1.0] Kernel panic - not syncing: init\nmore\n")
            .unwrap();
        assert!(console.clone().wait_for("up", LONG).is_err());
        assert!(console.clone().wait_for(PANIC, LONG).is_ok());
        assert!(console.wait_for_end(SHORT).is_err());
    }
}
