//! Decrees and upgrades, and what a light client makes of them.

use super::*;
use crate::{
    body::CharterError,
    consensus::{CertificateError, proposal_bytes},
    decree::{Change, Decree, MAX_CHANGES, SignedDecree},
    encoding::{MAX_TRANSACTION, encode},
};

fn validator(seed: u8, power: u64) -> Validator {
    let key = key(seed).public();
    Validator { key, link: key, power }
}

fn decree(world: &World, changes: Vec<Change>, approving: &[u8]) -> SignedDecree {
    let decree = Decree {
        previous: world.hash_of(Kind::Charter, Charter::ID),
        changes,
    };
    let approve = |seed: &u8| decree.approve(world.chain(), &key(*seed));
    SignedDecree {
        approvals: approving.iter().map(approve).collect(),
        decree,
    }
}

/// Puts a decree on the chain that one of the validators brings.
fn enact(world: &mut World, by: u8, decree: SignedDecree) -> Result<(), Refusal> {
    let author = Charter::author_of(&key(by).public());
    let transaction = Transaction {
        author,
        nonce: world.nonces.get(&author).copied().unwrap_or(0),
        operation: Operation::Decree(decree),
    };
    let signed = transaction.sign(world.chain(), &key(by));
    world.block(&[signed]).pop().map_or(Ok(()), Err)
}

fn seeds_in_force(world: &World) -> Vec<u8> {
    let charter = world.get::<Charter>(Charter::ID);
    VALIDATORS
        .filter(|seed| charter.validators.get(&key(*seed).public()).is_some())
        .collect()
}

/// A chain of four validators of one vote each.
fn four() -> World {
    let mut world = World::bare();
    let others = (10..13).map(|seed| Change::PutValidator(validator(seed, 1))).collect();
    let others = decree(&world, others, &[VALIDATOR]);
    enact(&mut world, VALIDATOR, others).unwrap();
    assert_eq!(seeds_in_force(&world), [9, 10, 11, 12]);
    world
}

#[test]
fn validators_come_go_and_change_their_keys_and_a_light_client_follows_by_the_handovers_alone() {
    let mut world = four();
    world.wait(1_000);
    let rekey = vec![
        Change::RemoveValidator(key(12).public()),
        Change::PutValidator(validator(13, 1)),
    ];
    let rekey = decree(&world, rekey, &[9, 10, 11]);
    enact(&mut world, 10, rekey).unwrap();
    assert_eq!(seeds_in_force(&world), [9, 10, 11, 13]);
    let founder_goes = decree(
        &world,
        vec![Change::RemoveValidator(key(VALIDATOR).public())],
        &[10, 11, 13],
    );
    enact(&mut world, 13, founder_goes).unwrap();
    for _ in 0..5 {
        world.wait(1_000);
    }
    assert_eq!(seeds_in_force(&world), [10, 11, 13]);
    let handovers: Vec<_> = world.certified.iter().filter(|head| head.handover.is_some()).collect();
    assert_eq!(handovers.len(), 3);
    let mut light = LightClient::new(world.chain(), &world.genesis).unwrap();
    let newest = world.certified.last().unwrap();
    assert!(matches!(
        light.advance(newest),
        Err(LightError::WrongValidatorSet { .. })
    ));
    for handover in handovers {
        light.advance(handover).unwrap();
    }
    light.advance(newest).unwrap();
    assert_eq!(light.height(), world.head.height);
    let versions = world.store.versions.values();
    let mut charters: Vec<&Record> = versions.filter(|record| record.key().kind == Kind::Charter).collect();
    charters.sort_by_key(|record| std::cmp::Reverse(record.version));
    let earlier: Vec<Record> = charters[1..].iter().copied().cloned().collect();
    verify_history(charters[0], &earlier).unwrap();
    assert_eq!(charters.len(), 4);
}

