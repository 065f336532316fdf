//! Peers that lie to a light client.

use super::*;

#[test]
fn a_peer_that_lies_is_refused_by_the_name_of_the_check() {
    let mut world = World::furnished();
    let contract = world.agree(1, 5);
    let key_of = RecordKey::new(Kind::Contract, contract);
    let good = world.prove(key_of);
    assert_eq!(
        world.light.verify_record(key_of, good.clone()).unwrap().unwrap().key(),
        key_of
    );
    // In the other half of the tree, so that its proof cannot serve for both.
    let absent = (0..=u8::MAX)
        .map(|seed| RecordKey::new(Kind::Contract, Id::from_hash(Hash::from_bytes([seed; 32]))))
        .find(|key| key.path().bit(0) != key_of.path().bit(0))
        .unwrap();
    assert_eq!(world.light.verify_record(absent, world.prove(absent)), Ok(None));

    let mut altered = good.clone();
    altered.record.as_mut().unwrap().version += 1;
    assert_eq!(
        world.light.verify_record(key_of, altered),
        Err(LightError::AlteredRecord(key_of))
    );
    let withheld = RecordProof {
        record: None,
        ..good.clone()
    };
    assert_eq!(
        world.light.verify_record(key_of, withheld),
        Err(LightError::WithheldRecord(key_of))
    );
    let denied = RecordProof {
        record: None,
        ..world.prove(absent)
    };
    assert!(matches!(
        world.light.verify_record(key_of, denied),
        Err(LightError::BadProof { .. })
    ));

    let newest = world.certified.last().unwrap().clone();
    let stale = world.certified[0].clone();
    assert!(matches!(world.light.advance(&stale), Err(LightError::StaleHead { .. })));
    let mut fresh = LightClient::new(world.chain(), &world.genesis).unwrap();
    let mut forged = newest.clone();
    forged.header.state = Hash::ZERO;
    assert!(matches!(fresh.advance(&forged), Err(LightError::OtherBlock { .. })));
    forged.certificate.block = forged.header.id();
    assert!(matches!(fresh.advance(&forged), Err(LightError::ForgedCertificate(_))));
    let mut other_set = newest.clone();
    other_set.header.validators = Hash::ZERO;
    assert!(matches!(
        fresh.advance(&other_set),
        Err(LightError::WrongValidatorSet { .. })
    ));
    let mut elsewhere = newest.clone();
    elsewhere.header.chain = Hash::ZERO;
    assert!(matches!(fresh.advance(&elsewhere), Err(LightError::OtherChain(_))));
    fresh.advance(&newest).unwrap();
    // At the verified height too, another block is a forgery, unless the validators certified it as well.
    assert!(matches!(fresh.advance(&forged), Err(LightError::ForgedCertificate(_))));
    assert!(matches!(
        fresh.advance(&other_set),
        Err(LightError::WrongValidatorSet { .. })
    ));
    let twin = world.certify(&Block {
        header: forged.header,
        transactions: vec![],
    });
    assert!(matches!(fresh.advance(&twin), Err(LightError::ConflictingHead { .. })));
    assert_eq!(fresh.height(), world.light.height());
    assert!(matches!(
        LightClient::new(Hash::ZERO, &world.genesis),
        Err(LightError::WrongGenesis { .. })
    ));
}

#[test]
fn a_handover_needs_the_set_that_the_header_names() {
    let world = World::furnished();
    let next = key(50).public();
    let set = ValidatorSet::new(vec![Validator {
        key: next,
        link: next,
        power: 1,
    }])
    .unwrap();
    let mut header = world.certified.last().unwrap().header.clone();
    header.next_validators = set.hash();
    let certified = |handover| {
        let mut certified = world.certify(&Block {
            header: header.clone(),
            transactions: vec![],
        });
        certified.handover = handover;
        certified
    };
    let mut light = LightClient::new(world.chain(), &world.genesis).unwrap();
    assert!(matches!(
        light.advance(&certified(None)),
        Err(LightError::BadHandover(_))
    ));
    let wrong = world.genesis.validators.clone();
    assert!(matches!(
        light.advance(&certified(Some(wrong))),
        Err(LightError::BadHandover(_))
    ));
    light.advance(&certified(Some(set))).unwrap();
    let mut later = header.clone();
    later.height += 1;
    let later = world.certify(&Block {
        header: later,
        transactions: vec![],
    });
    assert!(matches!(
        light.advance(&later),
        Err(LightError::WrongValidatorSet { .. })
    ));
}
