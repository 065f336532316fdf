//! Must fail: one flipped byte in the agent. The builder's check and `init` at boot both refuse the image and name the
//! file. (Without Secure Boot this finds corruption, not an attacker, who would have changed the manifest as well.)

use std::time::Duration;

use image::cpio::Tree;
use image::{Flavour, damage, verify};
use node_api::image::AGENT;
use qemu_tests::{Config, Firmware, Machine, OnReset, iso};

const BOOT: Duration = Duration::from_secs(150);

#[test]
fn flipped_byte_in_the_agent_is_refused_by_the_builder_and_at_boot() {
    let directory = tempfile::tempdir().unwrap();
    let sound = iso(Flavour::Release).unwrap();
    assert_eq!(verify::image(&sound).unwrap().problems, Vec::<String>::new());
    let damaged = directory.path().join("damaged.iso");
    damage::iso(&sound, AGENT, &damaged).unwrap();
    assert_eq!(
        verify::image(&damaged).unwrap().problems,
        ["/bin/zos-agent: differs from the manifest"]
    );

    let config = Config {
        on_reset: OnReset::End,
        ..Config::iso(damaged, Firmware::Bios)
    };
    let mut machine = Machine::start(&config, directory.path()).unwrap();
    let line = machine.console.wait_for("image damaged:", BOOT).unwrap();
    assert!(line.contains("image damaged: /bin/zos-agent:"), "{line}");
    machine.console.wait_for_end(BOOT).unwrap();
    assert_eq!(machine.console.seen("agent started"), None);
}

#[test]
fn agent_smuggled_in_by_the_farm_slot_is_refused_by_the_builder_and_at_boot() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("smuggled.iso");
    let mut bytes = std::fs::read(iso(Flavour::Release).unwrap()).unwrap();
    let slot = bytes.chunks(2048).position(farm_media::is_slot).unwrap() * 2048;
    let mut tree = Tree::new();
    tree.add_file(AGENT, 0o755, b"another agent".to_vec()).unwrap();
    let archive = tree.to_cpio().unwrap();
    let start = slot + farm_media::MARKER_BYTES;
    bytes[start..start + archive.len()].copy_from_slice(&archive);
    std::fs::write(&path, bytes).unwrap();
    let problems = verify::image(&path).unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("/bin/zos-agent: added by the farm slot")),
        "{problems:?}"
    );

    let config = Config {
        on_reset: OnReset::End,
        ..Config::iso(path, Firmware::Bios)
    };
    let mut machine = Machine::start(&config, directory.path()).unwrap();
    let line = machine.console.wait_for("image damaged:", BOOT).unwrap();
    assert!(line.contains("image damaged: /bin/zos-agent:"), "{line}");
    assert_eq!(machine.console.seen("agent started"), None);
}
