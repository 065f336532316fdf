//! Whose disks the node uses: its own. A disk with another node's identity is let go before anything is written to it.

use std::collections::BTreeSet;

use ledger::Id;

use super::{DataDisk, Pool};
use crate::{disks::RefusalReason, identity, layout::DiskId};

/// The node that the disks must belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its id.
    pub node: Id,
    /// Disks that it knows: one with a damaged identity is its own if it is among these.
    pub disks: BTreeSet<DiskId>,
}

impl Owner {
    /// Why a mounted disk is not the node's; none if it is, or nobody's yet.
    #[must_use]
    pub fn refuses(&self, disk: &DataDisk) -> Option<RefusalReason> {
        self.judge(disk.id(), &identity::read(&disk.directory))
    }

    fn judge(&self, disk: DiskId, found: &identity::Copy) -> Option<RefusalReason> {
        match found {
            identity::Copy::Valid(identity) if identity.node() != self.node => {
                Some(RefusalReason::OtherNode(Some(identity.node())))
            }
            identity::Copy::Damaged(_) if !self.disks.contains(&disk) => Some(RefusalReason::OtherNode(None)),
            identity::Copy::Valid(_) | identity::Copy::Damaged(_) | identity::Copy::Absent => None,
        }
    }
}

/// Whose a disk is by what is on it, as a reason not to use it.
#[must_use]
pub fn stranger(disk: &DataDisk) -> RefusalReason {
    match identity::read(&disk.directory) {
        identity::Copy::Valid(identity) => RefusalReason::OtherNode(Some(identity.node())),
        identity::Copy::Damaged(_) | identity::Copy::Absent => RefusalReason::OtherNode(None),
    }
}

impl Pool {
    /// Names of the disks that must be unmounted to be left with those of `keep`, in that order: a disk that is kept but
    /// mounted below one that is not goes with it, and first.
    #[must_use]
    pub fn besides(&self, keep: &BTreeSet<DiskId>) -> Vec<String> {
        let strangers: Vec<_> = self.disks().iter().filter(|disk| !keep.contains(&disk.id())).collect();
        let mut going: Vec<_> = self
            .disks()
            .iter()
            .filter(|disk| {
                strangers
                    .iter()
                    .any(|stranger| disk.directory.starts_with(&stranger.directory))
            })
            .collect();
        going.sort_by_key(|disk| std::cmp::Reverse(disk.directory.components().count()));
        going.into_iter().map(|disk| disk.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disks::Medium,
        identity::{Copy, Damage, Identity},
        layout::DataPartition,
    };

    #[test]
    fn disk_of_another_node_and_a_damaged_one_of_nobody_known_are_refused() {
        let (own, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let (known, new) = (DiskId::new([1; 16]), DiskId::new([2; 16]));
        let owner = Owner {
            node: own.node(),
            disks: [known].into(),
        };
        let theirs = Some(RefusalReason::OtherNode(Some(other.node())));
        assert_eq!(owner.judge(new, &Copy::Valid(other.clone())), theirs);
        assert_eq!(
            owner.judge(known, &Copy::Valid(other)),
            theirs,
            "whatever the record says"
        );
        assert_eq!(owner.judge(new, &Copy::Valid(own)), None);
        assert_eq!(owner.judge(new, &Copy::Absent), None);
        let damaged = Copy::Damaged(Damage::Checksum);
        assert_eq!(owner.judge(known, &damaged), None, "it is healed");
        assert_eq!(owner.judge(new, &damaged), Some(RefusalReason::OtherNode(None)));
    }

    fn pool(directories: &[&str]) -> Pool {
        let disk = |(n, directory): (u8, &&str)| DataDisk {
            name: format!("vd{n}"),
            serial: None,
            medium: Medium::Flash,
            partition: DataPartition {
                first_byte: 1 << 20,
                bytes: 1,
                guid: [n; 16],
                index: n,
            },
            directory: directory.into(),
        };
        Pool {
            disks: (0..).zip(directories).map(disk).collect(),
        }
    }

    #[test]
    fn disks_below_a_strangers_directory_are_unmounted_before_it_and_no_others_are() {
        let keep = |disks: &[u8]| disks.iter().map(|n| DiskId::new([*n; 16])).collect();
        let first_is_strange = pool(&["/data", "/data/1", "/data/2"]).besides(&keep(&[1, 2]));
        assert_eq!(first_is_strange, ["vd1", "vd2", "vd0"]);
        assert_eq!(pool(&["/data/2", "/data", "/data/1"]).besides(&keep(&[1, 2])), ["vd0"]);
        assert!(pool(&["/data", "/data/1"]).besides(&keep(&[0, 1])).is_empty());
    }
}
