//! Keys that change, and a thief who has the old ones.

use proptest::prelude::*;

use super::*;
use crate::{
    key::Signature,
    transaction::{NewKeys, RecoveryChange},
};

const NEW: u8 = 31;
const NEWER: u8 = 32;
const RECOVERY: u8 = 33;
const OTHER_RECOVERY: u8 = 34;

impl World {
    /// One transaction of an entity's, signed with this key.
    fn send_with(&mut self, id: Id, signer: u8, operation: Operation) -> Result<(), Refusal> {
        let nonce = self.nonces.get(&id).copied().unwrap_or(0);
        let transaction = Transaction {
            author: id,
            nonce,
            operation,
        };
        let signed = transaction.sign(self.chain(), &key(signer));
        self.block(&[signed]).pop().map_or(Ok(()), Err)
    }

    fn new_keys(&self, seed: u8) -> NewKeys {
        NewKeys::prove(self.chain(), &key(seed), author(CUSTOMER), keys(seed))
    }

    fn consent(&self, by: u8, recovery: Option<u8>) -> Option<Signature> {
        let change = RecoveryChange {
            entity: author(CUSTOMER),
            version: self.hash_of(Kind::Entity, author(CUSTOMER)),
            recovery: recovery.map(|seed| key(seed).public()),
        };
        Some(change.consent(self.chain(), &key(by)))
    }

    fn set_recovery(&mut self, signer: u8, recovery: Option<u8>, consent: Option<Signature>) -> Result<(), Refusal> {
        let operation = Operation::SetRecovery {
            recovery: recovery.map(|seed| key(seed).public()),
            consent,
        };
        self.send_with(author(CUSTOMER), signer, operation)
    }

    fn recover(&mut self, by: u8, new: NewKeys, recovery: Option<u8>) -> Result<(), Refusal> {
        let operation = Operation::Recover {
            entity: author(CUSTOMER),
            by: key(by).public(),
            new,
            recovery: recovery.map(|seed| key(seed).public()),
        };
        self.send_with(Entity::recovery_author(&key(by).public()), by, operation)
    }

    fn say(&mut self, signer: u8) -> Result<(), Refusal> {
        let update = Operation::UpdateEntity {
            name: Text::lossy("somebody else"),
            addresses: vec![],
        };
        self.send_with(author(CUSTOMER), signer, update)
    }

    fn customer(&self) -> Entity {
        self.get::<Entity>(author(CUSTOMER))
    }
}

fn is_keys(result: Result<(), Refusal>) {
    assert!(matches!(result, Err(Refusal::Keys(_))), "{result:?}");
}

#[test]
fn rotated_keys_sign_from_then_on_and_the_old_ones_no_more() {
    let mut world = World::bare();
    let id = author(CUSTOMER);
    let new = world.new_keys(NEW);
    world.send_with(id, CUSTOMER, Operation::RotateKeys(new)).unwrap();
    assert_eq!(world.customer().keys, keys(NEW));
    assert_eq!(world.say(CUSTOMER), Err(Refusal::BadSignature));
    world.say(NEW).unwrap();
    let newer = world.new_keys(NEWER);
    assert_eq!(
        world.send_with(id, CUSTOMER, Operation::RotateKeys(newer)),
        Err(Refusal::BadSignature)
    );
    world.send_with(id, NEW, Operation::RotateKeys(newer)).unwrap();
    world.say(NEWER).unwrap();
    // The balance and the nonce are the entity's.
    assert_eq!(world.get::<Account>(id).balance.micro(), SUPPLY);
}

#[test]
fn keys_that_nobody_proves_to_have_are_refused() {
    let mut world = World::bare();
    let id = author(CUSTOMER);
    let chain = world.chain();
    let wrong = [
        NewKeys::prove(chain, &key(CUSTOMER), id, keys(NEW)),
        NewKeys::prove(chain, &key(NEW), author(FARMER), keys(NEW)),
        NewKeys::prove(Hash::ZERO, &key(NEW), id, keys(NEW)),
        NewKeys {
            keys: Keys {
                link: key(FARMER).public(),
                ..keys(NEW)
            },
            ..world.new_keys(NEW)
        },
        // Those that it has.
        world.new_keys(CUSTOMER),
    ];
    for new in wrong {
        is_keys(world.send_with(id, CUSTOMER, Operation::RotateKeys(new)));
    }
    let node = world.send_with(author(NODE), NODE, Operation::RotateKeys(world.new_keys(NEW)));
    assert_eq!(node, Err(Refusal::UnknownAuthor(author(NODE))));
    assert_eq!(world.customer(), entity(CUSTOMER));
}

