//! Brings disks from found to mounted, and goes on doing so for as long as the node runs.
//!
//! [`Storage::step`] is called every second or so. It looks at disks that are new since the last call, decides, formats and
//! mounts; full reads run on threads of their own. A disk that is pulled out and one that is put in are seen by the kernel's
//! sequence number.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::task::JoinHandle;

use crate::{
    disks::{
        Content, Decision, DiskFacts, Erase, FormatReason, MIN_BYTES, Refusal, decide, inventory, signature,
        zeros::{self, Found, Progress},
    },
    layout::{DataPartition, OurTable},
    pool::{DataDisk, FormatError, MountError, Places, Pool, format},
    text::{chain, size},
};

/// What has happened to the disks; the text of each is one line for the console.
#[derive(Debug)]
pub enum Event {
    /// A disk is read in full before its first use.
    Reading(String, u64),
    /// A disk was formatted.
    Formatted(String, FormatReason),
    /// A data disk is mounted.
    Mounted(DataDisk),
    /// A disk is not touched.
    Refused(Refusal),
    /// A disk could not be formatted.
    FormatFailed(FormatError),
    /// A disk could not be mounted.
    MountFailed(MountError),
    /// A data disk is gone.
    Gone(DataDisk),
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reading(name, bytes) => {
                write!(
                    f,
                    "disk {name}: reading all {} before its first use; large disks take hours",
                    size(*bytes)
                )
            }
            Self::Formatted(name, FormatReason::Zeros) => write!(f, "disk {name}: held zeros only; formatted"),
            Self::Formatted(name, FormatReason::HalfMade) => {
                write!(f, "disk {name}: an interrupted format was repeated")
            }
            Self::Formatted(name, FormatReason::Erase) => {
                write!(f, "disk {name}: erased as zos.erase asked; formatted")
            }
            Self::Mounted(disk) => write!(f, "disk {}: in use on {}", disk.name, disk.directory.display()),
            Self::Refused(refusal) => write!(f, "disk {refusal}"),
            Self::FormatFailed(error) => write!(f, "disk not formatted: {}", chain(error)),
            Self::MountFailed(error) => write!(f, "disk not mounted: {}", chain(error)),
            Self::Gone(disk) => write!(f, "disk {}: gone; it held {}", disk.name, disk.directory.display()),
        }
    }
}

/// A disk that was looked at.
#[derive(Debug)]
struct Seen {
    sequence: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing more to do until it is replaced.
    Settled,
    Refused(Refusal),
    Reading {
        facts: Box<DiskFacts>,
        progress: Arc<Progress>,
        task: JoinHandle<io::Result<Found>>,
    },
}

/// All disks of the node.
#[derive(Debug)]
pub struct Storage {
    places: Places,
    erase: Erase,
    pool: Pool,
    seen: BTreeMap<String, Seen>,
}

impl Storage {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(places: Places, erase: Erase) -> Self {
        Self {
            places,
            erase,
            pool: Pool::default(),
            seen: BTreeMap::new(),
        }
    }

    /// The mounted data disks.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Disks that are not touched.
    #[must_use]
    pub fn refused(&self) -> Vec<Refusal> {
        self.seen
            .values()
            .filter_map(|seen| match &seen.state {
                State::Refused(refusal) => Some(refusal.clone()),
                State::Settled | State::Reading { .. } => None,
            })
            .collect()
    }

    /// Disks that are being read in full: name, bytes read, bytes in all.
    #[must_use]
    pub fn reading(&self) -> Vec<(String, u64, u64)> {
        self.seen
            .values()
            .filter_map(|seen| match &seen.state {
                State::Reading { facts, progress, .. } => {
                    Some((facts.name.clone(), progress.done.load(Ordering::Relaxed), facts.bytes))
                }
                State::Settled | State::Refused(_) => None,
            })
            .collect()
    }

