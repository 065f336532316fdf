//! The light client under forgeries: what is not the true header, or the true record with its proof, is refused.
#![no_main]

use std::sync::LazyLock;

use ledger::{
    CertifiedHeader, Id, Kind, LightClient, RecordKey,
    encoding::{MAX_BLOCK, decode, encode},
    light::RecordProof,
    sets::Set,
    tree::RegionProof,
};
use libfuzzer_sys::fuzz_target;
use zos_fuzz::{
    input::Input,
    world::{World, author},
};

struct Truth {
    world: World,
    head: CertifiedHeader,
    keys: Vec<RecordKey>,
}

static TRUTH: LazyLock<Truth> = LazyLock::new(|| {
    let world = World::new();
    let head = world.certified.clone().expect("there is a block");
    // Some that are there, and one that is not.
    let mut keys: Vec<RecordKey> = world.store.latest.keys().copied().collect();
    keys.push(RecordKey::new(Kind::Farm, author(1)));
    keys.push(RecordKey::new(Kind::Node, Id::default()));
    Truth { world, head, keys }
});

/// Some with members, and one that is empty.
fn sets() -> [Set; 3] {
    [(Kind::Contract, 1), (Kind::Image, 1), (Kind::Farm, 9)].map(|(kind, seed)| Set { kind, of: author(seed) })
}

/// Changes some bytes of a true message; the input says which and how.
fn forge(truth: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = truth.to_vec();
    for _ in 0..=input.below(4) {
        let place = usize::try_from(input.small()).unwrap_or(0) % (bytes.len() + 1);
        match input.below(4) {
            0 if place < bytes.len() => bytes[place] ^= input.byte(),
            1 if place < bytes.len() => _ = bytes.remove(place),
            2 => bytes.insert(place, input.byte()),
            3 => {
                let patch = input.take(40);
                for (byte, new) in bytes[place..].iter_mut().zip(patch) {
                    *byte = *new;
                }
            }
            _ => {}
        }
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Truth { world, head, keys } = &*TRUTH;
    let mut input = Input::new(data);
    let mut client = LightClient::new(world.genesis.hash(), &world.genesis).expect("the genesis is right");
    let choice = input.byte() % 3;
    if choice == 0 {
        if let Ok(forged) = decode::<CertifiedHeader>(&forge(&encode(head), &mut input), MAX_BLOCK)
            && client.advance(&forged).is_ok()
        {
            assert_eq!(forged.header, head.header, "a forged header was believed");
        }
        return;
    }
    client.advance(head).expect("the true header is believed");
    if choice == 1 {
        let region = sets()[input.below(sets().len())].region();
        let truth = world.prove_below(region);
        let leaves = truth
            .clone()
            .verify(head.header.state, region)
            .expect("the truth is believed");
        if let Ok(forged) = decode::<RegionProof>(&forge(&encode(&truth), &mut input), MAX_BLOCK)
            && let Ok(believed) = forged.verify(head.header.state, region)
        {
            assert_eq!(believed, leaves, "a forged set was believed");
        }
        return;
    }
    let key = keys[input.below(keys.len())];
    let truth = world.prove(key);
    assert_eq!(
        client.verify_record(key, truth.clone()).expect("the truth is believed"),
        truth.record
    );
    if let Ok(forged) = decode::<RecordProof>(&forge(&encode(&truth), &mut input), MAX_BLOCK)
        && let Ok(believed) = client.verify_record(key, forged)
    {
        assert_eq!(believed, truth.record, "a forged record was believed");
    }
});
