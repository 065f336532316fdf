//! The never-touch rule, as one function.

use std::{collections::BTreeSet, fmt};

use ledger::Id;

use super::{Content, DiskFacts, MIN_BYTES};
use crate::{layout::OurTable, text::size};

/// Serials that `zos.erase=` names.
pub type Erase = BTreeSet<String>;

/// What is to be done with a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is ours and whole: mount it.
    Adopt,
    /// It may be formatted.
    Format(FormatReason),
    /// Nothing speaks against it yet: read all of it, then decide again.
    ReadFully,
    /// It is not touched.
    Refuse(Refusal),
}

/// Why a disk may be formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatReason {
    /// A full read found zeros only.
    Zeros,
    /// We began to format it and were interrupted before it held anything.
    HalfMade,
    /// `zos.erase=` names it.
    Erase,
}

/// Why a disk is not touched; its text is the line for the console and the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Kernel name.
    pub name: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// The reason.
    pub reason: RefusalReason,
}

/// The reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalReason {
    /// It carries something of somebody else's.
    Foreign(String),
    /// It carries our partition table, but no file system of ours that can be read.
    OursDamaged,
    /// It is a data disk of another node: this one, or one whose identity cannot be read.
    OtherNode(Option<Id>),
    /// `zos.erase=` names it, and another disk as well.
    SharedSerial,
    /// A node boots from it.
    BootMedium,
    /// The device says that it can be pulled out.
    Removable,
    /// The device refuses writes.
    ReadOnly,
    /// Another part of the kernel holds it.
    Held,
    /// Smaller than [`MIN_BYTES`].
    TooSmall,
    /// It could not be read.
    Unreadable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let serial = self.serial.as_deref();
        write!(
            f,
            "{} (serial {}, {}): ",
            self.name,
            serial.unwrap_or("unknown"),
            size(self.bytes)
        )?;
        let erasable = match &self.reason {
            RefusalReason::Foreign(what) => {
                write!(f, "carries {what}; not touched")?;
                true
            }
            RefusalReason::OursDamaged => {
                f.write_str("carries our partition table but no readable file system of ours; not touched, so that its data can be saved")?;
                true
            }
            RefusalReason::OtherNode(Some(node)) => {
                write!(
                    f,
                    "is a data disk of another node ({}); not used; empty it elsewhere to use it here",
                    node.short()
                )?;
                false
            }
            RefusalReason::OtherNode(None) => {
                f.write_str("holds an identity that cannot be read, and this node does not know the disk; not used")?;
                false
            }
            RefusalReason::SharedSerial => {
                f.write_str("is named by zos.erase, and so is another disk with the same serial; neither is touched")?;
                false
            }
            RefusalReason::BootMedium => {
                f.write_str("is a boot medium of this system; never used for data")?;
                false
            }
            RefusalReason::Removable => {
                f.write_str("can be pulled out; not used for data")?;
                false
            }
            RefusalReason::ReadOnly => {
                f.write_str("refuses writes; not used")?;
                false
            }
            RefusalReason::Held => {
                f.write_str("is held by another part of the kernel; not touched")?;
                false
            }
            RefusalReason::TooSmall => {
                write!(f, "is smaller than {}; not used", size(MIN_BYTES))?;
                false
            }
            RefusalReason::Unreadable(why) => {
                write!(f, "cannot be read ({why}); not touched")?;
                false
            }
        };
        match (erasable, serial) {
            (true, Some(serial)) => write!(f, "; zos.erase={serial} on the command line would erase it"),
            (true, None) => f.write_str("; it states no serial, so it must be emptied elsewhere before it can be used"),
            (false, _) => Ok(()),
        }
    }
}

