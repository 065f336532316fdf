//! Brings disks from found to mounted, and goes on doing so for as long as the node runs.
//!
//! [`Storage::step`] is called every second or so. It looks at disks that are new since the last call, decides, formats and
//! mounts; full reads run on threads of their own. A disk that is pulled out and one that is put in are seen by the kernel's
//! sequence number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::{
    disks::{
        Content, Decision, DiskFacts, Erase, FormatReason, MIN_BYTES, Refusal, RefusalReason, decide, inventory,
        signature,
        zeros::{self, Found, Progress},
    },
    home::SETTLE,
    layout::{DataPartition, DiskId, OurTable},
    pool::{DataDisk, FormatError, MountError, Owner, Places, Pool, format, stranger},
    text::{chain, size},
};

/// First pause before a disk that could not be used is looked at again; it doubles up to [`LONGEST_RETRY`].
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause before a disk that could not be used is looked at again.
pub const LONGEST_RETRY: Duration = Duration::from_secs(60);

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
    /// Waits for other disks, or was unmounted for another's sake; looked at anew in the next step.
    Again,
    Refused(Refusal, Signature),
    /// Could not be mounted or read; looked at anew after a pause.
    Failed(Failed),
    Reading {
        facts: Box<DiskFacts>,
        progress: Arc<Progress>,
        task: JoinHandle<io::Result<Found>>,
    },
}

/// Whether a disk carries our signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signature {
    Ours,
    None,
}

/// A disk that could not be used this time.
#[derive(Debug, Clone)]
struct Failed {
    failures: u32,
    retry_at: Instant,
    /// What was said of it on the console.
    said: String,
    fault: Fault,
}

#[derive(Debug, Clone)]
enum Fault {
    Mount(DiskId),
    Unreadable(Refusal),
}

/// All disks of the node.
#[derive(Debug)]
pub struct Storage {
    places: Places,
    erase: Erase,
    pool: Pool,
    /// The node, once it is known.
    owner: Option<Owner>,
    seen: BTreeMap<String, Seen>,
    /// When a disk came or went last.
    news: Instant,
}

impl Storage {
    /// Nothing is looked at yet.
    #[must_use]
    pub fn new(places: Places, erase: Erase) -> Self {
        Self {
            places,
            erase,
            pool: Pool::default(),
            owner: None,
            seen: BTreeMap::new(),
            news: Instant::now(),
        }
    }

    /// The mounted data disks.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// From now on a disk that another node's identity is on is let go.
    pub fn belong_to(&mut self, owner: Owner) {
        self.owner = Some(owner);
    }

    /// Lets go of the mounted disks that are not among `keep`, and says of each why. Where they are mounted above others, those
    /// are unmounted as well and mounted anew in the next step.
    ///
    /// # Errors
    /// A disk could not be unmounted.
    pub fn keep_only(&mut self, keep: &BTreeSet<DiskId>) -> Result<Vec<Event>, MountError> {
        let mut events = Vec::new();
        for name in self.pool.besides(keep) {
            let Some(disk) = self.pool.disks().iter().find(|disk| disk.name == name) else {
                continue;
            };
            let reason = (!keep.contains(&disk.id())).then(|| stranger(disk));
            self.pool.release(&name)?;
            let facts = inventory::observe(&self.places.sys_block, &self.places.dev, &name);
            let state = match (reason, facts) {
                (Some(reason), Some(facts)) => refused(&facts, reason, &mut events),
                _ => State::Again,
            };
            if let Some(seen) = self.seen.get_mut(&name) {
                seen.state = state;
            }
        }
        Ok(events)
    }

    /// Disks that are not touched.
    #[must_use]
    pub fn refused(&self) -> Vec<Refusal> {
        self.seen
            .values()
            .filter_map(|seen| match &seen.state {
                State::Refused(refusal, _)
                | State::Failed(Failed {
                    fault: Fault::Unreadable(refusal),
                    ..
                }) => Some(refusal.clone()),
                State::Settled | State::Again | State::Reading { .. } | State::Failed(_) => None,
            })
            .collect()
    }

    /// Time since a disk came or went, or since the start.
    #[must_use]
    pub fn quiet(&self) -> Duration {
        self.news.elapsed()
    }

    /// Disks that carry our signature and are not in use, with the reason. A copy of a disk in use is none: what it holds is
    /// on the other as well.
    #[must_use]
    pub fn suspects(&self) -> Vec<String> {
        self.seen
            .iter()
            .filter_map(|(name, seen)| match &seen.state {
                State::Refused(refusal, Signature::Ours) => Some(refusal.to_string()),
                State::Failed(Failed {
                    fault: Fault::Mount(disk),
                    said,
                    ..
                }) if self.pool.disk(*disk).is_none() => Some(format!("{name} ({said})")),
                _ => None,
            })
            .collect()
    }

