//! What the programs of a node read of one another, of the kernel and of the image.
#![no_main]

use libfuzzer_sys::fuzz_target;
use node_api::{guest, init, line, manifest::Manifest, milestone, mountinfo, vmm};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: DeserializeOwned + Serialize>(mut bytes: &[u8]) {
    while let Ok(Some(message)) = line::read::<T>(&mut bytes) {
        let mut written = Vec::new();
        line::write(&mut written, &message).expect("what was read can be written");
        let again = line::read::<T>(&mut written.as_slice());
        let again = again.expect("what was written is read").expect("there is a line");
        let mut twice = Vec::new();
        line::write(&mut twice, &again).expect("what was read can be written");
        assert_eq!(written, twice);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 11 {
        0 => check::<init::Request>(bytes),
        1 => check::<init::Answer>(bytes),
        2 => check::<guest::Config>(bytes),
        3 => check::<guest::Request>(bytes),
        4 => check::<guest::Answer>(bytes),
        5 => check::<vmm::Config>(bytes),
        6 => check::<vmm::ControlRequest>(bytes),
        7 => check::<vmm::ControlAnswer>(bytes),
        8 => {
            if let Some(manifest) = std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| Manifest::parse(text).ok())
            {
                assert_eq!(manifest.to_string().as_bytes(), bytes, "a manifest in two forms");
            }
        }
        9 => _ = std::str::from_utf8(bytes).map(|text| mountinfo::mount_points(text).count()),
        _ => _ = std::str::from_utf8(bytes).map(|text| milestone::parse(text).is_some()),
    }
});