#[test]
fn a_recovery_key_is_replaced_with_its_own_consent_alone() {
    let mut world = World::bare();
    world.set_recovery(CUSTOMER, Some(RECOVERY), None).unwrap();
    is_keys(world.set_recovery(CUSTOMER, Some(RECOVERY), None));
    let same = world.consent(RECOVERY, Some(CUSTOMER));
    is_keys(world.set_recovery(CUSTOMER, Some(CUSTOMER), same));

    // A thief of the other keys.
    is_keys(world.set_recovery(CUSTOMER, None, None));
    is_keys(world.set_recovery(CUSTOMER, Some(OTHER_RECOVERY), None));
    let own = world.consent(CUSTOMER, Some(OTHER_RECOVERY));
    is_keys(world.set_recovery(CUSTOMER, Some(OTHER_RECOVERY), own));
    let for_none = world.consent(RECOVERY, None);
    is_keys(world.set_recovery(CUSTOMER, Some(OTHER_RECOVERY), for_none));

    let consent = world.consent(RECOVERY, Some(OTHER_RECOVERY));
    world.set_recovery(CUSTOMER, Some(OTHER_RECOVERY), consent).unwrap();
    // What was consented to once is not consented to again.
    let back = world.consent(OTHER_RECOVERY, Some(RECOVERY));
    world.set_recovery(CUSTOMER, Some(RECOVERY), back).unwrap();
    is_keys(world.set_recovery(CUSTOMER, Some(OTHER_RECOVERY), consent));
    assert_eq!(world.customer().recovery, Some(key(RECOVERY).public()));
    // Nor may the keys become the recovery key.
    let new = world.new_keys(RECOVERY);
    is_keys(world.send_with(author(CUSTOMER), CUSTOMER, Operation::RotateKeys(new)));
}

#[test]
fn an_owner_takes_back_what_a_thief_has_rotated() {
    let mut world = World::bare();
    let no_key = world.new_keys(NEW);
    is_keys(world.recover(RECOVERY, no_key, None));
    world.set_recovery(CUSTOMER, Some(RECOVERY), None).unwrap();

    let (stolen, mine) = (world.new_keys(NEW), world.new_keys(NEWER));
    world
        .send_with(author(CUSTOMER), CUSTOMER, Operation::RotateKeys(stolen))
        .unwrap();
    assert_eq!(world.say(CUSTOMER), Err(Refusal::BadSignature));
    is_keys(world.recover(OTHER_RECOVERY, mine, None));
    // However many versions and nonces the thief uses up, what was signed before holds.
    world.say(NEW).unwrap();
    world.recover(RECOVERY, mine, Some(OTHER_RECOVERY)).unwrap();
    assert_eq!(
        (world.customer().keys, world.customer().recovery),
        (keys(NEWER), Some(key(OTHER_RECOVERY).public()))
    );
    assert_eq!(world.say(NEW), Err(Refusal::BadSignature));
    world.say(NEWER).unwrap();
    let latest = &world.store.latest[&RecordKey::new(Kind::Entity, author(CUSTOMER))];
    assert_eq!(latest.version, 6, "one a change, linked");

    // The key that was used is none any more, and what it signed is not taken twice.
    is_keys(world.recover(RECOVERY, mine, None));
    let again = Operation::Recover {
        entity: author(CUSTOMER),
        by: key(RECOVERY).public(),
        new: mine,
        recovery: None,
    };
    let replayed = Transaction {
        author: Entity::recovery_author(&key(RECOVERY).public()),
        nonce: 0,
        operation: again,
    };
    let replayed = replayed.sign(world.chain(), &key(RECOVERY));
    assert!(matches!(world.block(&[replayed])[..], [Refusal::NonceUsed { .. }]));
}

#[test]
fn a_recovery_is_signed_by_the_key_that_it_names_as_that_keys_author() {
    let mut world = World::bare();
    world.set_recovery(CUSTOMER, Some(RECOVERY), None).unwrap();
    let operation = Operation::Recover {
        entity: author(CUSTOMER),
        by: key(RECOVERY).public(),
        new: world.new_keys(NEW),
        recovery: None,
    };
    let recovery = Entity::recovery_author(&key(RECOVERY).public());
    let forged = world.send_with(recovery, CUSTOMER, operation.clone());
    assert_eq!(forged, Err(Refusal::BadSignature));
    let wrong = world.send_with(author(CUSTOMER), CUSTOMER, operation);
    assert!(matches!(wrong, Err(Refusal::WrongId { .. })), "{wrong:?}");
    // It can do nothing else.
    let amount = Tokens::from_micro(1);
    let spend = Operation::Transfer {
        to: author(FARMER),
        amount,
    };
    assert_eq!(
        world.send_with(recovery, RECOVERY, spend),
        Err(Refusal::UnknownAuthor(recovery))
    );
}