/// Decides what may be done with a disk. `zos.erase=` never applies to a disk that already holds our whole file system, so
/// that an option left on the command line does not erase the node's data on the next start.
#[must_use]
pub fn decide(facts: &DiskFacts, erase: &Erase) -> Decision {
    let refuse = |reason| {
        Decision::Refuse(Refusal {
            name: facts.name.clone(),
            serial: facts.serial.clone(),
            bytes: facts.bytes,
            reason,
        })
    };
    let named = facts.serial.as_ref().is_some_and(|serial| erase.contains(serial));
    if matches!(facts.content, Content::BootMedium) {
        return refuse(RefusalReason::BootMedium);
    }
    if facts.removable {
        return refuse(RefusalReason::Removable);
    }
    if facts.read_only {
        return refuse(RefusalReason::ReadOnly);
    }
    if facts.held {
        return refuse(RefusalReason::Held);
    }
    if facts.bytes < MIN_BYTES {
        return refuse(RefusalReason::TooSmall);
    }
    match &facts.content {
        Content::Ours(OurTable::Whole(_)) => Decision::Adopt,
        Content::Ours(OurTable::HalfMade) => Decision::Format(FormatReason::HalfMade),
        Content::Zeros => Decision::Format(FormatReason::Zeros),
        Content::Ours(OurTable::Damaged) | Content::Foreign(_) if named && facts.serial_shared => {
            refuse(RefusalReason::SharedSerial)
        }
        Content::BlankEnds if facts.serial_shared => Decision::ReadFully,
        Content::Ours(OurTable::Damaged) | Content::Foreign(_) | Content::BlankEnds if named => {
            Decision::Format(FormatReason::Erase)
        }
        Content::BlankEnds => Decision::ReadFully,
        Content::Ours(OurTable::Damaged) => refuse(RefusalReason::OursDamaged),
        Content::Foreign(what) => refuse(RefusalReason::Foreign(what.clone())),
        Content::BootMedium => refuse(RefusalReason::BootMedium),
        Content::Unreadable(why) => refuse(RefusalReason::Unreadable(why.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disks::Medium;
    use crate::layout::DataPartition;

    fn disk(content: Content) -> DiskFacts {
        DiskFacts {
            name: "vdb".to_owned(),
            serial: Some("X".to_owned()),
            serial_shared: false,
            model: None,
            transport: "virtio",
            bytes: 2 << 30,
            block: 512,
            medium: Medium::Flash,
            removable: false,
            read_only: false,
            held: false,
            content,
        }
    }

    fn named() -> Erase {
        ["X".to_owned()].into()
    }

    fn whole() -> Content {
        Content::Ours(OurTable::Whole(DataPartition {
            first_byte: 1 << 20,
            bytes: 1 << 30,
            guid: [7; 16],
            index: 0,
        }))
    }

    #[test]
    fn foreign_disk_is_refused_with_the_exact_reason() {
        let facts = disk(Content::Foreign("an ext4 file system labelled \"photos\"".to_owned()));
        let Decision::Refuse(refusal) = decide(&facts, &Erase::new()) else {
            panic!("not refused")
        };
        assert_eq!(
            refusal.to_string(),
            "vdb (serial X, 2 GiB): carries an ext4 file system labelled \"photos\"; not touched; \
             zos.erase=X on the command line would erase it"
        );
        assert_eq!(decide(&facts, &named()), Decision::Format(FormatReason::Erase));
        assert!(
            matches!(decide(&facts, &["x".to_owned()].into()), Decision::Refuse(_)),
            "serials are compared exactly"
        );
    }

    #[test]
    fn serial_that_two_disks_state_names_neither() {
        for content in [
            Content::Foreign("an NTFS file system".to_owned()),
            Content::Ours(OurTable::Damaged),
        ] {
            let twin = DiskFacts {
                serial_shared: true,
                ..disk(content)
            };
            let Decision::Refuse(refusal) = decide(&twin, &named()) else {
                panic!("not refused")
            };
            assert_eq!(
                refusal.to_string(),
                "vdb (serial X, 2 GiB): is named by zos.erase, and so is another disk with the same serial; neither is touched"
            );
            assert!(matches!(decide(&twin, &Erase::new()), Decision::Refuse(other) if other != refusal));
        }
        let blank = DiskFacts {
            serial_shared: true,
            ..disk(Content::BlankEnds)
        };
        assert_eq!(
            decide(&blank, &named()),
            Decision::ReadFully,
            "it may be used if it holds zeros only"
        );
    }

    #[test]
    fn disk_without_serial_cannot_be_named() {
        let facts = DiskFacts {
            serial: None,
            ..disk(Content::Foreign("an NTFS file system".to_owned()))
        };
        let Decision::Refuse(refusal) = decide(&facts, &["".to_owned(), "unknown".to_owned()].into()) else {
            panic!("not refused")
        };
        assert!(
            refusal
                .to_string()
                .ends_with("it states no serial, so it must be emptied elsewhere before it can be used")
        );
    }

    #[test]
    fn blank_ends_alone_are_never_enough() {
        assert_eq!(decide(&disk(Content::BlankEnds), &Erase::new()), Decision::ReadFully);
        assert_eq!(
            decide(&disk(Content::Zeros), &Erase::new()),
            Decision::Format(FormatReason::Zeros)
        );
    }

    #[test]
    fn our_own_whole_disk_is_adopted_even_when_an_old_erase_option_names_it() {
        assert_eq!(decide(&disk(whole()), &named()), Decision::Adopt);
        assert_eq!(decide(&disk(whole()), &Erase::new()), Decision::Adopt);
    }

    #[test]
    fn our_damaged_disk_is_kept_unless_named_and_a_half_made_one_is_made_again() {
        let damaged = disk(Content::Ours(OurTable::Damaged));
        assert!(matches!(
            decide(&damaged, &Erase::new()),
            Decision::Refuse(Refusal {
                reason: RefusalReason::OursDamaged,
                ..
            })
        ));
        assert_eq!(decide(&damaged, &named()), Decision::Format(FormatReason::Erase));
        let half = disk(Content::Ours(OurTable::HalfMade));
        assert_eq!(decide(&half, &Erase::new()), Decision::Format(FormatReason::HalfMade));
    }

    #[test]
    fn no_option_makes_a_boot_medium_removable_read_only_held_small_or_unreadable_disk_usable() {
        let zeros = disk(Content::Zeros);
        let cases = [
            (disk(Content::BootMedium), RefusalReason::BootMedium),
            (
                DiskFacts {
                    removable: true,
                    ..zeros.clone()
                },
                RefusalReason::Removable,
            ),
            (
                DiskFacts {
                    read_only: true,
                    ..zeros.clone()
                },
                RefusalReason::ReadOnly,
            ),
            (
                DiskFacts {
                    held: true,
                    ..zeros.clone()
                },
                RefusalReason::Held,
            ),
            (
                DiskFacts {
                    bytes: MIN_BYTES - 1,
                    ..zeros
                },
                RefusalReason::TooSmall,
            ),
            (
                disk(Content::Unreadable("EIO".to_owned())),
                RefusalReason::Unreadable("EIO".to_owned()),
            ),
        ];
        for (facts, expected) in cases {
            let Decision::Refuse(refusal) = decide(&facts, &named()) else {
                panic!("{facts:?} not refused")
            };
            assert_eq!(refusal.reason, expected);
        }
    }
}
