//! Releases: what their keys make, and what the chain orders.

use proptest::prelude::*;

use super::*;
use crate::{
    body::{MAX_STAGED, choose},
    hash::Domain,
    release::{Judge, KeySignature, Manifest, Opening, Pin, ReleaseError, Rotation, SignedRotation},
    sets::{self, Set},
};

/// Seeds of release keys.
const FIRST: [u8; 3] = [50, 51, 52];
const SECOND: [u8; 2] = [60, 61];

fn release_keys(threshold: u8, seeds: &[u8]) -> ReleaseKeys {
    let mut keys: Vec<_> = seeds.iter().map(|seed| key(*seed).public()).collect();
    keys.sort();
    ReleaseKeys { threshold, keys }
}

fn label() -> Label {
    Label::new("stable").unwrap()
}

fn channel() -> Id {
    Channel::founding_id(&label(), &release_keys(2, &FIRST))
}

fn release(number: u64) -> Id {
    Release::founding_id(channel(), number)
}

fn manifest(number: u64) -> Manifest {
    Manifest {
        channel: channel(),
        number,
        name: Text::lossy("1.2.3"),
        image: Blob {
            hash: Hash::of(Domain::Founding, &number),
            size: 50_000_000,
        },
    }
}

impl World {
    fn signatures(&self, sign: impl Fn(Hash, &SigningKey) -> KeySignature, by: &[u8]) -> Vec<KeySignature> {
        by.iter().map(|seed| sign(self.chain(), &key(*seed))).collect()
    }

    fn open_channel(&mut self, by: &[u8]) -> Result<(), Refusal> {
        let opening = Opening {
            label: label(),
            keys: release_keys(2, &FIRST),
            owner: author(FARMER),
        };
        let signatures = self.signatures(|chain, key| opening.sign(chain, key), by);
        self.try_one(CUSTOMER, Operation::OpenChannel(opening.signed(signatures)))
    }

    fn rotation(&self, number: u32, keys: ReleaseKeys, by: &[u8]) -> SignedRotation {
        let rotation = Rotation {
            channel: channel(),
            number,
            keys,
            owner: author(CUSTOMER),
        };
        let signatures = self.signatures(|chain, key| rotation.sign(chain, key), by);
        rotation.signed(signatures)
    }

    fn rotate(&mut self, number: u32, keys: ReleaseKeys, by: &[u8]) -> Result<(), Refusal> {
        let signed = self.rotation(number, keys, by);
        self.try_one(NODE, Operation::RotateReleaseKeys(signed))
    }

    fn publish(&mut self, author: u8, number: u64, by: &[u8]) -> Result<(), Refusal> {
        let manifest = manifest(number);
        let signatures = self.signatures(|chain, key| manifest.sign(chain, key), by);
        self.try_one(author, Operation::PublishRelease(manifest.signed(signatures)))
    }

    fn stage(&mut self, author: u8, number: u64, permille: u16) -> Result<(), Refusal> {
        let release = release(number);
        self.try_one(author, Operation::StageRelease { release, permille })
    }

    fn with_channel() -> Self {
        let mut world = Self::furnished();
        world.open_channel(&FIRST[..2]).unwrap();
        world
    }

    fn channel(&self) -> Channel {
        self.get::<Channel>(channel())
    }
}

fn is_release(result: Result<(), Refusal>, error: &str) {
    assert!(
        matches!(&result, Err(Refusal::Release(text)) if text.contains(error)),
        "{result:?}"
    );
}

#[test]
fn a_channel_is_opened_by_enough_of_its_own_keys() {
    let mut world = World::furnished();
    is_release(world.open_channel(&[]), "0 of the release keys signed, 2 must");
    is_release(world.open_channel(&FIRST[..1]), "1 of the release keys signed, 2 must");
    is_release(world.open_channel(&[50, 50]), "ascending order");
    is_release(world.open_channel(&[50, 51, 99]), "none of the release keys");
    for keys in [
        release_keys(0, &FIRST),
        release_keys(4, &FIRST),
        release_keys(1, &[]),
        release_keys(1, &[50, 50]),
        release_keys(1, &(50..67).collect::<Vec<_>>()),
    ] {
        let opening = Opening {
            label: label(),
            keys,
            owner: author(FARMER),
        };
        let signatures = world.signatures(|chain, key| opening.sign(chain, key), &[50]);
        let opened = world.try_one(FARMER, Operation::OpenChannel(opening.signed(signatures)));
        is_release(opened, "release keys are 1 to 16 in ascending order");
    }
    world.open_channel(&FIRST).unwrap();
    assert_eq!((world.channel().owner, world.channel().newest), (author(FARMER), 0));
    assert!(matches!(world.open_channel(&FIRST), Err(Refusal::Exists(_))));
}

