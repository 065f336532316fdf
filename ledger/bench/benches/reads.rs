//! Reading the latest version of a contract by its id, and those of a node by the index, beside redb doing the same look-ups.
//! `LEDGER_BENCH_DIR` names the directory of a chain.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{
    hint::black_box,
    path::{Path, PathBuf},
};

use criterion::{Criterion, criterion_group, criterion_main};
use ledger::{Id, Kind, RecordKey, encoding::encode, index::IndexKey};
use ledger_bench::world::{self, CONTRACTS_OF_A_NODE, Sample};
use redb::{Database, ReadableDatabase as _, TableDefinition};

const LATEST: TableDefinition<&[u8], &[u8]> = TableDefinition::new("latest");
const VERSIONS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("versions");
const INDEX: TableDefinition<&[u8], ()> = TableDefinition::new("index");

fn key(id: Id) -> RecordKey {
    RecordKey::new(Kind::Contract, id)
}

fn index_key(of: Id) -> IndexKey {
    IndexKey::Of {
        kind: Kind::Contract,
        of,
    }
}

/// Ids in an order that no cache foresees.
fn shuffled(ids: &[Id]) -> Vec<Id> {
    let mut ids = ids.to_vec();
    fastrand::Rng::with_seed(7).shuffle(&mut ids);
    ids
}

fn ledger(criterion: &mut Criterion, directory: &Path, sample: &Sample) {
    let database = world::open(directory).unwrap();
    let (ids, nodes) = (shuffled(&sample.ids), shuffled(&sample.nodes));
    let (mut next, mut next_node) = (ids.iter().cycle(), nodes.iter().cycle());
    let mut group = criterion.benchmark_group("reads");
    group.bench_function("ledger_by_id", |bencher| {
        bencher.iter(|| {
            let snapshot = database.snapshot().unwrap();
            black_box(snapshot.latest_version(&key(*next.next().unwrap())).unwrap().unwrap())
        });
    });
    group.bench_function("ledger_by_index", |bencher| {
        bencher.iter(|| {
            let snapshot = database.snapshot().unwrap();
            let of = next_node.next().copied();
            let found = snapshot.find(Kind::Contract, of, None, CONTRACTS_OF_A_NODE).unwrap();
            for id in &found {
                black_box(snapshot.latest_version(&key(*id)).unwrap().unwrap());
            }
            found.len()
        });
    });
    group.finish();
}

type Table = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

fn read(latest: &Table, versions: &Table, key: RecordKey) -> Vec<u8> {
    let hash = latest.get(encode(&key).as_slice()).unwrap().unwrap();
    versions.get(hash.value()).unwrap().unwrap().value().to_vec()
}

fn redb(criterion: &mut Criterion, directory: &Path, sample: &Sample) {
    let database = Database::open(directory.join("chain.redb")).unwrap();
    let (ids, nodes) = (shuffled(&sample.ids), shuffled(&sample.nodes));
    let (mut next, mut next_node) = (ids.iter().cycle(), nodes.iter().cycle());
    let mut group = criterion.benchmark_group("reads");
    group.bench_function("redb_by_id", |bencher| {
        bencher.iter(|| {
            let transaction = database.begin_read().unwrap();
            let (latest, versions) = (
                transaction.open_table(LATEST).unwrap(),
                transaction.open_table(VERSIONS).unwrap(),
            );
            read(&latest, &versions, key(*next.next().unwrap()))
        });
    });
    group.bench_function("redb_by_index", |bencher| {
        bencher.iter(|| {
            let transaction = database.begin_read().unwrap();
            let (latest, versions) = (
                transaction.open_table(LATEST).unwrap(),
                transaction.open_table(VERSIONS).unwrap(),
            );
            let index = transaction.open_table(INDEX).unwrap();
            let prefix = encode(&index_key(*next_node.next().unwrap()));
            let mut found = 0;
            for entry in index.range::<&[u8]>(prefix.as_slice()..).unwrap() {
                let (entry, _) = entry.unwrap();
                let Some(id) = entry.value().strip_prefix(prefix.as_slice()) else {
                    break;
                };
                let id: Id = ledger::encoding::decode(id, 64).unwrap();
                black_box(read(&latest, &versions, key(id)));
                found += 1;
            }
            found
        });
    });
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let directory =
        PathBuf::from(std::env::var_os("LEDGER_BENCH_DIR").expect("LEDGER_BENCH_DIR names a chain's directory"));
    let sample = Sample::read(&directory).unwrap();
    // One has the file at a time.
    ledger(criterion, &directory, &sample);
    redb(criterion, &directory, &sample);
}

criterion_group!(benches, reads);
criterion_main!(benches);
