//! Every value of the chain that comes from a peer or a disk: what decodes has these bytes and no others.
#![no_main]

use borsh::{BorshDeserialize, BorshSerialize};
use ledger::{
    Block, Certificate, CertifiedHeader, Genesis, Hash, Header, Record, RecordKey, SignedTransaction, ValidatorSet,
    body::Misconduct,
    decree::SignedDecree,
    encoding::{MAX_BLOCK, decode, encode},
    light::RecordProof,
    query::{Position, Query},
    tree,
};
use libfuzzer_sys::fuzz_target;

fn check<T: BorshDeserialize + BorshSerialize>(bytes: &[u8]) -> Option<T> {
    let value: T = decode(bytes, MAX_BLOCK).ok()?;
    assert_eq!(encode(&value), bytes, "not canonical");
    Some(value)
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 16 {
        0 => _ = check::<Block>(bytes).map(|block| (block.header.id(), Block::transactions_hash(&block.transactions))),
        1 => _ = check::<Header>(bytes),
        2 => _ = check::<Certificate>(bytes),
        3 => _ = check::<CertifiedHeader>(bytes),
        4 => _ = check::<SignedTransaction>(bytes).map(|transaction| transaction.hash()),
        5 => _ = check::<Record>(bytes).map(|record| (record.hash(), ledger::index::keys(&record))),
        6 => _ = check::<Genesis>(bytes).map(|genesis| (genesis.check().is_ok(), genesis.hash())),
        7 => _ = check::<RecordProof>(bytes),
        8 => _ = check::<ValidatorSet>(bytes).map(|set| (set.check().is_ok(), set.hash())),
        9 => _ = check::<Misconduct>(bytes).map(|misconduct| misconduct.check(Hash::ZERO).is_ok()),
        10 => _ = check::<SignedDecree>(bytes),
        11 => _ = check::<Query>(bytes).map(|query| query.check().is_ok()),
        12 => _ = check::<Position>(bytes),
        13 => _ = check::<tree::Node>(bytes).map(|node| node.hash()),
        14 => _ = check::<RecordKey>(bytes).map(|key| key.path()),
        _ => {
            _ = check::<(tree::Region, tree::RegionProof)>(bytes)
                .map(|(region, proof)| proof.verify(Hash::ZERO, region))
        }
    }
});