#[test]
fn a_release_is_made_by_its_keys_and_put_on_the_chain_by_the_owner_with_a_higher_number() {
    let mut world = World::with_channel();
    let other = world.publish(CUSTOMER, 1, &FIRST);
    assert!(matches!(other, Err(Refusal::NotAllowed(..))), "{other:?}");
    is_release(world.publish(FARMER, 1, &FIRST[1..2]), "1 of the release keys signed");
    is_release(world.publish(FARMER, 0, &FIRST), "number 0 is not above 0");
    world.publish(FARMER, 5, &FIRST[1..]).unwrap();
    for number in [5, 4] {
        is_release(world.publish(FARMER, number, &FIRST), "is not above 5");
    }
    world.publish(FARMER, 6, &FIRST).unwrap();
    assert_eq!((world.channel().newest, world.channel().staged), (6, 0));
    assert_eq!(world.get::<Release>(release(6)).permille, 0);
    // Of another manifest, or for another chain.
    let signed = manifest(7).signed(world.signatures(|chain, key| manifest(8).sign(chain, key), &FIRST));
    is_release(
        world.try_one(FARMER, Operation::PublishRelease(signed)),
        "a signature does not hold",
    );
    let signed = manifest(7).signed(world.signatures(|_, key| manifest(7).sign(Hash::ZERO, key), &FIRST));
    is_release(
        world.try_one(FARMER, Operation::PublishRelease(signed)),
        "a signature does not hold",
    );
}

#[test]
fn keys_are_rotated_by_those_before_and_those_after_one_step_at_a_time() {
    let mut world = World::with_channel();
    let second = || release_keys(1, &SECOND);
    is_release(
        world.rotate(1, second(), &[50, 51]),
        "0 of the release keys signed, 1 must",
    );
    is_release(
        world.rotate(1, second(), &[50, 60, 61]),
        "1 of the release keys signed, 2 must",
    );
    is_release(world.rotate(2, second(), &[50, 51, 60]), "rotation 2 does not follow 0");
    is_release(world.rotate(1, second(), &[50, 51, 60, 99]), "none of the release keys");
    world.rotate(1, second(), &[50, 51, 60]).unwrap();
    let rotated = world.channel();
    assert_eq!((rotated.rotations, rotated.owner), (1, author(CUSTOMER)));
    is_release(world.rotate(1, second(), &[50, 51, 60]), "rotation 1 does not follow 1");
    is_release(world.publish(CUSTOMER, 1, &FIRST), "none of the release keys");
    let before = world.publish(FARMER, 1, &SECOND);
    assert!(matches!(before, Err(Refusal::NotAllowed(..))), "{before:?}");
    world.publish(CUSTOMER, 1, &SECOND[1..]).unwrap();
    assert_eq!(world.get::<Release>(release(1)).rotations, 1);
}

#[test]
fn a_node_follows_rotations_from_the_keys_that_it_pins_and_believes_nobody_else() {
    let world = World::with_channel();
    let judge = Judge::plain(world.chain());
    let pinned = Pin {
        channel: channel(),
        rotations: 0,
        keys: release_keys(2, &FIRST),
    };
    let first = world.rotation(1, release_keys(1, &SECOND), &[50, 52, 61]);
    let second = world.rotation(2, release_keys(1, &FIRST), &[60, 52]);
    let now = pinned.rotated(&first, judge).unwrap();
    assert_eq!((now.rotations, &now.keys), (1, &release_keys(1, &SECOND)));
    let later = now.rotated(&second, judge).unwrap();
    let order = ReleaseError::Order { given: 2, rotations: 0 };
    assert_eq!(pinned.rotated(&second, judge), Err(order));
    // Whoever decides what stands on the chain cannot put keys in their place.
    let forged = world.rotation(1, release_keys(1, &[99]), &[99]);
    assert_eq!(
        pinned.rotated(&forged, judge),
        Err(ReleaseError::Few { signed: 0, needed: 2 })
    );

    let by = |seeds: &[u8]| {
        let signatures = seeds
            .iter()
            .map(|seed| manifest(1).sign(world.chain(), &key(*seed)))
            .collect();
        manifest(1).signed(signatures)
    };
    assert_eq!(now.check(&by(&[60]), judge), Ok(()));
    assert_eq!(later.check(&by(&[50]), judge), Ok(()));
    assert_eq!(
        pinned.check(&by(&[50]), judge),
        Err(ReleaseError::Few { signed: 1, needed: 2 })
    );
    assert_eq!(
        pinned.check(&by(&[60]), judge),
        Err(ReleaseError::Stranger(key(60).public()))
    );
    let mut elsewhere = pinned;
    elsewhere.channel = farm();
    assert_eq!(elsewhere.check(&by(&FIRST), judge), Err(ReleaseError::Channel));
    assert_eq!(elsewhere.rotated(&first, judge), Err(ReleaseError::Channel));
}

