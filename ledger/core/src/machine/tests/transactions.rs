//! What is refused before it is looked at: replays, other chains, wrong nonces.

use super::*;

#[test]
fn an_account_names_the_transaction_that_used_its_last_nonce() {
    let mut world = World::furnished();
    let sent = world.sign(
        CUSTOMER,
        Operation::Transfer {
            to: author(FARMER),
            amount: Tokens::from_micro(5),
        },
    );
    world.block(std::slice::from_ref(&sent));
    assert_eq!(world.get::<Account>(author(CUSTOMER)).last, sent.hash());
}

#[test]
fn replays_other_chains_and_wrong_nonces_have_refusals_of_their_own() {
    let mut world = World::furnished();
    let transfer = || Operation::Transfer {
        to: author(FARMER),
        amount: Tokens::from_micro(5),
    };
    let sent = world.sign(CUSTOMER, transfer());
    assert_eq!(world.block(std::slice::from_ref(&sent)), vec![]);
    assert!(matches!(world.block(&[sent]).pop(), Some(Refusal::NonceUsed { .. })));
    let nonce = world.nonces[&author(CUSTOMER)];
    let make = |nonce, chain| {
        Transaction {
            author: author(CUSTOMER),
            nonce,
            operation: transfer(),
        }
        .sign(chain, &key(CUSTOMER))
    };
    let ahead = make(nonce + 1, world.chain());
    assert!(matches!(world.block(&[ahead]).pop(), Some(Refusal::NonceAhead { .. })));
    let elsewhere = make(nonce, Hash::from_bytes([1; 32]));
    assert_eq!(world.block(&[elsewhere]).pop(), Some(Refusal::BadSignature));
    let stranger = world.sign(77, transfer());
    assert!(matches!(
        world.block(&[stranger]).pop(),
        Some(Refusal::UnknownAuthor(_))
    ));
    let too_much = Operation::Transfer {
        to: author(FARMER),
        amount: Tokens::from_micro(SUPPLY),
    };
    assert!(matches!(world.try_one(CUSTOMER, too_much), Err(Refusal::Funds { .. })));
}