    /// Looks, decides, does. Blocks while a disk is formatted, so it is called on a thread that may; the runtime whose threads do
    /// the full reads must be entered.
    ///
    /// # Errors
    /// The error of listing the disks.
    pub fn step(&mut self) -> io::Result<Vec<Event>> {
        let present = inventory::present(&self.places.sys_block)?;
        let mut events = self.forget_gone(&present);
        let new: Vec<_> = present
            .into_iter()
            .filter(|(name, _)| !self.seen.contains_key(name))
            .collect();
        let mut facts: Vec<(DiskFacts, u64)> = new
            .into_iter()
            .filter_map(|(name, sequence)| {
                Some((
                    inventory::observe(&self.places.sys_block, &self.places.dev, &name)?,
                    sequence,
                ))
            })
            .collect();
        // Disks of ours first, in the order in which they were formatted, so that the first stays the first.
        facts.sort_by_key(|(facts, _)| order(facts));
        for (facts, sequence) in facts {
            self.settle(facts, sequence, &mut events);
        }
        self.collect_reads(&mut events);
        Ok(events)
    }

    fn forget_gone(&mut self, present: &BTreeMap<String, u64>) -> Vec<Event> {
        let gone: Vec<String> = self
            .seen
            .iter()
            .filter(|(name, seen)| present.get(*name) != Some(&seen.sequence))
            .map(|(name, _)| name.clone())
            .collect();
        let mut events = Vec::new();
        for name in gone {
            if let Some(Seen {
                state: State::Reading { progress, .. },
                ..
            }) = self.seen.remove(&name)
            {
                progress.cancel.store(true, Ordering::Relaxed);
            }
            events.extend(self.pool.forget(&name).map(Event::Gone));
        }
        events
    }

    fn settle(&mut self, mut facts: DiskFacts, sequence: u64, events: &mut Vec<Event>) {
        let name = facts.name.clone();
        let state = match decide(&facts, &self.erase) {
            Decision::Refuse(refusal) => {
                events.push(Event::Refused(refusal.clone()));
                State::Refused(refusal)
            }
            Decision::ReadFully => match self.read(facts) {
                Ok(state) => {
                    if let State::Reading { facts, .. } = &state {
                        events.push(Event::Reading(name.clone(), facts.bytes));
                    }
                    state
                }
                Err(failed) => {
                    let (facts, error) = *failed;
                    return self.settle(unreadable(facts, &error), sequence, events);
                }
            },
            Decision::Format(reason) => match format(&self.places, &facts, reason, self.pool.next_index()) {
                Ok(partition) => {
                    events.push(Event::Formatted(name.clone(), reason));
                    facts.content = Content::Ours(OurTable::Whole(partition));
                    self.mount(&facts, partition, events)
                }
                Err(error) => {
                    events.push(Event::FormatFailed(error));
                    State::Settled
                }
            },
            Decision::Adopt => match facts.content {
                Content::Ours(OurTable::Whole(partition)) => self.mount(&facts, partition, events),
                _ => State::Settled,
            },
        };
        self.seen.insert(name, Seen { sequence, state });
    }

    fn mount(&mut self, facts: &DiskFacts, partition: DataPartition, events: &mut Vec<Event>) -> State {
        events.push(match self.pool.adopt(&self.places, facts, partition) {
            Ok(disk) => Event::Mounted(disk.clone()),
            Err(error) => Event::MountFailed(error),
        });
        State::Settled
    }

    fn read(&self, facts: DiskFacts) -> Result<State, Box<(DiskFacts, io::Error)>> {
        let disk = match File::open(self.places.dev.join(&facts.name)) {
            Ok(disk) => disk,
            Err(error) => return Err(Box::new((facts, error))),
        };
        let progress = Arc::new(Progress::default());
        let (shared, bytes) = (Arc::clone(&progress), facts.bytes);
        let task = tokio::task::spawn_blocking(move || zeros::read_fully(&disk, bytes, &shared));
        Ok(State::Reading {
            facts: Box::new(facts),
            progress,
            task,
        })
    }