#[test]
fn the_owner_stages_a_release_and_a_few_at_a_time() {
    let mut world = World::with_channel();
    let missing = world.stage(FARMER, 1, 10);
    assert!(matches!(missing, Err(Refusal::Missing(_))), "{missing:?}");
    for number in 1..=u64::from(MAX_STAGED) + 1 {
        world.publish(FARMER, number, &FIRST).unwrap();
    }
    let other = world.stage(CUSTOMER, 1, 10);
    assert!(matches!(other, Err(Refusal::NotAllowed(..))), "{other:?}");
    let too_many = world.stage(FARMER, 1, 1_001);
    assert!(matches!(too_many, Err(Refusal::Invalid(_))), "{too_many:?}");
    for number in 1..=u64::from(MAX_STAGED) {
        world.stage(FARMER, number, 1).unwrap();
        world.stage(FARMER, number, 1_000).unwrap();
    }
    let last = u64::from(MAX_STAGED) + 1;
    is_release(world.stage(FARMER, last, 1), "8 releases are given to nodes already");
    world.stage(FARMER, last, 0).unwrap();
    world.stage(FARMER, 1, 0).unwrap();
    world.stage(FARMER, last, 1).unwrap();
    assert_eq!(world.channel().staged, MAX_STAGED);
    // Those that are given to nodes are a set that is proven to be complete.
    let set = Set {
        kind: Kind::Release,
        of: channel(),
    };
    let member = |number| {
        let key = RecordKey::new(Kind::Release, release(number));
        sets::of(&world.store.latest[&key]).contains(&set)
    };
    assert_eq!(
        (1..=last).filter(|number| member(*number)).count(),
        usize::from(MAX_STAGED)
    );
    assert!(!member(1));
}

fn staged(number: u64, permille: u16) -> Release {
    Release {
        signed: manifest(number).signed(vec![]),
        rotations: 0,
        permille,
    }
}

fn node_id(seed: u32) -> Id {
    Id::found(Kind::Node, &seed)
}

#[test]
fn a_share_is_the_share_of_nodes_that_it_says() {
    let covered = |release: &Release| (0..10_000).filter(|seed| release.covers(node_id(*seed))).count();
    assert_eq!(covered(&staged(1, 0)), 0);
    assert_eq!(covered(&staged(1, 1_000)), 10_000);
    // Six standard deviations of 10,000 draws.
    for (permille, about, most_off) in [(1, 10, 19), (100, 1_000, 180), (500, 5_000, 300)] {
        let covered = covered(&staged(2, permille));
        assert!(covered.abs_diff(about) <= most_off, "{permille}: {covered}");
    }
    // Nobody is always among the first.
    let both = (0..10_000).filter(|seed| [1, 2].iter().all(|number| staged(*number, 100).covers(node_id(*seed))));
    assert!(both.count().abs_diff(100) <= 60);
}

proptest! {
    #[test]
    fn a_node_goes_up_alone_and_what_covers_it_covers_it_with_a_larger_share(
        seed: u32, running in 0_u64..6, shares in proptest::collection::vec(0_u16..=1_000, 5), more in 0_u16..=1_000,
    ) {
        let node = node_id(seed);
        let releases: Vec<Release> = (1..).zip(&shares).map(|(number, permille)| staged(number, *permille)).collect();
        let number = |release: &Release| release.signed.manifest.number;
        let chosen = choose(node, running, &releases).map(number);
        let expected = releases.iter().filter(|release| release.covers(node)).map(number).max();
        prop_assert_eq!(chosen, expected.filter(|number| *number > running));
        let grown = staged(1, shares[0].saturating_add(more).min(1_000));
        prop_assert!(!releases[0].covers(node) || grown.covers(node));
    }
}
