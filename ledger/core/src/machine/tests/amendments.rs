//! Agreements that both parties put in the place of others.

use super::*;

#[test]
fn a_contract_is_extended_and_the_money_follows() {
    let mut world = World::furnished();
    let contract = world.run(1, 2);
    let first = world.get::<Contract>(contract).signed.agreement;
    world
        .amend(contract, |agreement| {
            agreement.periods = 5;
            agreement.deposit = 4;
            agreement.price = Tokens::from_micro(500);
        })
        .unwrap();
    let known = world.get::<Contract>(contract);
    assert_eq!(
        (known.replaces, known.amendments, known.funded),
        (Some(first.hash()), 1, 4)
    );
    // The running period keeps its price, the three others have the new one.
    let escrow = world.get::<Escrow>(contract);
    assert_eq!((escrow.deposited.micro(), escrow.held.micro()), (2_500, 2_500));
    world
        .amend(contract, |agreement| {
            agreement.periods = 3;
            agreement.deposit = 1;
        })
        .unwrap();
    let escrow = world.get::<Escrow>(contract);
    assert_eq!((escrow.held.micro(), escrow.returned.micro()), (1_000, 1_500));
    world.amend(contract, |agreement| agreement.deposit = 3).unwrap();
    assert_eq!(world.get::<Escrow>(contract).deposited.micro(), 3_500);
}

#[test]
fn more_for_a_part_of_a_period_is_paid_for_all_of_it_and_less_from_the_next_on() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    let price = |micro| move |agreement: &mut Agreement| agreement.price = Tokens::from_micro(micro);
    world.amend(contract, price(2_000)).unwrap();
    world.amend(contract, price(10)).unwrap();
    world.wait(8_000);
    world.report(contract, 0, 10_000).unwrap();
    // A period that is over is settled by what held in it, and nothing is amended before.
    let late = world.amend(contract, price(20));
    assert!(matches!(late, Err(Refusal::State { .. })), "{late:?}");
    world.receipt(contract, 0, 10_000).unwrap();
    assert_eq!(world.get::<Escrow>(contract).paid.micro(), 2_000);
    assert_eq!(world.get::<Escrow>(contract).held.micro(), 40);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert!(world.get::<Escrow>(contract).paid.micro() < 2_010);
}

#[test]
fn cancelling_after_an_amendment_costs_what_was_agreed_before() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    world.wait(4_000);
    world
        .amend(contract, |agreement| agreement.price = Tokens::from_micro(1))
        .unwrap();
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert_eq!(world.get::<Escrow>(contract).paid.micro(), 700);
}

#[test]
fn capacity_follows_and_is_never_over_committed() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    world.amend(contract, |agreement| agreement.resources.cru = 2).unwrap();
    assert_eq!(world.get::<Assignments>(author(NODE)).reserved.cru, 2);
    let refused = world.amend(contract, |agreement| agreement.resources.cru = 3);
    assert!(matches!(refused, Err(Refusal::Capacity(_))), "{refused:?}");
    world.amend(contract, |agreement| agreement.resources.cru = 1).unwrap();
    assert_eq!(world.get::<Assignments>(author(NODE)).reserved.cru, 1);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
}

#[test]
fn a_suspended_contract_goes_on_when_the_amendment_pays_for_it() {
    let mut world = World::furnished();
    let contract = world.run_with_deposit(5, 1);
    world.wait(15_000);
    assert_eq!(world.get::<Contract>(contract).state_name(), "suspended");
    let unpaid = world.amend(contract, |agreement| agreement.periods = 6);
    assert!(matches!(unpaid, Err(Refusal::Agreement(_))), "{unpaid:?}");
    world.amend(contract, |agreement| agreement.deposit = 2).unwrap();
    let running = world.get::<Contract>(contract).open_period().unwrap();
    assert_eq!((running.index, running.began), (1, world.head.time));
}

