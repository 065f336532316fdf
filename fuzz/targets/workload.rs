//! What travels between customer and node: nothing but what was sealed opens, and messages have one form.
#![no_main]

use std::sync::LazyLock;

use ledger::encoding::{decode, encode};
use libfuzzer_sys::fuzz_target;
use workload::{
    EncryptionKey, Workload,
    node::{Answer, MAX_ANSWER, MAX_REQUEST, Request},
    open, seal,
};

fn plain() -> Workload {
    Workload {
        name: "web".into(),
        env: vec![("A".into(), "b".into())],
        args: None,
        ports: vec![80],
        volumes: vec![],
    }
}

static SEALED: LazyLock<(EncryptionKey, Vec<u8>)> = LazyLock::new(|| {
    let key = EncryptionKey::from_seed(&[7; 32]);
    let sealed = seal(&plain(), &[key.public()]).expect("it seals");
    (key, sealed)
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 5 {
        0 => {
            if let Ok(request) = decode::<Request>(bytes, MAX_REQUEST) {
                assert_eq!(encode(&request), bytes);
            }
        }
        1 => {
            if let Ok(answer) = decode::<Answer>(bytes, MAX_ANSWER) {
                assert_eq!(encode(&answer), bytes);
            }
        }
        2 => {
            if let Ok(workload) = decode::<Workload>(bytes, MAX_ANSWER) {
                let _ = workload.check();
                assert_eq!(encode(&workload), bytes);
            }
        }
        3 => assert!(open(bytes, &SEALED.0).is_err(), "what nobody sealed was opened"),
        _ => {
            let (key, sealed) = &*SEALED;
            let mut forged = sealed.clone();
            for (byte, change) in forged.iter_mut().zip(bytes) {
                *byte ^= change;
            }
            let opened = open(&forged, key).ok();
            assert!(opened.is_none() || &forged == sealed, "a changed text was opened");
        }
    }
});
