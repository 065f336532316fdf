//! The life of a contract and what it costs.

use super::*;

#[test]
fn a_contract_lives_from_agreement_to_expiry_and_pays_the_agreed_price() {
    let mut world = World::furnished();
    let contract = world.run(1, 2);
    assert_eq!(world.get::<Assignments>(author(NODE)).reserved.cru, 1);
    for period in 0..2 {
        world.wait(9_000);
        world.report(contract, period, 10_000).unwrap();
        world.receipt(contract, period, 10_000).unwrap();
    }
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Expired { .. }
    ));
    assert_eq!(world.get::<Account>(author(FARMER)).balance, Tokens::from_micro(2_000));
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
}

#[test]
fn cancelling_returns_what_was_not_used_and_frees_the_node() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    world.wait(4_000);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Cancelled { .. }
    ));
    let escrow = world.get::<Escrow>(contract);
    assert_eq!((escrow.held, escrow.paid), (Tokens::ZERO, Tokens::from_micro(600)));
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
    let again = world.try_one(CUSTOMER, Operation::Cancel { contract });
    assert!(matches!(again, Err(Refusal::State { .. })), "{again:?}");
}

#[test]
fn silence_and_cancelling_in_the_grace_gain_the_customer_nothing() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    // 14 s after the start the first period is over and not settled, and 4 s of the second have begun.
    world.wait(12_000);
    world.ok(CUSTOMER, Operation::Cancel { contract });
    assert_eq!(world.get::<Escrow>(contract).paid, Tokens::from_micro(1_400));
}

/// Both say that the whole of a period was up.
fn settle(world: &mut World, contract: Id, period: u32) {
    world.wait(9_000);
    world.report(contract, period, 10_000).unwrap();
    world.receipt(contract, period, 10_000).unwrap();
}

#[test]
fn a_contract_whose_next_period_is_not_paid_is_suspended_and_goes_on_when_it_is() {
    let mut world = World::furnished();
    let contract = world.run_with_deposit(5, 1);
    assert_eq!(world.get::<Escrow>(contract).held, Tokens::from_micro(1_000));
    let end = world.get::<Contract>(contract).runs_until().unwrap();
    settle(&mut world, contract, 0);
    let suspended = world.get::<Contract>(contract);
    assert!(
        matches!(suspended.state, ContractState::Suspended { since, period: 1, .. } if since == end),
        "{suspended:?}"
    );
    assert_eq!(suspended.runs_until(), Some(end));
    assert_eq!(
        world.get::<Assignments>(author(NODE)).reserved.cru,
        1,
        "its place is kept"
    );
    assert!(matches!(world.report(contract, 1, 1), Err(Refusal::State { .. })));
    world.wait(10_000);
    let fund = |funded| Operation::Fund { contract, funded };
    for funded in [0, 1, 6] {
        let refused = world.try_one(CUSTOMER, fund(funded));
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    let refused = world.try_one(FARMER, fund(2));
    assert!(matches!(refused, Err(Refusal::NotAllowed(..))), "{refused:?}");
    world.ok(CUSTOMER, fund(3));
    let period = world.get::<Contract>(contract).open_period().unwrap();
    assert_eq!(
        (period.index, period.began),
        (1, world.head.time),
        "nothing is billed for the time between"
    );
    settle(&mut world, contract, 1);
    settle(&mut world, contract, 2);
    assert_eq!(world.get::<Account>(author(FARMER)).balance, Tokens::from_micro(3_000));
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Suspended { period: 3, .. }
    ));
    let again = world.try_one(CUSTOMER, fund(3));
    assert!(matches!(again, Err(Refusal::Invalid(_))), "{again:?}");
}