    /// Names of the disks that cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        self.seen
            .iter()
            .filter(|(_, seen)| {
                matches!(
                    &seen.state,
                    State::Failed(Failed {
                        fault: Fault::Unreadable(_),
                        ..
                    })
                )
            })
            .map(|(name, _)| name.clone())
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
                State::Settled | State::Again | State::Refused(..) | State::Failed(_) => None,
            })
            .collect()
    }

    /// Looks, decides, does. Blocks while a disk is formatted, so it is called on a thread that may; the runtime whose threads do
    /// the full reads must be entered.
    ///
    /// # Errors
    /// The error of listing the disks.
    pub fn step(&mut self) -> io::Result<Vec<Event>> {
        self.step_at(Instant::now())
    }

    fn step_at(&mut self, now: Instant) -> io::Result<Vec<Event>> {
        let present = inventory::present(&self.places.sys_block)?;
        let mut events = self.forget_gone(&present);
        if present.keys().any(|name| !self.seen.contains_key(name)) {
            self.news = now;
        }
        let due = |seen: &Seen| match &seen.state {
            State::Again => true,
            State::Failed(failed) => failed.retry_at <= now,
            State::Settled | State::Refused(..) | State::Reading { .. } => false,
        };
        let new: Vec<_> = present
            .into_iter()
            .filter(|(name, _)| self.seen.get(name).is_none_or(due))
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
            self.settle(facts, sequence, now, &mut events);
        }
        self.collect_reads(now, &mut events);
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
        if !gone.is_empty() {
            self.news = Instant::now();
        }
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

    fn settle(&mut self, mut facts: DiskFacts, sequence: u64, now: Instant, events: &mut Vec<Event>) {
        let name = facts.name.clone();
        let state = match decide(&facts, &self.erase) {
            Decision::Refuse(refusal) if matches!(refusal.reason, RefusalReason::Unreadable(_)) => {
                let said = refusal.to_string();
                let fault = Fault::Unreadable(refusal.clone());
                self.failed(&name, said, fault, now, || Event::Refused(refusal), events)
            }
            Decision::Refuse(refusal) => {
                events.push(Event::Refused(refusal.clone()));
                State::Refused(refusal, signature_of(&facts.content))
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
                    return self.settle(unreadable(facts, &error), sequence, now, events);
                }
            },
            // Another disk with this serial may still come, and then the serial names neither.
            Decision::Format(FormatReason::Erase) if now.saturating_duration_since(self.news) < SETTLE => State::Again,
            Decision::Format(reason) => match format(&self.places, &facts, reason, self.pool.next_index()) {
                Ok(partition) => {
                    events.push(Event::Formatted(name.clone(), reason));
                    facts.content = Content::Ours(OurTable::Whole(partition));
                    self.mount(&facts, partition, now, events)
                }
                Err(error) => {
                    events.push(Event::FormatFailed(error));
                    State::Settled
                }
            },
            Decision::Adopt => match facts.content {
                Content::Ours(OurTable::Whole(partition)) => self.mount(&facts, partition, now, events),
                _ => State::Settled,
            },
        };
        self.seen.insert(name, Seen { sequence, state });
    }

    fn mount(&mut self, facts: &DiskFacts, partition: DataPartition, now: Instant, events: &mut Vec<Event>) -> State {
        let reason = match self.pool.adopt(&self.places, facts, partition) {
            Ok(disk) => match self.owner.as_ref().and_then(|owner| owner.refuses(disk)) {
                Some(reason) => reason,
                None => {
                    events.push(Event::Mounted(disk.clone()));
                    return State::Settled;
                }
            },
            Err(error) => return self.mount_failed(facts, partition, error, now, events),
        };
        match self.pool.release(&facts.name) {
            Ok(_) => refused(facts, reason, events),
            Err(error) => self.mount_failed(facts, partition, error, now, events),
        }
    }

    fn mount_failed(
        &self,
        facts: &DiskFacts,
        partition: DataPartition,
        error: MountError,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> State {
        let (said, fault) = (chain(&error), Fault::Mount(partition.id()));
        self.failed(&facts.name, said, fault, now, || Event::MountFailed(error), events)
    }

    /// Says what is wrong once for as long as it stays the same.
    fn failed(
        &self,
        name: &str,
        said: String,
        fault: Fault,
        now: Instant,
        event: impl FnOnce() -> Event,
        events: &mut Vec<Event>,
    ) -> State {
        let before = match self.seen.get(name) {
            Some(Seen {
                state: State::Failed(failed),
                ..
            }) => Some(failed),
            _ => None,
        };
        if before.is_none_or(|before| before.said != said) {
            events.push(event());
        }
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let pause = FIRST_RETRY
            .saturating_mul(1 << (failures - 1).min(16))
            .min(LONGEST_RETRY);
        State::Failed(Failed {
            failures,
            retry_at: now + pause,
            said,
            fault,
        })
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

    fn collect_reads(&mut self, now: Instant, events: &mut Vec<Event>) {
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
            self.settle(DiskFacts { content, ..*facts }, sequence, now, events);
        }
    }
}

