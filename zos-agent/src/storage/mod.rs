//! Brings disks from found to mounted, and goes on doing so for as long as the node runs.
//!
//! [`Storage::step`] is called every second or so. It looks at disks that are new since the last call, decides, formats and
//! mounts; full reads run on threads of their own. A disk that is pulled out and one that is put in are seen by the kernel's
//! sequence number.

mod event;
mod reading;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use error_line::with_causes;

pub use event::{Event, no_disk_line};

use self::{
    reading::Reading,
    state::{Failed, Fault, Seen, Signature, State},
};
use crate::{
    disks::{Content, Decision, DiskFacts, Erase, FormatReason, Refusal, RefusalReason, decide, inventory},
    home::SETTLE,
    layout::{DataPartition, DiskId, OurTable},
    pool::{MountError, Owner, Places, Pool, format, stranger},
};

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
                State::Settled | State::Again | State::Reading(_) | State::Failed(_) => None,
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
            .iter()
            .filter_map(|(name, seen)| match &seen.state {
                State::Reading(reading) => Some((name.clone(), reading.done(), reading.bytes())),
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
        let new: Vec<_> = present
            .into_iter()
            .filter(|(name, _)| self.seen.get(name).is_none_or(|seen| seen.state.is_due(now)))
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
                state: State::Reading(reading),
                ..
            }) = self.seen.remove(&name)
            {
                reading.cancel();
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
                State::Refused(refusal, Signature::of(&facts.content))
            }
            Decision::ReadFully => match Reading::begin(&self.places.dev, facts) {
                Ok(reading) => {
                    events.push(Event::Reading(name.clone(), reading.bytes()));
                    State::Reading(reading)
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
        let (said, fault) = (with_causes(&error), Fault::Mount(partition.id()));
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
        State::Failed(Failed::after(before, said, fault, now))
    }

    fn collect_reads(&mut self, now: Instant, events: &mut Vec<Event>) {
        let done: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| matches!(&seen.state, State::Reading(reading) if reading.is_finished()))
            .map(|(name, _)| name.clone())
            .collect();
        for name in done {
            let Some(Seen {
                sequence,
                state: State::Reading(reading),
            }) = self.seen.remove(&name)
            else {
                continue;
            };
            // One that was cancelled is looked at anew in the next step.
            if let Some(facts) = reading.found() {
                self.settle(facts, sequence, now, events);
            }
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

/// Ours by index, then the others by name.
fn order(facts: &DiskFacts) -> (u16, String) {
    let index = match &facts.content {
        Content::Ours(OurTable::Whole(partition)) => partition.index.into(),
        _ => u16::MAX,
    };
    (index, facts.name.clone())
}

#[cfg(test)]
mod tests;
