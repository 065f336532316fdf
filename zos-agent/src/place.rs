//! Where a workload's data is, or is to be.
//!
//! The disk is recorded in the docket before the first volume is made on it. From then on the workload runs from that disk or
//! not at all: an empty volume in place of one that is late would be the loss of the customer's data.

use crate::layout::DiskId;

/// What is known of a workload's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The disk that the docket names.
    pub recorded: Option<DiskId>,
    /// A mounted disk on which a directory of the workload is.
    pub found: Option<DiskId>,
    /// Whether there can be data somewhere.
    pub history: History,
}

/// Whether a workload can have left data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It has never run, or it has no volume.
    Blank,
    /// The chain says that it ran, and it has volumes.
    HasData,
}

/// Where a workload's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this disk, which is mounted.
    On(DiskId),
    /// Nowhere yet; this disk has the most room.
    New(DiskId),
    /// On a disk that is not mounted; which one, if that is known.
    Missing(Option<DiskId>),
    /// No data disk is mounted.
    NoDisk,
}

/// Decides. `mounted` are the data disks in use, the one with the most room first.
#[must_use]
pub fn place(known: Known, mounted: &[DiskId]) -> Place {
    match (known.recorded.or(known.found), known.history) {
        (Some(disk), _) if mounted.contains(&disk) => Place::On(disk),
        (Some(disk), _) => Place::Missing(Some(disk)),
        (None, History::HasData) => Place::Missing(None),
        (None, History::Blank) => mounted.first().map_or(Place::NoDisk, |disk| Place::New(*disk)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_disk_is_waited_for_and_never_replaced_by_an_empty_volume() {
        let [old, new] = [DiskId::new([1; 16]), DiskId::new([2; 16])];
        let known = |recorded, found, history| Known {
            recorded,
            found,
            history,
        };
        use History::{Blank, HasData};
        for history in [Blank, HasData] {
            assert_eq!(
                place(known(Some(old), None, history), &[new]),
                Place::Missing(Some(old))
            );
            assert_eq!(place(known(Some(old), Some(new), history), &[new, old]), Place::On(old));
            assert_eq!(place(known(None, Some(old), history), &[new, old]), Place::On(old));
        }
        assert_eq!(place(known(None, None, HasData), &[new]), Place::Missing(None));
        assert_eq!(place(known(None, None, Blank), &[new, old]), Place::New(new));
        assert_eq!(place(known(None, None, Blank), &[]), Place::NoDisk);
    }
}
