//! How far each disk is, and when one that could not be used is looked at again.

use std::time::{Duration, Instant};

use super::reading::Reading;
use crate::{
    disks::{Content, Refusal},
    layout::{DiskId, OurTable},
};

/// First pause before a disk that could not be used is looked at again; it doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause before a disk that could not be used is looked at again.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A disk that was looked at.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// Nothing more to do until it is replaced.
    Settled,
    /// Waits for other disks, or was unmounted for another's sake; looked at anew in the next step.
    Again,
    Refused(Refusal, Signature),
    /// Could not be mounted or read; looked at anew after a pause.
    Failed(Failed),
    Reading(Reading),
}

impl State {
    /// Whether the disk is to be looked at anew.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self {
            Self::Again => true,
            Self::Failed(failed) => failed.retry_at <= now,
            Self::Settled | Self::Refused(..) | Self::Reading(_) => false,
        }
    }
}

/// Whether a disk carries our signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signature {
    Ours,
    None,
}

impl Signature {
    /// A disk that was never finished holds nothing of ours.
    pub(super) fn of(content: &Content) -> Self {
        match content {
            Content::Ours(OurTable::Whole(_) | OurTable::Damaged) => Self::Ours,
            _ => Self::None,
        }
    }
}

/// A disk that could not be used this time.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) failures: u32,
    retry_at: Instant,
    /// What was said of it on the console.
    pub(super) said: String,
    pub(super) fault: Fault,
}

impl Failed {
    /// The next failure of a disk that may have failed `before`; each pause is twice as long.
    pub(super) fn after(before: Option<&Self>, said: String, fault: Fault, now: Instant) -> Self {
        let failures = before.map_or(0, |before| before.failures).saturating_add(1);
        let pause = FIRST_RETRY
            .saturating_mul(1 << (failures - 1).min(16))
            .min(LONGEST_RETRY);
        Self {
            failures,
            retry_at: now + pause,
            said,
            fault,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Fault {
    Mount(DiskId),
    Unreadable(Refusal),
}
