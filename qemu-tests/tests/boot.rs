//! The image boots from each medium by each firmware, and the power button ends it in order.

use std::time::Duration;

use anyhow::Result;
use image::Flavour;
use node_api::image::FarmMedia;
use qemu_tests::{Boot, Config, Firmware, Machine, Medium, OnReset, boot_directly, iso, iso_with_arguments};

/// Far more than a boot takes on a busy computer without virtualization (about 10 s on an idle one).
const BOOT: Duration = Duration::from_secs(150);
/// From one milestone to the next.
const STEP: Duration = Duration::from_secs(90);

/// What a machine has done when it runs.
const STARTED: [&str; 3] = ["init: image verified", "init: modules loaded (", "init: agent started"];
/// What init says of a module that the kernel does not take.
const REFUSED_MODULE: &str = "init: load module ";

fn boots(boot: Boot) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let config = Config {
        on_reset: OnReset::End,
        ..Config::new(boot)
    };
    let mut machine = Machine::start(&config, directory.path())?;
    machine.console.wait_for("init: mounts", BOOT)?;
    // Modules are loaded beside the rest, so any may be first.
    for _ in STARTED {
        machine.console.wait_for_any(&STARTED, STEP)?;
    }
    assert!(STARTED.iter().all(|text| machine.console.seen(text).is_some()));
    assert_eq!(
        machine.console.seen("unpacking failed"),
        None,
        "the kernel takes the initial root whole"
    );
    assert_eq!(machine.console.seen(REFUSED_MODULE), None, "every module goes in");
    machine.power_off(STEP)
}

#[test]
fn cd_boots_by_bios() -> Result<()> {
    boots(Boot::Iso {
        path: iso(Flavour::Release)?,
        firmware: Firmware::Bios,
        medium: Medium::Cd,
    })
}

#[test]
fn cd_boots_by_uefi() -> Result<()> {
    boots(Boot::Iso {
        path: iso(Flavour::Release)?,
        firmware: Firmware::Uefi,
        medium: Medium::Cd,
    })
}

#[test]
fn stick_boots_by_bios() -> Result<()> {
    boots(Boot::Iso {
        path: iso(Flavour::Release)?,
        firmware: Firmware::Bios,
        medium: Medium::Stick,
    })
}

#[test]
fn stick_boots_by_uefi() -> Result<()> {
    boots(Boot::Iso {
        path: iso(Flavour::Release)?,
        firmware: Firmware::Uefi,
        medium: Medium::Stick,
    })
}

#[test]
fn kernel_and_initramfs_boot_without_a_boot_loader() -> Result<()> {
    let directory = tempfile::tempdir()?;
    boots(boot_directly(&iso(Flavour::Release)?, &[], None, directory.path())?)
}

#[test]
fn image_with_a_farms_media_boots() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("zos.iso");
    std::fs::copy(iso(Flavour::Release)?, &path)?;
    let media = FarmMedia {
        genesis: "11".repeat(32),
        peers: Vec::new(),
        farm: "33".repeat(32),
        enrolment_seed: "44".repeat(32),
    };
    farm_media::install(&path, &media)?;
    boots(Boot::Iso {
        path,
        firmware: Firmware::Bios,
        medium: Medium::Cd,
    })
}

#[test]
fn argument_that_stops_the_kernel_is_seen_as_a_panic() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("zos.iso");
    iso_with_arguments(&iso(Flavour::Release)?, &["rdinit=/none", "root=/dev/none"], &path)?;
    let config = Config {
        on_reset: OnReset::End,
        ..Config::iso(path, Firmware::Bios)
    };
    let mut machine = Machine::start(&config, directory.path())?;
    let error = machine.console.wait_for("init: mounts", BOOT).unwrap_err().to_string();
    assert!(error.contains("Kernel panic"), "{error}");
    Ok(())
}
