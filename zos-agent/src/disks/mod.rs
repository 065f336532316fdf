//! The disks of the machine, and which of them may be written.
//!
//! A disk is written only if it carries our own signature, or a full read before its first use found nothing but zeros, or
//! `zos.erase=SERIAL` names it. [`inventory`] observes, [`decide`](decide()) decides, [`zeros`] is the full read.
//!
//! Architecture invariant: nothing in this module opens a disk for writing.

mod decide;
pub mod inventory;
pub mod signature;
pub mod zeros;

pub use decide::{Decision, Erase, FormatReason, Refusal, RefusalReason, decide};

use crate::layout::OurTable;

/// Least size of a disk that is used, in bytes (1 GiB).
pub const MIN_BYTES: u64 = 1 << 30;

/// Whether a disk has moving parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Medium {
    /// Solid state.
    Flash,
    /// Rotating platters.
    Rotating,
}

/// What is known of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFacts {
    /// Kernel name, such as `vda`.
    pub name: String,
    /// Serial number as the device states it.
    pub serial: Option<String>,
    /// Whether another disk of the machine states the same serial number.
    pub serial_shared: bool,
    /// Model as the device states it.
    pub model: Option<String>,
    /// How it is attached: `nvme`, `virtio`, `usb`, `ata`, `scsi`, `mmc` or `other`.
    pub transport: &'static str,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical block size in bytes.
    pub block: u32,
    /// Whether it has moving parts.
    pub medium: Medium,
    /// Whether the device says that it can be pulled out, as USB sticks do.
    pub removable: bool,
    /// Whether the device refuses writes.
    pub read_only: bool,
    /// Whether another part of the kernel holds it (RAID, device mapper, a mount).
    pub held: bool,
    /// What is on it.
    pub content: Content,
}

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Our partition table; see [`OurTable`].
    Ours(OurTable),
    /// Where signatures live there are zeros only; the rest has not been read.
    BlankEnds,
    /// Every byte was read and is zero.
    Zeros,
    /// The medium that a node boots from.
    BootMedium,
    /// Something of somebody else's, and what it looks like.
    Foreign(String),
    /// It could not be read.
    Unreadable(String),
}
