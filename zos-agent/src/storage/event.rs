//! What is said of the disks on the console.

use error_line::with_causes;

use crate::{
    disks::{FormatReason, MIN_BYTES, Refusal},
    pool::{DataDisk, FormatError, MountError},
    text::size,
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
            Self::FormatFailed(error) => write!(f, "disk not formatted: {}", with_causes(error)),
            Self::MountFailed(error) => write!(f, "disk not mounted: {}", with_causes(error)),
            Self::Gone(disk) => write!(f, "disk {}: gone; it held {}", disk.name, disk.directory.display()),
        }
    }
}

/// The line for a node without any data disk.
#[must_use]
pub fn no_disk_line() -> String {
    format!(
        "no data disk: attach an empty disk of {} or more, or name one to erase with zos.erase=SERIAL; still looking",
        size(MIN_BYTES)
    )
}
