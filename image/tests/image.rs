//! Whole images from the unpacked packages. The static test program stands in for each of ours, so no other crate is
//! needed; `cargo xtask setup` is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::cpio::{Node, Tree};
use image::{Binaries, Flavour, Options, Profile, Sources, build, damage, executables, iso, iso_read, verify};
use node_api::image::{AGENT, FARM_MEDIA, FarmMedia, GUEST_INITRD, GUEST_KERNEL, MANIFEST, MODULES};

fn sources() -> Sources {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    Sources::new(target.join("zos"))
}

fn options(flavour: Flavour) -> Options {
    let program = std::env::current_exe().expect("a test knows its program");
    let binaries = Binaries {
        init: program.clone(),
        guest_init: program.clone(),
        agent: program.clone(),
        vmm: program.clone(),
        test_agent: program,
    };
    Options {
        sources: sources(),
        binaries,
        flavour,
        profile: Profile::Dev,
        arguments: vec!["zos.test=1".into()],
    }
}

#[test]
fn image_holds_the_short_list_of_programs_and_neither_shell_nor_interpreter() {
    let tree = build::tree(&options(Flavour::Release)).unwrap();
    let expected = [
        "/bin/vmm",
        "/bin/zos-agent",
        "/init",
        "/lib64/ld-linux-x86-64.so.2",
        "/sbin/mke2fs",
        "/sbin/mkfs.xfs",
        "/sbin/nft",
    ];
    assert_eq!(executables::present(&tree), expected);
    for path in tree.nodes().keys() {
        let name = path.rsplit('/').next().unwrap();
        let interpreter = [
            "python", "perl", "ruby", "lua", "busybox", "sshd", "dropbear", "getty", "login", "sudo",
        ];
        assert!(!interpreter.iter().any(|word| name.starts_with(word)), "{path}");
        assert!(
            !["sh", "ash", "bash", "dash", "zsh", "su", "passwd", "shadow"].contains(&name),
            "{path}"
        );
    }
    let guest = Tree::from_cpio(tree.file(GUEST_INITRD).unwrap()).unwrap();
    assert_eq!(executables::present(&guest), ["/init"]);
    assert!(
        zstd::decode_all(tree.file(GUEST_KERNEL).unwrap())
            .unwrap()
            .starts_with(b"\x7fELF")
    );
}

#[test]
fn only_the_test_flavour_has_the_agent_that_causes_faults() {
    let release = build::tree(&options(Flavour::Release)).unwrap();
    assert!(release.get(executables::TEST_AGENT).is_none());
    assert!(
        !String::from_utf8(release.file(MANIFEST).unwrap().to_vec())
            .unwrap()
            .contains("test-agent")
    );
    let test = build::tree(&options(Flavour::Test)).unwrap();
    assert!(test.get(executables::TEST_AGENT).is_some());
}

#[test]
fn modules_of_a_guest_come_after_what_they_need() {
    let tree = build::tree(&options(Flavour::Release)).unwrap();
    let guest = Tree::from_cpio(tree.file(GUEST_INITRD).unwrap()).unwrap();
    let list = String::from_utf8(guest.file("/etc/modules").unwrap().to_vec()).unwrap();
    let position = |name: &str| {
        list.lines()
            .position(|line| line == format!("/lib/modules/{name}.ko"))
            .unwrap_or_else(|| panic!("{name} in {list}"))
    };
    assert!(position("virtio_ring") < position("virtio_mmio"));
    assert!(position("virtio") < position("virtio_mmio"));
    assert!(position("vsock") < position("vmw_vsock_virtio_transport_common"));
    for path in list.lines() {
        assert!(guest.file(path).is_some(), "{path}");
    }
}

