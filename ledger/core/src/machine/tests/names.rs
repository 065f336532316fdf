//! Names and what lies with them.

use super::*;

const DEPOSIT: u64 = 5;

fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

impl World {
    fn name(&self, text: &str) -> Name {
        self.get::<Name>(Name::founding_id(&label(text)))
    }

    fn balance(&self, seed: u8) -> u64 {
        self.get::<Account>(author(seed)).balance.micro()
    }
}

#[test]
fn a_name_stands_for_who_claimed_it_first_until_it_is_given_up() {
    let mut world = World::bare();
    world.ok(CUSTOMER, Operation::ClaimName(label("alice")));
    let name = world.name("alice");
    assert_eq!((name.owner, name.deposit.micro()), (Some(author(CUSTOMER)), DEPOSIT));
    assert_eq!(world.balance(CUSTOMER), SUPPLY - DEPOSIT);
    let taken = world.try_one(FARMER, Operation::ClaimName(label("alice")));
    assert!(matches!(taken, Err(Refusal::Exists(_))), "{taken:?}");
    let again = world.try_one(CUSTOMER, Operation::ClaimName(label("alice")));
    assert!(matches!(again, Err(Refusal::Exists(_))), "{again:?}");
    let poor = world.try_one(FARMER, Operation::ClaimName(label("bob")));
    assert!(matches!(poor, Err(Refusal::Funds { .. })), "{poor:?}");
    world.ok(CUSTOMER, Operation::GiveUpName(label("alice")));
    assert_eq!((world.name("alice").owner, world.balance(CUSTOMER)), (None, SUPPLY));
    let nobodys = world.try_one(CUSTOMER, Operation::GiveUpName(label("alice")));
    assert!(matches!(nobodys, Err(Refusal::NotAllowed(..))), "{nobodys:?}");
    let (to, amount) = (author(FARMER), Tokens::from_micro(DEPOSIT));
    world.ok(CUSTOMER, Operation::Transfer { to, amount });
    world.ok(FARMER, Operation::ClaimName(label("alice")));
    assert_eq!(world.name("alice").owner, Some(author(FARMER)));
}

#[test]
fn a_name_is_passed_on_with_its_deposit_by_its_owner_alone() {
    let mut world = World::furnished();
    world.ok(CUSTOMER, Operation::ClaimName(label("alice")));
    let pass_on = |to| Operation::PassOnName {
        label: label("alice"),
        to,
    };
    let refused = world.try_one(FARMER, pass_on(author(FARMER)));
    assert!(matches!(refused, Err(Refusal::NotAllowed(..))), "{refused:?}");
    for nobody in [Id::CHAIN, author(NODE)] {
        let refused = world.try_one(CUSTOMER, pass_on(nobody));
        assert!(matches!(refused, Err(Refusal::Missing(_))), "{refused:?}");
    }
    world.ok(CUSTOMER, pass_on(author(FARMER)));
    world.ok(FARMER, Operation::GiveUpName(label("alice")));
    assert_eq!(world.balance(FARMER), DEPOSIT);
    let unknown = world.try_one(FARMER, Operation::GiveUpName(label("carol")));
    assert!(matches!(unknown, Err(Refusal::Missing(_))), "{unknown:?}");
    let machine = world.try_one(NODE, Operation::ClaimName(label("machine")));
    assert!(matches!(machine, Err(Refusal::Missing(_))), "{machine:?}");
}
