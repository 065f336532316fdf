use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{Blob, Label},
    hash::Hash,
    key::PublicKey,
    record::{Id, Kind},
    release::{SignedManifest, SignedRotation},
};

/// Most keys that sign releases of a channel.
pub const MAX_RELEASE_KEYS: usize = 16;
/// Most releases of a channel that are given to nodes at a time.
pub const MAX_STAGED: u8 = 8;

/// Keys of which so many must sign a release. What a node believes of releases begins with those that its image pins.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReleaseKeys {
    /// How many must sign, at least one.
    pub threshold: u8,
    /// Ed25519 keys in ascending order, at most [`MAX_RELEASE_KEYS`].
    pub keys: Vec<PublicKey>,
}

impl ReleaseKeys {
    /// Whether the keys are in order and as many as the threshold.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let ascending = self.keys.windows(2).all(|pair| pair[0] < pair[1]);
        let enough = (1..=self.keys.len()).contains(&usize::from(self.threshold));
        ascending && enough && self.keys.len() <= MAX_RELEASE_KEYS
    }
}

/// Releases of the node's system under one name and one succession of keys. Its id is founded by both its name and its first keys,
/// so an image that pins those knows it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Channel {
    /// Its name; not unique.
    pub label: Label,
    /// Who stages its releases. Cannot make one.
    pub owner: Id,
    /// The keys that sign now.
    pub keys: ReleaseKeys,
    /// How often they were rotated.
    pub rotations: u32,
    /// How this version's keys took the place of those before.
    pub rotation: Option<SignedRotation>,
    /// Number of the newest release, 0 before the first.
    pub newest: u64,
    /// How many releases are given to nodes.
    pub staged: u8,
}

impl Channel {
    /// The id of a channel with this name and these first keys.
    #[must_use]
    pub fn founding_id(label: &Label, keys: &ReleaseKeys) -> Id {
        Id::found(Kind::Channel, &(label, keys))
    }
}

/// A release of the node's system, and to how many nodes it is given. Its id is founded by its channel and number.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Release {
    /// What the keys signed.
    pub signed: SignedManifest,
    /// How often the channel's keys had been rotated when it was published.
    pub rotations: u32,
    /// To how many of a thousand nodes it is given.
    pub permille: u16,
}

impl Release {
    /// The id of a channel's release with this number.
    #[must_use]
    pub fn founding_id(channel: Id, number: u64) -> Id {
        Id::found(Kind::Release, &(channel, number))
    }

    /// Its image's manifest.
    #[must_use]
    pub fn image(&self) -> Blob {
        self.signed.manifest.image
    }

    /// Whether it is given to a node. Which nodes a share means differs from release to release; a larger share has all of a
    /// smaller one.
    #[must_use]
    pub fn covers(&self, node: Id) -> bool {
        let manifest = &self.signed.manifest;
        let drawn = Id::found(Kind::Release, &(manifest.channel, manifest.number, node)).hash();
        lot(drawn) < self.permille
    }
}

/// A number below 1,000 drawn by a hash, each as likely as any other to within one in 2^50.
fn lot(hash: Hash) -> u16 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u16::try_from(u64::from_le_bytes(first) % 1_000).unwrap_or_default()
}

/// The release that a node is to run: the newest of those given to it that is newer than what it runs.
#[must_use]
pub fn choose(node: Id, running: u64, releases: &[Release]) -> Option<&Release> {
    let number = |release: &&Release| release.signed.manifest.number;
    releases
        .iter()
        .filter(|release| number(release) > running && release.covers(node))
        .max_by_key(number)
}
