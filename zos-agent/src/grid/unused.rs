//! Which images go: those that no contract refers to, when room is needed or after a day.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::reconcile::ImageHash;

/// How long an image is kept that no contract refers to. A customer who deploys again finds it still here.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);

/// Whether images must make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is enough.
    Enough,
    /// Something did not find room, or little is left.
    Needed,
}

/// Since when each image has been without a contract, in time since the machine's start. A new agent counts anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    since: BTreeMap<ImageHash, Duration>,
}

impl Unused {
    /// The images that are to go now.
    pub fn due(
        &mut self,
        present: &BTreeSet<ImageHash>,
        wanted: &BTreeSet<ImageHash>,
        room: Room,
        now: Duration,
    ) -> Vec<ImageHash> {
        let unused: BTreeSet<&ImageHash> = present.difference(wanted).collect();
        self.since.retain(|image, _| unused.contains(image));
        for image in unused {
            self.since.entry(*image).or_insert(now);
        }
        let over = |since: Duration| room == Room::Needed || now.saturating_sub(since) >= KEEP;
        let due = self.since.iter().filter(|(_, since)| over(**since));
        due.map(|(image, _)| *image).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ImageHash = [1; 32];
    const B: ImageHash = [2; 32];

    #[test]
    fn image_without_a_contract_goes_after_a_day_or_when_room_is_needed_and_no_other_ever_does() {
        let (both, only_a, none) = ([A, B].into(), [A].into(), BTreeSet::new());
        let hour = |hours: u64| Duration::from_secs(hours * 3600);
        let mut unused = Unused::default();
        assert!(unused.due(&both, &only_a, Room::Enough, hour(0)).is_empty());
        assert!(unused.due(&both, &only_a, Room::Enough, hour(23)).is_empty());
        assert_eq!(unused.due(&both, &only_a, Room::Enough, hour(24)), [B]);
        assert_eq!(unused.due(&both, &only_a, Room::Needed, hour(1)), [B], "room is needed");
        assert!(unused.due(&only_a, &only_a, Room::Needed, hour(25)).is_empty());
        // One that was wanted again in between begins anew.
        assert!(unused.due(&both, &both, Room::Enough, hour(26)).is_empty());
        assert!(unused.due(&both, &none, Room::Enough, hour(40)).is_empty());
        assert_eq!(unused.due(&both, &none, Room::Enough, hour(64)), [A, B]);
    }
}
