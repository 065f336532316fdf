//! Numbered records in a directory, each flushed to its disk before it counts: what a power cut must not take away.
//!
//! A record is [`RECORD`] bytes, so that a torn one shows:
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | number, little endian, from 1 on |
//! | 8..1016 | bytes that follow from the number |
//! | 1016..1024 | FNV-1a of all before, 64 bits, little endian |
//!
//! Record `n` is in the file `records-F`, F being `(n - 1) / PER_FILE` with eight digits.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

/// Length of a record in bytes: two sectors.
pub const RECORD: usize = 1024;
/// Records in a file.
pub const PER_FILE: u64 = 32;

const CHECKSUM: usize = RECORD - 8;

/// What the workload that keeps a journal says of itself, as one line of JSON with these fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The guest's boot, an id that its kernel makes once.
    pub boot: String,
    /// Time since then in milliseconds.
    pub uptime_ms: u64,
    /// When the workload's process began, in that time.
    pub began_ms: u64,
    /// Number of the last record that was there when it began.
    pub found: u64,
    /// Number of the last record that is on the disk.
    pub flushed: u64,
}

impl Status {
    /// The line.
    #[must_use]
    pub fn line(&self) -> String {
        let value = json!({
            "boot": self.boot,
            "uptime_ms": self.uptime_ms,
            "began_ms": self.began_ms,
            "found": self.found,
            "flushed": self.flushed,
        });
        value.to_string()
    }

    /// Reads the line.
    ///
    /// # Errors
    /// If it is another.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("read the journal's status {line}"))?;
        let number = |name: &str| {
            value[name]
                .as_u64()
                .with_context(|| format!("the journal's status has no {name}: {line}"))
        };
        let boot = value["boot"].as_str().context("the journal's status has no boot")?;
        Ok(Self {
            boot: boot.to_owned(),
            uptime_ms: number("uptime_ms")?,
            began_ms: number("began_ms")?,
            found: number("found")?,
            flushed: number("flushed")?,
        })
    }
}

/// A journal that is written to.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: Option<File>,
    last: u64,
}

impl Journal {
    /// Opens the journal in `directory` and cuts off what follows its last whole record.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let last = last(directory)?;
        let (number, position) = place(last + 1);
        let path = file(directory, number);
        if position > 0 {
            let file = File::options().write(true).open(&path)?;
            file.set_len(position)?;
            file.sync_all()?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            file: None,
            last,
        })
    }

    /// Number of the last record, 0 if there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends the next record and returns its number once it is on the disk, and its file's name too.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&mut self) -> io::Result<u64> {
        let next = self.last + 1;
        let (number, position) = place(next);
        let file = match &mut self.file {
            Some(file) if position > 0 => file,
            slot => slot.insert(
                File::options()
                    .write(true)
                    .create(true)
                    .truncate(position == 0)
                    .open(file(&self.directory, number))?,
            ),
        };
        file.seek(SeekFrom::Start(position))?;
        file.write_all(&record(next))?;
        file.sync_all()?;
        if position == 0 {
            File::open(&self.directory)?.sync_all()?;
        }
        self.last = next;
        Ok(next)
    }
}

/// Number of the record up to which all are there and whole, 0 if there is none.
///
/// # Errors
/// What the file system says; a file that is not there is the journal's end.
pub fn last(directory: &Path) -> io::Result<u64> {
    let mut last = 0;
    loop {
        let mut file = match File::open(file(directory, place(last + 1).0)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(last),
            file => file?,
        };
        for _ in 0..PER_FILE {
            let mut found = [0; RECORD];
            match file.read_exact(&mut found) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(last),
                read => read?,
            }
            if found != record(last + 1) {
                return Ok(last);
            }
            last += 1;
        }
    }
}

/// The record with this number.
fn record(number: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut state = number;
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&state.to_le_bytes());
        // Knuth's generator: the upper bits are random enough for a pattern.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    let checksum = fnv(&bytes[..CHECKSUM]);
    bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// File of a record, and the byte in it at which it begins.
fn place(record: u64) -> (u64, u64) {
    let length = u64::try_from(RECORD).expect("a record's length is small");
    ((record - 1) / PER_FILE, (record - 1) % PER_FILE * length)
}

fn file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("records-{number:08}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn status_is_read_as_it_was_written() {
        let status = Status {
            boot: "b".to_owned(),
            uptime_ms: 1,
            began_ms: 2,
            found: 3,
            flushed: 4,
        };
        assert_eq!(Status::parse(&status.line()).unwrap(), status);
        assert!(Status::parse("{\"boot\":\"b\"}").is_err());
    }

    #[test]
    fn records_are_found_again_and_go_on_across_files() {
        let directory = tempfile::tempdir().unwrap();
        for opened in 0..3 {
            let mut journal = Journal::open(directory.path()).unwrap();
            assert_eq!(journal.last(), opened * 20);
            for number in 1..=20 {
                assert_eq!(journal.append().unwrap(), opened * 20 + number);
            }
        }
        assert_eq!(last(directory.path()).unwrap(), 60);
    }

    #[test]
    fn damaged_or_missing_record_ends_the_journal_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        for _ in 0..40 {
            journal.append().unwrap();
        }
        let first = file(directory.path(), 0);
        let sound = fs::read(&first).unwrap();
        let mut torn = sound.clone();
        torn[10 * RECORD + 512..11 * RECORD].fill(0);
        fs::write(&first, &torn).unwrap();
        assert_eq!(last(directory.path()).unwrap(), 10);
        fs::write(&first, &sound[..5 * RECORD + 1]).unwrap();
        let mut journal = Journal::open(directory.path()).unwrap();
        assert_eq!((journal.last(), journal.append().unwrap()), (5, 6));
        assert_eq!(last(directory.path()).unwrap(), 6);
    }
}
