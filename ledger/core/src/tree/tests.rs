//! The tree by itself, over a store in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::store::MemoryStore;

fn path(n: u16) -> Hash {
    Hash::of(Domain::StatePath, &n)
}

fn set(store: &mut MemoryStore, root: Hash, values: &BTreeMap<Hash, Hash>) -> Hash {
    let changes: Vec<Change> = values.iter().map(|(path, value)| (*path, Some(*value))).collect();
    let (root, made) = update(store, root, &changes).unwrap();
    store.nodes.extend(made);
    root
}

proptest! {
    #[test]
    fn the_root_depends_on_the_content_alone_and_every_path_is_provable(
        entries in proptest::collection::btree_map(0_u16..400, any::<u8>(), 0..60),
        cut in 0_usize..60,
    ) {
        let all: BTreeMap<Hash, Hash> =
            entries.iter().map(|(k, v)| (path(*k), Hash::from_bytes([*v; 32]))).collect();
        let mut store = MemoryStore::default();
        let at_once = set(&mut store, Hash::ZERO, &all);
        let first = all.iter().take(cut).map(|(k, _)| (*k, Hash::from_bytes([0xee; 32]))).collect();
        let in_steps = set(&mut store, Hash::ZERO, &first);
        let in_steps = set(&mut store, in_steps, &all);
        prop_assert_eq!(at_once, in_steps);
        for n in 0_u16..400 {
            let proof = prove(&store, at_once, path(n)).unwrap();
            prop_assert_eq!(proof.verify(at_once, path(n)), Ok(all.get(&path(n)).copied()));
        }
    }
}

#[test]
fn a_proof_cannot_be_turned_into_another() {
    let mut store = MemoryStore::default();
    let values: BTreeMap<Hash, Hash> = (0..50).map(|n| (path(n), path(n + 1_000))).collect();
    let root = set(&mut store, Hash::ZERO, &values);
    let proof = prove(&store, root, path(7)).unwrap();
    assert!(matches!(
        proof.verify(Hash::ZERO, path(7)),
        Err(ProofError::WrongRoot { .. })
    ));
    let hidden = Proof {
        end: None,
        ..proof.clone()
    };
    assert!(matches!(
        hidden.verify(root, path(7)),
        Err(ProofError::WrongRoot { .. })
    ));
    let altered = Proof {
        end: Some((path(7), path(8))),
        ..proof.clone()
    };
    assert!(matches!(
        altered.verify(root, path(7)),
        Err(ProofError::WrongRoot { .. })
    ));
    let other = prove(&store, root, path(8)).unwrap();
    assert!(other.verify(root, path(7)).is_err());
    let deep = Proof {
        siblings: vec![Hash::ZERO; 257],
        ..proof
    };
    assert_eq!(deep.verify(root, path(7)), Err(ProofError::TooDeep));
}

/// Paths of which some share their first half.
fn near(group: u8, n: u8) -> Hash {
    let [half, rest] = [u16::from(group), 1_000 + u16::from(n)].map(path);
    let mut bytes = *half.as_bytes();
    bytes[16..].copy_from_slice(&rest.as_bytes()[..16]);
    Hash::from_bytes(bytes)
}

fn apply(store: &mut MemoryStore, root: Hash, changes: &BTreeMap<Hash, Option<Hash>>) -> Hash {
    let changes: Vec<Change> = changes.iter().map(|(path, value)| (*path, *value)).collect();
    let (root, made) = update(store, root, &changes).unwrap();
    store.nodes.extend(made);
    root
}

type Steps = Vec<Vec<((u8, u8), Option<u8>)>>;

fn steps() -> impl Strategy<Value = Steps> {
    let change = ((0_u8..4, 0_u8..12), proptest::option::weighted(0.6, any::<u8>()));
    proptest::collection::vec(proptest::collection::vec(change, 0..12), 0..8)
}

proptest! {
    #[test]
    fn what_is_taken_away_leaves_no_trace_and_every_region_is_provable(steps in steps(), bits in 0_u8..=140) {
        let mut store = MemoryStore::default();
        let (mut root, mut content) = (Hash::ZERO, BTreeMap::new());
        for step in steps {
            let changes: BTreeMap<Hash, Option<Hash>> = step
                .into_iter()
                .map(|((group, n), value)| (near(group, n), value.map(|value| Hash::from_bytes([value; 32]))))
                .collect();
            root = apply(&mut store, root, &changes);
            for (path, value) in changes {
                match value {
                    Some(value) => content.insert(path, value),
                    None => content.remove(&path),
                };
            }
            prop_assert_eq!(root, set(&mut MemoryStore::default(), Hash::ZERO, &content));
        }
        for group in 0..5 {
            let region = Region { path: near(group, 0), bits };
            let inside: Vec<Leaf> = content.clone().into_iter().filter(|(path, _)| region.contains(path)).collect();
            let proof = prove_below(&store, root, region, 1_000).unwrap().unwrap();
            prop_assert_eq!(proof.clone().verify(root, region), Ok(inside.clone()));
            for left_out in 0..proof.leaves.len() {
                let mut fewer = proof.clone();
                fewer.leaves.remove(left_out);
                prop_assert!(fewer.verify(root, region).is_err());
            }
            if let Some(below) = inside.len().checked_sub(1) {
                prop_assert_eq!(prove_below(&store, root, region, below).unwrap(), None);
            }
        }
    }
}

#[test]
fn a_proof_of_a_part_is_none_of_the_whole_and_order_is_kept() {
    let mut store = MemoryStore::default();
    let values: BTreeMap<Hash, Hash> = (0..50).map(|n| (near(1, n), path(n.into()))).collect();
    let root = set(&mut store, Hash::ZERO, &values);
    let whole = Region {
        path: near(1, 0),
        bits: 128,
    };
    let halves = whole.halves().unwrap();
    let prove_all = |region| prove_below(&store, root, region, 50).unwrap().unwrap();
    let parts = halves.map(|half| prove_all(half).verify(root, half).unwrap());
    assert!(parts.iter().all(|part| !part.is_empty()));
    assert_eq!(parts.concat(), prove_all(whole).verify(root, whole).unwrap());
    assert_eq!(prove_all(halves[0]).verify(root, whole), Err(ProofError::Part));
    assert_eq!(
        prove_all(halves[0]).verify(root, halves[1]),
        Err(ProofError::WrongSubtree)
    );
    let mut turned = prove_all(whole);
    turned.leaves.swap(0, 1);
    assert_eq!(turned.verify(root, whole), Err(ProofError::Unordered));
    let mut twice = prove_all(whole);
    twice.leaves.insert(0, twice.leaves[0]);
    assert_eq!(twice.verify(root, whole), Err(ProofError::Unordered));
    let deep = RegionProof {
        siblings: vec![Hash::ZERO; 256],
        leaves: vec![],
    };
    assert_eq!(deep.verify(root, whole), Err(ProofError::TooDeep));
}
