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