#[test]
fn what_helps_a_module_is_named_as_the_module_that_it_is() {
    let tree = build::tree(&options(Flavour::Release)).unwrap();
    let text = |name: &str| {
        let bytes = tree.file(&format!("{MODULES}/{name}")).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let (dep, softdep) = (text("modules.dep"), text("modules.softdep"));
    for line in softdep.lines() {
        for name in line.split_whitespace().skip(2).filter(|word| !word.ends_with(':')) {
            let beginning = format!("{name}.ko.zst:");
            assert!(dep.lines().any(|module| module.starts_with(&beginning)), "{line}");
        }
    }
    // Debian's list says crc32c, which is what both modules can do.
    let checksum = softdep.lines().find(|line| line.starts_with("softdep libcrc32c pre:"));
    assert!(
        checksum.is_some_and(|line| line.contains(" crc32c_generic")),
        "{softdep}"
    );
}

#[test]
fn debians_programs_start_with_nothing_but_the_libraries_in_the_image() {
    let tree = build::tree(&options(Flavour::Release)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (path, node) in tree.nodes() {
        if let Node::File { mode, bytes } = node {
            let place = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, bytes).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
    for (program, option) in [
        ("sbin/mkfs.xfs", "-V"),
        ("sbin/mke2fs", "-V"),
        ("sbin/nft", "--version"),
    ] {
        let output = Command::new(root.join("lib64/ld-linux-x86-64.so.2"))
            .args(["--inhibit-cache", "--library-path"])
            .arg(root.join("lib/x86_64-linux-gnu"))
            .args([root.join(program).as_os_str(), option.as_ref()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
    }
}

#[test]
fn two_builds_are_the_same_byte_for_byte() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let places = [
        first.path().join("zos.iso"),
        second.path().join("deeper/down/other-name.iso"),
    ];
    build::image(&options(Flavour::Release), &places[0]).unwrap();
    // A date in the image would differ by now: FAT counts in steps of two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    build::image(&options(Flavour::Release), &places[1]).unwrap();
    let [one, two] = places.each_ref().map(|place| fs::read(place).unwrap());
    let difference = one.iter().zip(&two).position(|(one, two)| one != two);
    assert!(
        one == two,
        "sizes {} and {}, first difference at {difference:?}",
        one.len(),
        two.len()
    );
    let initramfs = |place: &Path| fs::read(place.with_file_name("pxe").join("initramfs.img")).unwrap();
    assert!(initramfs(&places[0]) == initramfs(&places[1]));
}

#[test]
fn finished_image_is_sound_takes_a_farms_media_and_shows_damage() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("zos.iso");
    let built = build::image(&options(Flavour::Release), &place).unwrap();
    assert_eq!(iso_read::built(&place).unwrap(), built);
    assert!(built.command_line.ends_with(" zos.test=1"));
    let report = verify::image(&place).unwrap();
    assert_eq!((report.problems, report.farm), (Vec::new(), false));

    let media = FarmMedia {
        genesis: "11".repeat(32),
        peers: vec!["22".repeat(32) + "@10.0.2.2:7000"],
        farm: "33".repeat(32),
        enrolment_seed: "44".repeat(32),
    };
    farm_media::install(&place, &media).unwrap();
    let report = verify::image(&place).unwrap();
    assert_eq!((report.problems, report.farm), (Vec::new(), true));
    assert_eq!(iso_read::built(&place).unwrap(), built);

    let damaged = directory.path().join("damaged.iso");
    damage::iso(&place, AGENT, &damaged).unwrap();
    assert_eq!(
        verify::image(&damaged).unwrap().problems,
        ["/bin/zos-agent: differs from the manifest"]
    );
}

#[test]
fn farm_slot_with_anything_but_the_media_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("zos.iso");
    let initramfs = image::node::compress(&small_tree().to_cpio().unwrap(), 1).unwrap();
    let built = image::Built {
        kernel: b"kernel".to_vec(),
        initramfs,
        command_line: "quiet".into(),
    };
    iso::write(&built, &place).unwrap();
    let mut bytes = fs::read(&place).unwrap();
    let slot = bytes.chunks(2048).position(farm_media::is_slot).unwrap() * 2048;
    let mut tree = Tree::new();
    tree.add_file("/bin/zos-agent", 0o755, b"other".to_vec()).unwrap();
    let added = tree.to_cpio().unwrap();
    let start = slot + farm_media::MARKER_BYTES;
    bytes[start..start + added.len()].copy_from_slice(&added);
    fs::write(&place, bytes).unwrap();
    let problems = verify::image(&place).unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.starts_with("/bin/zos-agent: added by the farm slot")),
        "{problems:?}"
    );
    assert!(!problems.iter().any(|problem| problem.starts_with(FARM_MEDIA)));
}

fn small_tree() -> Tree {
    let mut tree = Tree::new();
    tree.add_file("/init", 0o755, b"init".to_vec())
        .expect("the path is free");
    image::manifest::add(&mut tree).expect("the paths can be listed");
    tree
}
