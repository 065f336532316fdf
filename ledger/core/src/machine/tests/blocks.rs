//! Blocks that are not what they say.

use super::*;

#[test]
fn a_block_with_a_wrong_field_or_transaction_is_refused() {
    let world = World::furnished();
    let now = Timestamp::from_millis(world.now + 1_000);
    let proposer = key(VALIDATOR).public();
    let transfer = world.sign(
        CUSTOMER,
        Operation::Transfer {
            to: author(FARMER),
            amount: Tokens::from_micro(5),
        },
    );
    let signatures = Signatures::default();
    let state = (&world.store, &signatures);
    let made = propose_block(state, &world.genesis, &world.head, proposer, now, &[transfer]).unwrap();
    let block = made.block;
    let apply = |block: &Block| apply_block(state, &world.genesis, &world.head, block).map(|_| ());
    apply(&block).unwrap();
    type Alter = fn(&mut crate::Header);
    let cases: Vec<(&str, Alter)> = vec![
        ("chain", |h| h.chain = Hash::ZERO),
        ("height", |h| h.height += 1),
        ("time", |h| h.time = Timestamp::from_millis(0)),
        ("previous", |h| h.previous = Hash::ZERO),
        ("transactions", |h| h.transactions = Hash::ZERO),
        ("validators", |h| h.validators = Hash::ZERO),
        ("next_validators", |h| h.next_validators = Hash::ZERO),
        ("proposer", |h| h.proposer = key(80).public()),
        ("state", |h| h.state = Hash::ZERO),
    ];
    for (name, alter) in cases {
        let mut wrong = block.clone();
        alter(&mut wrong.header);
        match apply(&wrong) {
            Err(BlockError::Header { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut bad = block.clone();
    bad.transactions.push(bad.transactions[0].clone());
    bad.header.transactions = Block::transactions_hash(&bad.transactions);
    assert!(matches!(apply(&bad), Err(BlockError::Transaction { index: 1, .. })));
}
