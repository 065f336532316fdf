//! From what was agreed to what runs.
//!
//! [`plan`](plan()) is pure: the same inputs give the same plan. [`execute`](execute()) carries it out, each workload's
//! steps in order up to the first failure and apart from the other workloads; the next cycle observes afresh and plans again.
//!
//! Architecture invariant: absence deletes and stops nothing. A workload that no contract names any more is left as it is; data
//! goes only on a proven terminal version of its contract, after [`GRACE_MS`] of the chain's time.

mod execute;
mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub use execute::{Batch, Failed, Machine, execute};
pub use plan::{Action, Plan, Reason, Withheld, plan};

use crate::{
    layout::DiskId,
    vm::{Size, VmId, VmSpec},
};

/// How long after the end of its contract a workload's data is kept, in milliseconds of the chain's time (one day).
pub const GRACE_MS: u64 = 24 * 3600 * 1000;
/// How long after its end a contract whose data is on a missing disk stays known, in milliseconds of the chain's time (30 days).
pub const MISSING_MS: u64 = 30 * 24 * 3600 * 1000;
/// First pause before a workload that failed is tried again.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest pause before a workload that failed is tried again.
pub const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A blake3 hash of an image.
pub type ImageHash = [u8; 32];

/// What the chain says was agreed, proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Time of the chain's newest verified block, in milliseconds since 1970.
    pub chain_time_ms: u64,
    /// Every workload that a contract of this node names.
    pub workloads: BTreeMap<VmId, Wanted>,
}

/// What is to become of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// It runs.
    Run(Box<Workload>),
    /// What runs goes on if it takes no more than this, until it is known what is to run.
    Keep(Size),
    /// It is stopped and its data kept.
    Stop,
    /// Its contract has ended for good.
    Terminal {
        /// When, in the chain's milliseconds.
        since_ms: u64,
    },
}

/// A workload that is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The image whose root file system it runs from.
    pub image: ImageHash,
    /// The VM.
    pub spec: VmSpec,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Running monitors.
    pub running: BTreeMap<VmId, Runs>,
    /// Run directories of monitors that have ended.
    pub ended: BTreeSet<VmId>,
    /// Workloads for which steps of an earlier plan are still being carried out.
    pub at_work: BTreeSet<VmId>,
    /// Workloads with data on the pool.
    pub data: BTreeSet<VmId>,
    /// Workloads whose data is on a disk that is not mounted, with the disk's name if it is known.
    pub missing: BTreeMap<VmId, Option<DiskId>>,
    /// Images that are there and verified.
    pub images: BTreeSet<ImageHash>,
    /// Images that are being fetched.
    pub fetching: BTreeSet<ImageHash>,
    /// Bytes of memory that running workloads leave of the node's MRU.
    pub free_memory: u64,
    /// Workloads whose last attempts failed.
    pub failures: BTreeMap<VmId, Failure>,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// Digest of the specification that it was started with.
    pub digest: String,
    /// What it takes of the machine.
    pub size: Size,
}

/// How often and when a workload failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Failures in a row.
    pub count: u32,
    /// The last one, in time since the machine's start.
    pub last: Duration,
}

impl Failure {
    /// When it may be tried again.
    #[must_use]
    pub fn retry_at(self) -> Duration {
        let doublings = self.count.saturating_sub(1).min(16);
        self.last + FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY)
    }
}