#[test]
fn an_amendment_holds_once_for_the_agreement_in_force_and_with_both_signatures() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    let first = world.get::<Contract>(contract).signed.agreement;
    let good = world.amendment(contract, |agreement| agreement.periods = 6);
    let mut unsigned = good.clone();
    unsigned.farmer = unsigned.customer;
    assert_eq!(
        world.try_one(CUSTOMER, Operation::Amend(unsigned)),
        Err(Refusal::AgreementSignature("farmer".into()))
    );
    // The signatures of a first agreement are none under an amendment.
    let agreement = &good.amendment.agreement;
    let mut borrowed = good.clone();
    borrowed.customer = agreement.sign(world.chain(), &key(CUSTOMER));
    borrowed.farmer = agreement.sign(world.chain(), &key(FARMER));
    let refused = world.try_one(CUSTOMER, Operation::Amend(borrowed));
    assert!(matches!(refused, Err(Refusal::AgreementSignature(_))), "{refused:?}");
    let refused = world.try_one(FARMER, Operation::Amend(good.clone()));
    assert!(matches!(refused, Err(Refusal::NotAllowed(..))), "{refused:?}");
    let late = world.amendment(contract, |agreement| agreement.valid_until = Timestamp::from_millis(1));
    let refused = world.try_one(CUSTOMER, Operation::Amend(late));
    assert!(matches!(refused, Err(Refusal::Agreement(_))), "{refused:?}");

    world.ok(CUSTOMER, Operation::Amend(good.clone()));
    let back = world.amendment(contract, |agreement| *agreement = first.clone());
    world.ok(CUSTOMER, Operation::Amend(back));
    assert_eq!(world.get::<Contract>(contract).signed.agreement, first);
    // What it replaces is in force again, and it is used up all the same.
    let again = world.try_one(CUSTOMER, Operation::Amend(good.clone()));
    assert!(matches!(again, Err(Refusal::Agreement(_))), "{again:?}");
    let elsewhere = world.agree(2, 1);
    let mut moved = good;
    moved.amendment.contract = elsewhere;
    let refused = world.try_one(CUSTOMER, Operation::Amend(moved));
    assert!(matches!(refused, Err(Refusal::Agreement(_))), "{refused:?}");
    world.ok(CUSTOMER, Operation::Cancel { contract });
    let ended = world.amend(contract, |agreement| agreement.periods = 9);
    assert!(matches!(ended, Err(Refusal::State { .. })), "{ended:?}");
}

#[test]
fn what_an_amendment_may_not_change_stays() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    type Change = fn(&mut Agreement);
    let changes: [Change; 13] = [
        |agreement| agreement.customer = author(FARMER),
        |agreement| agreement.farmer = author(CUSTOMER),
        |agreement| agreement.node = Id::CHAIN,
        |agreement| agreement.terms.1 = Hash::ZERO,
        |agreement| agreement.rule.grace_ms = 1_000,
        |agreement| agreement.resources.sru -= 1,
        |agreement| agreement.resources.cru = 0,
        |agreement| agreement.image.1 = Hash::ZERO,
        |agreement| agreement.deposit = 0,
        |agreement| agreement.deposit = 6,
        |agreement| agreement.periods = 4,
        |agreement| agreement.price = Tokens::MAX,
        |agreement| agreement.periods = MAX_PERIODS + 1,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut world = World::furnished();
        let contract = world.run(1, 5);
        let before = world.get::<Contract>(contract);
        let refused = world.amend(contract, change);
        assert!(matches!(refused, Err(Refusal::Agreement(_))), "{index}: {refused:?}");
        assert_eq!(world.get::<Contract>(contract), before);
    }
    let dear = world.amend(contract, |agreement| agreement.price = Tokens::from_micro(SUPPLY));
    assert!(matches!(dear, Err(Refusal::Funds { .. })), "{dear:?}");
    world.ok(FARMER, Operation::ExpelNode { node: author(NODE) });
    let expelled = world.amend(contract, |agreement| agreement.periods = 6);
    assert!(matches!(expelled, Err(Refusal::Agreement(_))), "{expelled:?}");
}

#[test]
fn whoever_takes_less_is_not_refused_where_the_node_has_shrunk() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    let Node {
        addresses, hardware, ..
    } = world.get::<Node>(author(NODE));
    let shrunk = Operation::UpdateNode {
        capacity: Resources::ZERO,
        addresses,
        hardware,
        refused_disks: vec![],
    };
    world.ok(NODE, shrunk);
    world.amend(contract, |agreement| agreement.periods = 6).unwrap();
    let more = world.amend(contract, |agreement| agreement.resources.mru += 1);
    assert!(matches!(more, Err(Refusal::Capacity(_))), "{more:?}");
}

#[test]
fn what_was_ever_deposited_stays_representable() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    let mut escrow = world.get::<Escrow>(contract);
    (escrow.deposited, escrow.returned) = (Tokens::MAX, Tokens::from_micro(u64::MAX - 5_000));
    let record = world.store.latest.get_mut(&RecordKey::new(Kind::Escrow, contract));
    record.unwrap().body = escrow.into();
    let refused = world.amend(contract, |agreement| agreement.price = Tokens::from_micro(1_001));
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}
