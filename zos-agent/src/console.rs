//! The status on the machine's console: lines that a person reads and a program can.

use std::{
    fs::File,
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use node_api::milestone;

use crate::{capacity::Capacity, disks::Refusal, text::size};

/// Longest line in characters; a longer one is cut, so that nothing that others named floods the console.
pub const MAX_LINE: usize = 400;

/// What the status screen shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The node's id, once it has one.
    pub node: Option<[u8; 32]>,
    /// The farm that it belongs to.
    pub farm: Option<[u8; 32]>,
    /// What it offers.
    pub capacity: Capacity,
    /// Its addresses, by interface.
    pub addresses: Vec<(String, IpAddr)>,
    /// Height of the newest verified block.
    pub height: Option<u64>,
    /// Workloads and how each is.
    pub workloads: Vec<(String, String)>,
    /// Disks that are not touched.
    pub refused: Vec<Refusal>,
    /// Disks that are being read in full: name, bytes read, bytes in all.
    pub reading: Vec<(String, u64, u64)>,
}

/// The lines of the status screen.
#[must_use]
pub fn lines(status: &Status) -> Vec<String> {
    let hex = |id: &Option<[u8; 32]>, none: &str| {
        id.map_or_else(|| none.to_owned(), |id| data_encoding::HEXLOWER.encode(&id))
    };
    let capacity = &status.capacity;
    let mut lines = vec![
        format!("node {}", hex(&status.node, "without identity")),
        format!("farm {}", hex(&status.farm, "none")),
        format!(
            "capacity {} threads, {} of memory, {} of flash, {} of rotating storage",
            capacity.cru,
            size(capacity.mru),
            size(capacity.sru),
            size(capacity.hru)
        ),
    ];
    if status.addresses.is_empty() {
        lines.push("address none".to_owned());
    }
    lines.extend(
        status
            .addresses
            .iter()
            .map(|(interface, address)| format!("address {address} on {interface}")),
    );
    lines.push(status.height.map_or_else(
        || "chain not verified yet".to_owned(),
        |height| format!("chain at height {height}"),
    ));
    lines.push(format!("workloads {}", status.workloads.len()));
    lines.extend(
        status
            .workloads
            .iter()
            .map(|(id, state)| format!("workload {id} {state}")),
    );
    lines.extend(status.reading.iter().map(|(name, done, all)| {
        format!(
            "disk {name} is read before its first use: {} of {}, {} %",
            size(*done),
            size(*all),
            percent(*done, *all)
        )
    }));
    lines.extend(status.refused.iter().map(|refusal| format!("disk {refusal}")));
    lines
}

fn percent(done: u64, all: u64) -> u64 {
    u64::try_from(u128::from(done) * 100 / u128::from(all.max(1))).unwrap_or(100)
}

/// Writes lines to the console. Never fails: a console that is gone must not stop a node.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    shown: Vec<String>,
}

impl Console {
    /// A console at a path.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            shown: Vec::new(),
        }
    }

    /// Writes one line at once.
    pub fn say(&self, uptime: Duration, text: &str) {
        _ = self.write(uptime, std::slice::from_ref(&text.to_owned()));
    }

    /// Writes those lines of the status that were not there the last time.
    pub fn show(&mut self, uptime: Duration, status: &Status) {
        let lines = lines(status);
        let new: Vec<String> = lines
            .iter()
            .filter(|line| !self.shown.contains(line))
            .cloned()
            .collect();
        if self.write(uptime, &new).is_ok() {
            self.shown = lines;
        }
    }

    fn write(&self, uptime: Duration, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines
            .iter()
            .map(|line| milestone::line(uptime, "agent", &clean(line)) + "\n")
            .collect();
        File::options()
            .append(true)
            .open(&self.path)?
            .write_all(text.as_bytes())
    }
}

/// One line of printable characters.
fn clean(text: &str) -> String {
    text.chars()
        .take(MAX_LINE)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::RefusalReason;

    fn status() -> Status {
        Status {
            node: Some([0xab; 32]),
            farm: None,
            capacity: Capacity {
                cru: 2,
                mru: 3 << 29,
                sru: 20 << 30,
                hru: 0,
            },
            addresses: vec![("eth0".to_owned(), [10, 0, 2, 15].into())],
            height: Some(42),
            workloads: vec![("web".to_owned(), "running".to_owned())],
            refused: vec![Refusal {
                name: "vdb".to_owned(),
                serial: None,
                bytes: 1 << 29,
                reason: RefusalReason::TooSmall,
            }],
            reading: vec![("vdc".to_owned(), 1 << 30, 3 << 30)],
        }
    }

    #[test]
    fn status_screen_is_this() {
        let expected = format!(
            "node {}\nfarm none\ncapacity 2 threads, 1.5 GiB of memory, 20 GiB of flash, 0 bytes of rotating storage\n\
             address 10.0.2.15 on eth0\nchain at height 42\nworkloads 1\nworkload web running\n\
             disk vdc is read before its first use: 1 GiB of 3 GiB, 33 %\n\
             disk vdb (serial unknown, 512 MiB): is smaller than 1 GiB; not used",
            "ab".repeat(32)
        );
        assert_eq!(lines(&status()).join("\n"), expected);
    }

    #[test]
    fn only_what_changed_is_written_and_control_characters_never() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut console = Console::new(file.path());
        console.show(Duration::from_millis(1234), &status());
        let first = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(first.lines().count(), 9);
        assert!(first.starts_with("[zos +1.234] agent: node ab"), "{first}");
        let changed = Status {
            height: Some(43),
            ..status()
        };
        console.show(Duration::from_secs(2), &changed);
        console.say(Duration::from_secs(3), "odd \x1b[2J\nname");
        let all = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(
            all[first.len()..],
            *"[zos +2.000] agent: chain at height 43\n[zos +3.000] agent: odd ?[2J?name\n"
        );
    }

    #[test]
    fn console_that_is_not_there_stops_nothing() {
        Console::new(Path::new("/nonexistent")).show(Duration::ZERO, &status());
    }
}
