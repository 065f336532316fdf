//! Checking a contract's proof among many records. `LEDGER_BENCH_DIR` names the directory of a chain.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::path::PathBuf;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ledger_bench::{
    proofs::{SIZES, State},
    world::{self, Sample},
};

fn proofs(criterion: &mut Criterion) {
    let directory =
        PathBuf::from(std::env::var_os("LEDGER_BENCH_DIR").expect("LEDGER_BENCH_DIR names a chain's directory"));
    let sample = Sample::read(&directory).unwrap();
    let records = world::contracts(&world::open(&directory).unwrap(), &sample, 1_000).unwrap();
    let mut group = criterion.benchmark_group("proofs");
    for (size, name) in SIZES {
        let state = State::new(&records, size);
        let proofs: Vec<_> = records
            .iter()
            .map(|record| (record.key(), state.prove(record)))
            .collect();
        let mut next = proofs.iter().cycle();
        group.bench_function(name, |bencher| {
            let input = || next.next().unwrap().clone();
            bencher.iter_batched(
                input,
                |(key, proof)| proof.verify(state.root, key).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, proofs);
criterion_main!(benches);
