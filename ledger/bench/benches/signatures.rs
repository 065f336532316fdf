//! Checking the signatures of a block, beside a loop over `verify_strict` alone on as many threads.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{hint::black_box, num::NonZero, thread};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signature, VerifyingKey};
use ledger::{
    Operation, Signatures, SignedTransaction, Tokens, Transaction,
    key::{Purpose, signing_bytes},
    machine::{check_signatures, genesis_outcome},
    store::MemoryStore,
};
use ledger_bench::{
    load::payers,
    world::{entity, genesis},
};

fn signatures(criterion: &mut Criterion) {
    let payers = payers();
    let genesis = genesis(
        vec![ledger::Validator {
            key: payers[0].public(),
            link: payers[0].public(),
            power: 1,
        }],
        1_000,
        &payers,
    )
    .unwrap();
    let chain = genesis.hash();
    let mut store = MemoryStore::default();
    store.absorb(genesis_outcome(&genesis).unwrap());
    let to = entity(&payers[0]).founding_id();
    let transactions: Vec<SignedTransaction> = (0..8)
        .flat_map(|nonce| payers.iter().map(move |payer| (nonce, payer)))
        .map(|(nonce, payer)| {
            let operation = Operation::Transfer {
                to,
                amount: Tokens::from_micro(1),
            };
            let author = entity(payer).founding_id();
            Transaction {
                author,
                nonce,
                operation,
            }
            .sign(chain, payer)
        })
        .collect();
    let bare: Vec<(VerifyingKey, Vec<u8>, Signature)> = transactions
        .iter()
        .zip(payers.iter().cycle())
        .map(|(signed, payer)| {
            (
                VerifyingKey::from_bytes(payer.public().as_bytes()).unwrap(),
                signing_bytes(Purpose::Transaction, chain, &signed.transaction),
                Signature::from_bytes(signed.signature.as_bytes()),
            )
        })
        .collect();
    let mut group = criterion.benchmark_group("signatures");
    group.sample_size(20);
    group.bench_function("bare", |bencher| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        bencher.iter(|| {
            thread::scope(|scope| {
                for share in bare.chunks(bare.len().div_ceil(threads)) {
                    scope.spawn(|| {
                        share
                            .iter()
                            .all(|(key, bytes, signature)| black_box(key.verify_strict(bytes, signature)).is_ok())
                    });
                }
            })
        });
    });
    group.bench_function("block", |bencher| {
        let check = |signatures: Signatures| {
            check_signatures((&store, &signatures), chain, &transactions);
            signatures
        };
        bencher.iter_batched(Signatures::default, check, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, signatures);
criterion_main!(benches);