/// A disk of another node is in use no more, and says nothing about an identity of this one.
fn refused(facts: &DiskFacts, reason: RefusalReason, events: &mut Vec<Event>) -> State {
    let refusal = Refusal {
        name: facts.name.clone(),
        serial: facts.serial.clone(),
        bytes: facts.bytes,
        reason,
    };
    events.push(Event::Refused(refusal.clone()));
    State::Refused(refusal, Signature::None)
}

fn unreadable(facts: DiskFacts, error: &io::Error) -> DiskFacts {
    DiskFacts {
        content: Content::Unreadable(error.to_string()),
        ..facts
    }
}

/// A disk that was never finished holds nothing of ours.
fn signature_of(content: &Content) -> Signature {
    match content {
        Content::Ours(OurTable::Whole(_) | OurTable::Damaged) => Signature::Ours,
        _ => Signature::None,
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
    use crate::layout;
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
            verified: "/".into(),
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

    #[tokio::test(flavor = "multi_thread")]
    async fn erase_waits_for_other_disks_and_one_with_the_same_serial_stops_it() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        storage.erase = ["S-vdb".to_owned()].into();
        let mark = b"precious";
        let foreign = add(root.path(), "vdb", 1 << 30, 1);
        foreign.write_all_at(mark, 4096).unwrap();
        let began = Instant::now();
        let lines = |events: Vec<Event>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
        let step = |storage: &mut Storage, after| {
            tokio::task::block_in_place(|| storage.step_at(began + after))
                .map(lines)
                .unwrap()
        };
        assert!(step(&mut storage, Duration::ZERO).is_empty());
        assert!(step(&mut storage, SETTLE - Duration::from_secs(1)).is_empty());
        let twin = add(root.path(), "vdc", 1 << 30, 2);
        twin.write_all_at(mark, 4096).unwrap();
        fs::write(root.path().join("sys/vdc/serial"), "S-vdb").unwrap();
        let late = step(&mut storage, SETTLE);
        assert_eq!(late.len(), 2, "{late:?}");
        assert!(
            late.iter()
                .all(|line| line.contains("so is another disk with the same serial")),
            "{late:?}"
        );
        let mut found = [0; 8];
        foreign.read_exact_at(&mut found, 4096).unwrap();
        assert_eq!(&found, mark);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn disk_that_is_named_alone_is_erased_once_the_disks_have_settled() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        storage.erase = ["S-vdb".to_owned()].into();
        let foreign = add(root.path(), "vdb", 1 << 30, 1);
        foreign.write_all_at(b"precious", 4096).unwrap();
        let began = Instant::now();
        tokio::task::block_in_place(|| storage.step_at(began)).unwrap();
        tokio::task::block_in_place(|| storage.step_at(began + SETTLE)).unwrap();
        assert_eq!(
            signature::probe(&foreign, 1 << 30, 512).unwrap(),
            Content::Ours(OurTable::HalfMade)
        );
    }

    /// Puts the tables and the beginning of the file system of a data disk on it.
    fn make_ours(disk: &File) {
        let partition = layout::choose(1 << 30, 512, [7; 16], 0).unwrap();
        let mut writes = layout::table(&partition, 1 << 30, 512, [8; 16]);
        writes.push(layout::mark(&partition, layout::MarkState::Made));
        for write in writes {
            disk.write_all_at(&write.bytes, write.offset).unwrap();
        }
        disk.write_all_at(b"XFSB", 1 << 20).unwrap();
        disk.write_all_at(b"zos-data", (1 << 20) + 108).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn mount_that_fails_is_tried_again_and_the_disk_is_suspect_until_it_succeeds() {
        let root = tempfile::tempdir().unwrap();
        let mut storage = storage(root.path());
        make_ours(&add(root.path(), "vda", 1 << 30, 1));
        // Its partition is there, and whatever the kernel says to it is no XFS.
        let part = root.path().join("sys/vda/vda1");
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("start"), "2048").unwrap();
        fs::write(root.path().join("dev/vda1"), "").unwrap();
        let began = Instant::now();
        let lines = |events: Vec<Event>| events.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = lines(storage.step_at(began).unwrap());
        assert!(
            first[0].starts_with("disk not mounted: mount the data partition of vda"),
            "{first:?}"
        );
        assert!(
            storage.suspects()[0].starts_with("vda (mount"),
            "{:?}",
            storage.suspects()
        );
        let tries = |storage: &Storage| match &storage.seen["vda"].state {
            State::Failed(failed) => failed.failures,
            state => panic!("{state:?}"),
        };
        for (second, expected) in [(0, 1), (1, 2), (2, 2), (3, 3), (4, 3), (7, 4)] {
            let events = storage.step_at(began + Duration::from_secs(second)).unwrap();
            assert_eq!((tries(&storage), events.len()), (expected, 0), "after {second} s");
        }
        let late = storage.news;
        add(root.path(), "vdb", 1 << 20, 2);
        storage.step_at(began + Duration::from_secs(8)).unwrap();
        assert!(storage.news > late, "a disk that comes is news");
    }
}