    fn collect_reads(&mut self, events: &mut Vec<Event>) {
        let done: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(&seen.state, State::Reading { task, .. } if task.is_finished()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in done {
            let Some(Seen {
                sequence,
                state: State::Reading { facts, task, .. },
            }) = self.seen.remove(&name)
            else {
                continue;
            };
            let found = tokio::runtime::Handle::current()
                .block_on(task)
                .map_err(io::Error::other)
                .flatten();
            let content = match found {
                Ok(Found::Zeros) => Content::Zeros,
                Ok(Found::Data(offset)) => Content::Foreign(signature::unknown(offset)),
                // Looked at anew in the next step.
                Ok(Found::Cancelled) => continue,
                Err(error) => Content::Unreadable(error.to_string()),
            };
            self.settle(DiskFacts { content, ..*facts }, sequence, events);
        }
    }
}

fn unreadable(facts: DiskFacts, error: &io::Error) -> DiskFacts {
    DiskFacts {
        content: Content::Unreadable(error.to_string()),
        ..facts
    }
}

/// Ours by index, then the others by name.
fn order(facts: &DiskFacts) -> (u16, String) {
    let index = match &facts.content {
        Content::Ours(OurTable::Whole(partition)) => partition.index.into(),
        _ => u16::MAX,
    };
    (index, facts.name.clone())
}

/// The line for a node without any data disk.
#[must_use]
pub fn no_disk_line() -> String {
    format!(
        "no data disk: attach an empty disk of {} or more, or name one to erase with zos.erase=SERIAL; still looking",
        size(MIN_BYTES)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::FileExt, path::Path};

    fn add(root: &Path, name: &str, bytes: u64, sequence: u32) -> File {
        let sys = root.join("sys").join(name);
        fs::create_dir_all(&sys).unwrap();
        fs::write(sys.join("size"), (bytes / 512).to_string()).unwrap();
        fs::write(sys.join("serial"), format!("S-{name}")).unwrap();
        fs::write(sys.join("diskseq"), sequence.to_string()).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(root.join("dev").join(name))
            .unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    fn storage(root: &Path) -> Storage {
        fs::create_dir_all(root.join("sys")).unwrap();
        fs::create_dir_all(root.join("dev")).unwrap();
        let places = Places {
            sys_block: root.join("sys"),
            dev: root.join("dev"),
            data: root.join("data"),
            mkfs: "/bin/false".into(),
        };
        Storage::new(places, Erase::new())
    }

    async fn steps(storage: &mut Storage) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.extend(
                tokio::task::block_in_place(|| storage.step())
                    .unwrap()
                    .iter()
                    .map(ToString::to_string),
            );
            if storage.reading().is_empty() {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn data_in_the_middle_of_a_disk_is_found_by_the_full_read_and_the_disk_is_untouched() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        assert!(steps(&mut storage).await.is_empty());
        let disk = add(root.path(), "vdb", 1 << 30, 1);
        disk.write_all_at(b"precious", 600 << 20).unwrap();
        assert_eq!(
            steps(&mut storage).await,
            [
                "disk vdb: reading all 1 GiB before its first use; large disks take hours",
                "disk vdb (serial S-vdb, 1 GiB): carries data of an unknown kind (first byte that is not zero at 629145600); \
                 not touched; zos.erase=S-vdb on the command line would erase it",
            ]
        );
        assert_eq!(storage.refused().len(), 1);
        let mut head = vec![1; 2 << 20];
        disk.read_exact_at(&mut head, 0).unwrap();
        assert!(head.iter().all(|byte| *byte == 0));
        assert!(steps(&mut storage).await.is_empty(), "said once");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn disk_that_was_replaced_under_its_name_is_looked_at_anew() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        add(root.path(), "vdb", 1 << 20, 1);
        assert_eq!(
            steps(&mut storage).await,
            ["disk vdb (serial S-vdb, 1 MiB): is smaller than 1 GiB; not used"]
        );
        let foreign = add(root.path(), "vdb", 1 << 30, 2);
        foreign.write_all_at(b"XFSB", 0).unwrap();
        let lines = steps(&mut storage).await;
        assert!(lines[0].contains("carries an XFS file system"), "{lines:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn disk_of_zeros_is_formatted_and_a_format_that_cannot_go_on_says_why() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        let disk = add(root.path(), "vdb", 1 << 30, 1);
        let lines = steps(&mut storage).await;
        // A file has no partitions to read anew; the mark is on it by then.
        assert!(
            lines[1].starts_with("disk not formatted: read the new partition table of vdb: "),
            "{lines:?}"
        );
        assert_eq!(
            signature::probe(&disk, 1 << 30, 512).unwrap(),
            Content::Ours(OurTable::HalfMade)
        );
    }
}