#[test]
fn a_suspended_contract_that_nobody_pays_ends_and_may_be_cancelled_before() {
    let mut world = World::furnished();
    let contract = world.run_with_deposit(5, 1);
    settle(&mut world, contract, 0);
    world.wait(20_000);
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotPaid,
            ..
        }
    ));
    assert_eq!(world.get::<Assignments>(author(NODE)), Assignments::default());
    let late = world.try_one(CUSTOMER, Operation::Fund { contract, funded: 2 });
    assert!(matches!(late, Err(Refusal::State { .. })), "{late:?}");

    let mut world = World::furnished();
    let contract = world.run_with_deposit(5, 1);
    settle(&mut world, contract, 0);
    world.ok(FARMER, Operation::Cancel { contract });
    assert_eq!(world.get::<Escrow>(contract).paid, Tokens::from_micro(1_000));
}

#[test]
fn periods_without_a_report_are_counted_over_a_suspension() {
    let mut world = World::furnished();
    let contract = world.run_with_deposit(5, 1);
    world.wait(15_000);
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Suspended { missed: 1, .. }
    ));
    world.ok(CUSTOMER, Operation::Fund { contract, funded: 2 });
    world.wait(5_000);
    // The node is known to be silent, so nothing of the begun period is presumed to have run.
    let mut other = World::furnished();
    let same = other.run_with_deposit(5, 1);
    other.wait(15_000);
    other.ok(
        CUSTOMER,
        Operation::Fund {
            contract: same,
            funded: 2,
        },
    );
    other.wait(5_000);
    other.ok(CUSTOMER, Operation::Cancel { contract: same });
    assert_eq!(other.get::<Escrow>(same).cost(), Tokens::ZERO);
    world.wait(15_000);
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotServed,
            ..
        }
    ));
}

#[test]
fn a_contract_with_too_many_disputes_fails_and_what_was_disputed_is_nobodys() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    for period in 0..2 {
        world.wait(9_000);
        world.report(contract, period, 10_000).unwrap();
        world.receipt(contract, period, 4_000).unwrap();
    }
    let failed = world.get::<Contract>(contract);
    assert!(
        matches!(
            failed.state,
            ContractState::Failed {
                reason: Failure::Disputed,
                ..
            }
        ),
        "{failed:?}"
    );
    let balance = |id| world.get::<Account>(id).balance.micro();
    assert_eq!(
        (balance(author(FARMER)), balance(Id::CHAIN), balance(author(CUSTOMER))),
        (800, 1_200, SUPPLY - 2_000)
    );
}

#[test]
fn a_workload_that_does_not_run_holds_its_node_for_a_few_periods_alone() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    for period in 0..2 {
        world.wait(9_000);
        world.report(contract, period, 0).unwrap();
        world.receipt(contract, period, 0).unwrap();
    }
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotServed,
            ..
        }
    ));
}

#[test]
fn a_node_may_refuse_what_it_cannot_run_at_any_time() {
    let mut world = World::furnished();
    let contract = world.run(1, 10);
    let step = Step::Refused(Text::lossy("no memory"));
    world.ok(NODE, Operation::Progress { contract, step });
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::Refused { .. },
            ..
        }
    ));
    assert_eq!(world.get::<Escrow>(contract).cost(), Tokens::ZERO);
}

#[test]
fn what_a_period_did_not_cost_returns_with_its_settlement() {
    let mut world = World::furnished();
    let contract = world.run(1, 3);
    world.wait(9_000);
    world.report(contract, 0, 2_000).unwrap();
    world.receipt(contract, 0, 2_000).unwrap();
    let escrow = world.get::<Escrow>(contract);
    assert_eq!(
        (escrow.paid.micro(), escrow.returned.micro(), escrow.held.micro()),
        (200, 800, 2_000)
    );
}

