//! How a node joins.

use super::*;

#[test]
fn a_node_joins_only_with_the_farms_consent_and_within_its_limits() {
    let mut world = World::bare();
    let location = Location {
        country: *b"BE",
        latitude: 0,
        longitude: 0,
    };
    world.ok(
        FARMER,
        Operation::CreateFarm {
            name: Text::lossy("farm"),
            location,
        },
    );
    let join = world.join(ENROLMENT);
    let refused = world.try_one(NODE, Operation::JoinNode(join.clone()));
    assert!(matches!(refused, Err(Refusal::Enrolment(_))));
    let enrolment = Enrolment {
        key: key(ENROLMENT).public(),
        remaining: 0,
        until: Timestamp::from_millis(1 << 40),
    };
    world.ok(
        FARMER,
        Operation::SetEnrolments {
            farm: farm(),
            enrolments: vec![enrolment],
        },
    );
    assert!(matches!(
        world.try_one(NODE, Operation::JoinNode(join.clone())),
        Err(Refusal::Enrolment(_))
    ));
    let enrolment = Enrolment {
        remaining: 1,
        ..enrolment
    };
    world.ok(
        FARMER,
        Operation::SetEnrolments {
            farm: farm(),
            enrolments: vec![enrolment],
        },
    );
    world.ok(NODE, Operation::JoinNode(join));
    assert_eq!(world.get::<Farm>(farm()).enrolments[0].remaining, 0);
    world.ok(FARMER, Operation::ExpelNode { node: author(NODE) });
    assert_eq!(world.get::<Node>(author(NODE)).state, NodeState::Expelled);
}

#[test]
fn a_farm_is_moved_by_its_owner_and_stays_the_same_farm() {
    let mut world = World::furnished();
    let before = world.get::<Farm>(farm());
    let moved = Location {
        country: *b"NL",
        latitude: 52_000_000,
        longitude: 4_900_000,
    };
    let update = |name: &str, location| Operation::UpdateFarm {
        farm: farm(),
        name: Text::lossy(name),
        location,
    };
    let refused = world.try_one(CUSTOMER, update("mine", moved));
    assert!(matches!(refused, Err(Refusal::NotAllowed(..))), "{refused:?}");
    let nowhere = Location {
        latitude: 90_000_001,
        ..moved
    };
    for (name, location) in [("", moved), ("shed", nowhere)] {
        let refused = world.try_one(FARMER, update(name, location));
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    world.ok(FARMER, update("shed", moved));
    let after = world.get::<Farm>(farm());
    assert_eq!((after.name.as_str(), after.location), ("shed", moved));
    assert_eq!((after.owner, after.enrolments), (before.owner, before.enrolments));
}

const HOUR: u64 = 3_600_000;

impl World {
    fn attest(&mut self) -> Result<(), Refusal> {
        let block = (self.head.height, self.head.id);
        self.try_one(NODE, Operation::Attest { block })
    }

    fn node_state(&self) -> NodeState {
        self.get::<Node>(author(NODE)).state
    }
}

#[test]
fn a_node_that_does_not_attest_is_degraded_and_then_gone_and_is_back_when_it_does() {
    let mut world = World::furnished();
    assert_eq!(world.node_state().name(), "joined");
    world.attest().unwrap();
    let NodeState::Active { seen, until } = world.node_state() else {
        panic!("{:?}", world.node_state())
    };
    assert_eq!((seen, until), (world.head.time, world.head.time.plus(HOUR)));
    let again = world.attest();
    assert!(matches!(again, Err(Refusal::Invalid(_))), "{again:?}");
    world.wait(HOUR / 2);
    world.attest().unwrap();
    world.wait(HOUR);
    assert_eq!(world.node_state().name(), "degraded");
    let signed = world.agreement(1, 1, 1);
    let refused = world.try_one(CUSTOMER, Operation::Agree(signed));
    assert_eq!(refused, Err(Refusal::Agreement("the node is degraded".into())));
    world.attest().unwrap();
    world.agree(2, 1);
    world.wait(HOUR);
    assert_eq!(world.node_state().name(), "degraded");
    world.wait(24 * HOUR);
    assert_eq!(world.node_state().name(), "gone");
    world.wait(24 * HOUR);
    assert_eq!(world.node_state().due(), None, "nothing changes it but the node");
    world.attest().unwrap();
    assert_eq!(world.node_state().name(), "active");
    world.ok(FARMER, Operation::ExpelNode { node: author(NODE) });
    let expelled = world.attest();
    assert!(matches!(expelled, Err(Refusal::NotAllowed(..))), "{expelled:?}");
    world.wait(100 * HOUR);
    assert_eq!(world.node_state(), NodeState::Expelled);
}

#[test]
fn an_attestation_names_a_block_that_is_no_older_than_the_time_between_two() {
    let mut world = World::furnished();
    let early = (world.head.height, world.head.id);
    let wrong = (world.head.height, Hash::ZERO);
    let ahead = (world.head.height + 9, world.head.id);
    for block in [wrong, ahead] {
        let refused = world.try_one(NODE, Operation::Attest { block });
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    world.wait(HOUR);
    let refused = world.try_one(NODE, Operation::Attest { block: early });
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    let refused = world.try_one(CUSTOMER, Operation::Attest { block: early });
    assert!(matches!(refused, Err(Refusal::Missing(_))), "{refused:?}");
}

#[test]
fn the_time_between_attestations_is_decreed_within_bounds() {
    let world = World::furnished();
    let charter = world.get::<Charter>(Charter::ID);
    let decree = |millis| crate::decree::Decree {
        previous: world.hash_of(Kind::Charter, Charter::ID),
        changes: vec![crate::decree::Change::AttestEvery(millis)],
    };
    assert_eq!(charter.amended(&decree(60_000), 9).unwrap().attest_ms, 60_000);
    for millis in [0, ATTEST_MS.start() - 1, ATTEST_MS.end() + 1] {
        assert_eq!(charter.amended(&decree(millis), 9), Err(CharterError::Attest(millis)));
    }
}
