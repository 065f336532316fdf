//! The ends of log files, for reports of failures.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes at a log's end in which lines are looked for.
const END: u64 = 64 * 1024;

/// The last `count` lines of a log without empty ones; nothing where there is no log.
#[must_use]
pub fn last_lines(log: &Path, count: usize) -> String {
    let Ok(bytes) = end(log) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn end(log: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.take(END).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_are_the_last_and_a_missing_log_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        assert_eq!(last_lines(&log, 3), "");
        std::fs::write(&log, "one\r\n\ntwo\nthree").unwrap();
        assert_eq!(last_lines(&log, 2), "two\nthree");
        assert_eq!(last_lines(&log, 9), "one\ntwo\nthree");
    }
}