#[test]
fn a_contract_that_was_settled_late_is_never_due_before_those_behind_it() {
    let mut world = World::furnished();
    let rule = SettlementRule {
        missed_limit: 1_000,
        ..RULE
    };
    let id = terms().founding_id();
    world.ok(
        FARMER,
        Operation::UpdateTerms {
            id,
            terms: Terms { rule, ..terms() },
        },
    );
    let agreement = Agreement {
        rule,
        ..world.agreement(1, 1, 50).agreement
    };
    let signed = world.signed(agreement);
    let contract = signed.agreement.contract_id();
    world.ok(CUSTOMER, Operation::Agree(signed));
    world.ok(
        NODE,
        Operation::Progress {
            contract,
            step: Step::Acknowledged,
        },
    );
    world.ok(
        NODE,
        Operation::Progress {
            contract,
            step: Step::Running,
        },
    );
    world.wait(200_000);
    let due = world.get::<Contract>(contract).due().unwrap();
    assert!(due > world.head.time, "{due:?} is not after {:?}", world.head.time);
}

#[test]
fn a_node_that_says_nothing_is_paid_nothing_and_the_escrow_returns() {
    let mut world = World::furnished();
    let contract = world.agree(1, 3);
    world.wait(6_000);
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotAcknowledged,
            ..
        }
    ));
    let contract = world.run(2, 10);
    for _ in 0..2 {
        world.wait(15_000);
    }
    assert!(matches!(
        world.get::<Contract>(contract).state,
        ContractState::Failed {
            reason: Failure::NotServed,
            ..
        }
    ));
    assert_eq!(
        world.get::<Account>(author(CUSTOMER)).balance,
        Tokens::from_micro(SUPPLY)
    );
}

#[test]
fn capacity_is_never_over_committed() {
    let mut world = World::furnished();
    world.agree(1, 1);
    let too_much = world.agreement(2, 2, 1);
    let refused = world.try_one(CUSTOMER, Operation::Agree(too_much));
    assert!(matches!(refused, Err(Refusal::Capacity(_))), "{refused:?}");
    world.agree(3, 1);
}

#[test]
fn an_agreement_needs_both_signatures_funds_and_the_terms_as_they_are() {
    let mut world = World::furnished();
    let good = world.agreement(1, 1, 1);
    let mut unsigned = good.clone();
    unsigned.farmer = unsigned.customer;
    assert_eq!(
        world.try_one(CUSTOMER, Operation::Agree(unsigned)),
        Err(Refusal::AgreementSignature("farmer".into()))
    );
    let dear = world.signed(Agreement {
        price: Tokens::from_micro(SUPPLY + 1),
        ..good.agreement.clone()
    });
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(dear)),
        Err(Refusal::Funds { .. })
    ));
    for deposit in [0, 2] {
        let wrong = world.signed(Agreement {
            deposit,
            ..good.agreement.clone()
        });
        let refused = world.try_one(CUSTOMER, Operation::Agree(wrong));
        assert!(matches!(refused, Err(Refusal::Agreement(_))), "{refused:?}");
    }
    let forever = world.signed(Agreement {
        periods: 101,
        ..good.agreement.clone()
    });
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(forever)),
        Err(Refusal::Agreement(_))
    ));
    world.ok(
        FARMER,
        Operation::UpdateTerms {
            id: terms().founding_id(),
            terms: Terms {
                periods: (1, 99),
                ..terms()
            },
        },
    );
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(good)),
        Err(Refusal::Agreement(_))
    ));
    let good = world.agreement(1, 1, 1);
    world.ok(CUSTOMER, Operation::Agree(good.clone()));
    assert!(matches!(
        world.try_one(CUSTOMER, Operation::Agree(good)),
        Err(Refusal::Exists(_))
    ));
}

#[test]
fn a_report_cannot_be_made_ahead() {
    let mut world = World::furnished();
    let contract = world.run(1, 5);
    assert!(matches!(world.report(contract, 0, 10_000), Err(Refusal::State { .. })));
    let early = (world.head.height, world.head.id);
    world.wait(8_000);
    let with_early_block = Operation::Report {
        contract,
        period: 0,
        up_ms: 10_000,
        block: early,
    };
    assert!(matches!(
        world.try_one(NODE, with_early_block),
        Err(Refusal::Invalid(_))
    ));
    world.report(contract, 0, 10_000).unwrap();
    assert!(matches!(world.report(contract, 0, 10_000), Err(Refusal::State { .. })));
}