#[test]
fn keys_that_are_rotated_within_a_block_sign_what_comes_after_in_it() {
    let mut world = World::bare();
    let id = author(CUSTOMER);
    let sign = |world: &World, nonce, signer, operation| {
        let transaction = Transaction {
            author: id,
            nonce,
            operation,
        };
        transaction.sign(world.chain(), &key(signer))
    };
    let pay = || Operation::Transfer {
        to: author(FARMER),
        amount: Tokens::from_micro(1),
    };
    let block = [
        sign(&world, 0, CUSTOMER, pay()),
        sign(&world, 1, CUSTOMER, Operation::RotateKeys(world.new_keys(NEW))),
        sign(&world, 2, CUSTOMER, pay()),
        sign(&world, 2, NEW, pay()),
    ];
    assert_eq!(world.block(&block), [Refusal::BadSignature]);
    assert_eq!(world.get::<Account>(author(FARMER)).balance.micro(), 2);
}

/// What somebody tries who has the signing key, the recovery key or none of them.
#[derive(Debug, Clone, Copy)]
enum Try {
    Say {
        signer: u8,
    },
    Rotate {
        signer: u8,
        to: u8,
        proof: u8,
    },
    SetRecovery {
        signer: u8,
        to: Option<u8>,
        consent: Option<u8>,
    },
    Recover {
        by: u8,
        to: u8,
        proof: u8,
        next: Option<u8>,
    },
}

fn any_key() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(CUSTOMER), 2 => NEW..=OTHER_RECOVERY]
}

fn any_try() -> impl Strategy<Value = Try> {
    let maybe = || proptest::option::of(any_key());
    prop_oneof![
        any_key().prop_map(|signer| Try::Say { signer }),
        (any_key(), any_key(), any_key()).prop_map(|(signer, to, proof)| Try::Rotate { signer, to, proof }),
        (any_key(), maybe(), maybe()).prop_map(|(signer, to, consent)| Try::SetRecovery { signer, to, consent }),
        (any_key(), any_key(), any_key(), maybe()).prop_map(|(by, to, proof, next)| Try::Recover {
            by,
            to,
            proof,
            next
        }),
    ]
}

proptest! {
    /// Whoever has neither the signing key nor the recovery key changes nothing, and whoever has the signing key alone never
    /// the recovery key.
    #[test]
    fn keys_change_by_those_who_have_them_alone(tries in proptest::collection::vec(any_try(), 1..30)) {
        let mut world = World::bare();
        let (mut signing, mut recovery) = (CUSTOMER, None);
        for attempt in tries {
            let (expected, done) = match attempt {
                Try::Say { signer } => ((signing, recovery), signer == signing && world.say(signer).is_ok()),
                Try::Rotate { signer, to, proof } => {
                    let new = NewKeys::prove(world.chain(), &key(proof), author(CUSTOMER), keys(to));
                    let right = signer == signing && proof == to && to != signing && recovery != Some(to);
                    let done = world.send_with(author(CUSTOMER), signer, Operation::RotateKeys(new)).is_ok();
                    prop_assert_eq!(done, right, "{:?}", attempt);
                    ((to, recovery), done)
                }
                Try::SetRecovery { signer, to, consent } => {
                    let right = signer == signing
                        && to != recovery
                        && to != Some(signing)
                        && (recovery.is_none() || consent == recovery);
                    let consent = consent.and_then(|by| world.consent(by, to));
                    let done = world.set_recovery(signer, to, consent).is_ok();
                    prop_assert_eq!(done, right, "{:?}", attempt);
                    ((signing, to), done)
                }
                Try::Recover { by, to, proof, next } => {
                    let new = NewKeys::prove(world.chain(), &key(proof), author(CUSTOMER), keys(to));
                    let right = recovery == Some(by) && proof == to && to != signing && next != Some(to);
                    let done = world.recover(by, new, next).is_ok();
                    prop_assert_eq!(done, right, "{:?}", attempt);
                    ((to, next), done)
                }
            };
            if done {
                (signing, recovery) = expected;
            }
            let customer = world.customer();
            prop_assert_eq!(customer.keys, keys(signing));
            prop_assert_eq!(customer.recovery, recovery.map(|seed| key(seed).public()));
        }
    }
}