#[test]
fn a_decree_needs_more_than_two_thirds_of_the_power_in_force() {
    let mut world = four();
    let refused = |world: &mut World, signed: SignedDecree| match enact(world, 9, signed) {
        Err(Refusal::Decree(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let changes = || vec![Change::PutValidator(validator(13, 5))];
    let total = 4;
    for approving in [&[][..], &[9], &[9, 10]] {
        let signed = u64::try_from(approving.len()).unwrap();
        let two_thirds_or_less = decree(&world, changes(), approving);
        let expected = CertificateError::Power { signed, total }.to_string();
        assert_eq!(refused(&mut world, two_thirds_or_less), expected);
    }
    let stranger = decree(&world, changes(), &[9, 10, 13]);
    let unknown = CertificateError::UnknownValidator(key(13).public()).to_string();
    assert_eq!(refused(&mut world, stranger), unknown);
    let twice = decree(&world, changes(), &[9, 10, 10]);
    let duplicate = CertificateError::Duplicate(key(10).public()).to_string();
    assert_eq!(refused(&mut world, twice), duplicate);
    let mut of_another_chain = decree(&world, changes(), &[9, 10, 11]);
    of_another_chain.approvals[2] = of_another_chain.decree.approve(Hash::ZERO, &key(11));
    let forged = CertificateError::Forged(key(11).public()).to_string();
    assert_eq!(refused(&mut world, of_another_chain), forged);
    let mut altered = decree(&world, changes(), &[9, 10, 11]);
    altered.decree.changes = vec![Change::PutValidator(validator(13, 6))];
    assert!(refused(&mut world, altered).contains("forged"));
    assert_eq!(seeds_in_force(&world), [9, 10, 11, 12]);

    let holds = decree(&world, changes(), &[9, 10, 11]);
    enact(&mut world, 9, holds.clone()).unwrap();
    assert!(refused(&mut world, holds).contains("the latest is"), "carried out once");
    // The newcomer has more than a third of the power now: the others alone decide nothing.
    let without = decree(
        &world,
        vec![Change::RemoveValidator(key(13).public())],
        &[9, 10, 11, 12],
    );
    assert!(refused(&mut world, without).contains("4 of 9"));
}

#[test]
fn a_decree_that_does_not_fit_the_charter_is_refused_with_the_reason() {
    let mut world = four();
    let upgrade = |protocol, from| Change::ScheduleUpgrade(Upgrade { protocol, from });
    let remove = |seed: u8| Change::RemoveValidator(key(seed).public());
    let too_many = (0..=MAX_CHANGES).map(|_| Change::CancelUpgrade).collect();
    let mut same_link = validator(13, 1);
    same_link.link = key(12).public();
    let everybody = [9, 10, 11, 12].map(remove).to_vec();
    let cases = [
        (vec![], CharterError::Changes.to_string()),
        (too_many, CharterError::Changes.to_string()),
        (
            vec![remove(13)],
            CharterError::NoValidator(key(13).public()).to_string(),
        ),
        (everybody, "a validator set has 1 to 100 members".to_owned()),
        (
            vec![Change::PutValidator(validator(13, 0))],
            "voting powers must be at least 1 and their sum below 2^63".to_owned(),
        ),
        (
            vec![Change::PutValidator(same_link)],
            "two validators have the same link key".to_owned(),
        ),
        (
            vec![upgrade(1, 100)],
            CharterError::Version { given: 1, now: 1 }.to_string(),
        ),
    ];
    for (changes, expected) in cases {
        let signed = decree(&world, changes, &[9, 10, 11]);
        assert_eq!(enact(&mut world, 9, signed), Err(Refusal::Decree(expected)));
    }
    let height = world.head.height + 1;
    let past = decree(&world, vec![upgrade(2, height)], &[9, 10, 11]);
    let expected = CharterError::Past { from: height, height }.to_string();
    assert_eq!(enact(&mut world, 9, past), Err(Refusal::Decree(expected)));
}

#[test]
fn an_upgrade_begins_at_its_height_and_stops_a_program_that_does_not_have_it() {
    let mut world = World::bare();
    let from = world.head.height + 4;
    let later = Upgrade {
        protocol: PROTOCOL + 1,
        from,
    };
    let scheduled = decree(&world, vec![Change::ScheduleUpgrade(later)], &[VALIDATOR]);
    enact(&mut world, VALIDATOR, scheduled).unwrap();
    let cancelled = decree(&world, vec![Change::CancelUpgrade], &[VALIDATOR]);
    enact(&mut world, VALIDATOR, cancelled).unwrap();
    assert_eq!(world.get::<Charter>(Charter::ID).upgrade, None);
    let scheduled = decree(&world, vec![Change::ScheduleUpgrade(later)], &[VALIDATOR]);
    enact(&mut world, VALIDATOR, scheduled).unwrap();
    assert_eq!(world.head.height + 1, from);
    let now = Timestamp::from_millis(world.now + 1_000);
    let proposer = key(VALIDATOR).public();
    let state = (&world.store, &Signatures::default());
    let stopped = propose_block(state, &world.genesis, &world.head, proposer, now, &[]);
    let needed = PROTOCOL + 1;
    assert!(
        matches!(stopped, Err(BlockError::Protocol { height, needed: n }) if (height, n) == (from, needed)),
        "{stopped:?}"
    );
    let charter = world.get::<Charter>(Charter::ID);
    assert_eq!(charter.upgraded(from - 1), None);
    let upgraded = charter.upgraded(from).unwrap();
    assert_eq!((upgraded.protocol, upgraded.upgrade), (needed, None));
}

#[test]
fn the_largest_decree_is_a_transaction() {
    let world = World::bare();
    let changes = (0..MAX_CHANGES)
        .map(|_| Change::PutValidator(validator(13, 1)))
        .collect();
    let decree = decree(&world, changes, &[VALIDATOR; 100]);
    let transaction = Transaction {
        author: Id::CHAIN,
        nonce: 0,
        operation: Operation::Decree(decree),
    };
    let length = encode(&transaction.sign(world.chain(), &key(VALIDATOR))).len();
    assert!(length <= MAX_TRANSACTION, "{length}");
}

/// What validator `seed` signed twice at a height: prevotes for no block and for some block.
fn double_vote(world: &World, seed: u8, height: u64) -> Misconduct {
    let sign = |block| {
        let bytes = vote_bytes(world.chain(), VoteKind::Prevote, height, 3, block);
        (block, key(seed).sign_bytes(&bytes))
    };
    Misconduct {
        validator: key(seed).public(),
        height,
        round: 3,
        pair: Pair::Votes(VoteKind::Prevote, [None, Some(Hash::from_bytes([7; 32]))].map(sign)),
    }
}

#[test]
fn what_a_validator_signed_twice_is_recorded_once_and_nothing_else_is() {
    let mut world = World::bare();
    world.wait(1_000);
    let height = world.head.height;
    let proof = double_vote(&world, VALIDATOR, height);
    let report = |world: &mut World, misconduct: &Misconduct| {
        world.try_one(CUSTOMER, Operation::ReportMisconduct(misconduct.clone()))
    };
    let refused = |reason: &str| Err(Refusal::Misconduct(reason.to_owned()));
    let wrong_order = Misconduct {
        pair: match proof.pair.clone() {
            Pair::Votes(kind, [first, second]) => Pair::Votes(kind, [second, first]),
            proposals => proposals,
        },
        ..proof.clone()
    };
    assert_eq!(
        report(&mut world, &wrong_order),
        refused(&MisconductError::Order.to_string())
    );
    let other_round = Misconduct {
        round: 4,
        ..proof.clone()
    };
    assert_eq!(
        report(&mut world, &other_round),
        refused(&MisconductError::Forged.to_string())
    );
    let stranger = double_vote(&world, 10, height);
    let unknown = format!("{} is no validator", key(10).public());
    assert_eq!(report(&mut world, &stranger), refused(&unknown));
    let to_come = double_vote(&world, VALIDATOR, 1_000);
    assert_eq!(report(&mut world, &to_come), refused("block 1000 is not made yet"));

    let mut later = World::bare();
    for _ in 0..1_001 {
        later.wait(0);
    }
    let old = double_vote(&later, VALIDATOR, 1);
    assert_eq!(
        report(&mut later, &old),
        refused("block 1 is more than 1000 blocks old")
    );
    let recent = double_vote(&later, VALIDATOR, 10);
    report(&mut later, &recent).unwrap();

    report(&mut world, &proof).unwrap();
    assert_eq!(world.get::<Misconduct>(proof.id()), proof);
    let proposal = |block: u8| {
        let block = Hash::from_bytes([block; 32]);
        let bytes = proposal_bytes(world.chain(), height, 5, block, None);
        (block, None, key(VALIDATOR).sign_bytes(&bytes))
    };
    let proposals = Misconduct {
        round: 5,
        pair: Pair::Proposals([1, 2].map(proposal)),
        ..proof.clone()
    };
    proposals.check(world.chain()).unwrap();
    let again = RecordKey::new(Kind::Misconduct, proof.id());
    assert_eq!(report(&mut world, &proposals), Err(Refusal::Exists(again)));
}
