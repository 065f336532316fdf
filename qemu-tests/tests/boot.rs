//! The image boots from each medium by each firmware, and the power button ends it in order.

use std::time::Duration;

use image::Flavour;
use qemu_tests::{Boot, Config, Firmware, Machine, Medium, OnReset, boot_directly, iso, iso_with_arguments};

/// Far more than a boot takes on a busy computer without virtualization (about 10 s on an idle one).
const BOOT: Duration = Duration::from_secs(150);
/// From one milestone to the next.
const STEP: Duration = Duration::from_secs(90);

fn boots(boot: Boot) {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        on_reset: OnReset::End,
        ..Config::new(boot)
    };
    let mut machine = Machine::start(&config, directory.path()).unwrap();
    machine.console.wait_for("init: mounts", BOOT).unwrap();
    machine.console.wait_for("init: image verified", STEP).unwrap();
    machine.console.wait_for("init: modules loaded", STEP).unwrap();
    machine.console.wait_for("init: agent started", STEP).unwrap();
    machine.power_off(STEP).unwrap();
}

#[test]
fn cd_boots_by_bios() {
    boots(Boot::Iso {
        path: iso(Flavour::Release).unwrap(),
        firmware: Firmware::Bios,
        medium: Medium::Cd,
    });
}

#[test]
fn cd_boots_by_uefi() {
    boots(Boot::Iso {
        path: iso(Flavour::Release).unwrap(),
        firmware: Firmware::Uefi,
        medium: Medium::Cd,
    });
}

#[test]
fn stick_boots_by_bios() {
    boots(Boot::Iso {
        path: iso(Flavour::Release).unwrap(),
        firmware: Firmware::Bios,
        medium: Medium::Stick,
    });
}

#[test]
fn stick_boots_by_uefi() {
    boots(Boot::Iso {
        path: iso(Flavour::Release).unwrap(),
        firmware: Firmware::Uefi,
        medium: Medium::Stick,
    });
}

#[test]
fn kernel_and_initramfs_boot_without_a_boot_loader() {
    let directory = tempfile::tempdir().unwrap();
    boots(boot_directly(&iso(Flavour::Release).unwrap(), &[], None, directory.path()).unwrap());
}

#[test]
fn argument_that_stops_the_kernel_is_seen_as_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zos.iso");
    iso_with_arguments(
        &iso(Flavour::Release).unwrap(),
        &["rdinit=/none", "root=/dev/none"],
        &path,
    )
    .unwrap();
    let config = Config {
        on_reset: OnReset::End,
        ..Config::iso(path, Firmware::Bios)
    };
    let mut machine = Machine::start(&config, directory.path()).unwrap();
    let error = machine.console.wait_for("init: mounts", BOOT).unwrap_err().to_string();
    assert!(error.contains("Kernel panic"), "{error}");
}
