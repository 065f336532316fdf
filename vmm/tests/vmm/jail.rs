//! The jail of the real monitor, read from outside. Needs root, as the monitor does.

use std::{collections::BTreeMap, fs, path::Path};

use crate::rig::{Code, start};
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use node_api::vmm::{Jail, LANDLOCK_LINE, exit};

const USER: u32 = 2_000_001;
const GROUP: u32 = 2_000_002;

fn jail() -> Option<Jail> {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: only root can close the jail"
    );
    Some(Jail {
        uid: USER,
        gid: GROUP,
        cgroup_procs_fd: None,
    })
}

fn running() -> crate::rig::Monitor {
    let mut monitor = start(&Code::default().print("up\n").halt().kernel(), jail(), |_| {});
    monitor.wait_for("up");
    monitor
}

/// Fields of `status` of each thread.
fn threads(pid: u32) -> Vec<BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let fields = status.lines().filter_map(|line| line.split_once(':'));
            fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect()
        })
        .collect()
}

#[test]
fn no_thread_has_a_capability_a_privilege_or_an_unfiltered_system_call() {
    let monitor = running();
    let threads = threads(monitor.process.id());
    // The main one, a processor, and those that newer kernels start for KVM.
    assert!(threads.len() >= 2, "{threads:?}");
    for thread in threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(thread[set], "0000000000000000", "{set}");
        }
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", "2"));
        assert_eq!(thread["Uid"], [USER; 4].map(|id| id.to_string()).join("\t"));
        assert_eq!(thread["Gid"], [GROUP; 4].map(|id| id.to_string()).join("\t"));
        assert_eq!(thread["Groups"], "");
    }
}

#[test]
fn root_is_empty_and_cannot_be_written() {
    let monitor = running();
    let root = format!("/proc/{}/root", monitor.process.id());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    assert!(fs::write(Path::new(&root).join("file"), "").is_err());
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", monitor.process.id())).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
}

#[test]
fn namespaces_are_its_own() {
    let monitor = running();
    for kind in ["mnt", "net", "ipc", "uts", "cgroup"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{kind}", monitor.process.id())).unwrap();
        assert_ne!(theirs, fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    }
}

#[test]
fn only_descriptors_of_the_configuration_are_open_and_the_environment_is_gone() {
    let secret = crate::rig::inherit(fs::File::open("/etc/passwd").unwrap());
    let monitor = running();
    for entry in fs::read_dir(format!("/proc/{}/fd", monitor.process.id())).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        assert_ne!(target, Path::new("/etc/passwd"));
    }
    drop(secret);
    let limits = fs::read_to_string(format!("/proc/{}/limits", monitor.process.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    // The console's log is the longest file of this one.
    let size = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
    assert_eq!(size.split_whitespace().nth(3), Some("4096"), "{size}");
}

/// Whether the kernel can do all that a version of Landlock can.
fn kernel_has(version: ABI) -> bool {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(version))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(version)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(version)))
        .and_then(|ruleset| ruleset.create());
    asked.is_ok()
}

#[test]
fn jailed_guest_ends_like_any_other_and_its_jail_is_closed_by_landlock_where_the_kernel_has_it() {
    let code = Code::default().print("bye\n").out(0x600, 0x34).halt();
    let (status, error, console) = start(&code.kernel(), jail(), |_| {}).end();
    assert_eq!((status, console.as_str()), (exit::POWERED_OFF, "bye\n"));
    let said = error.strip_prefix(LANDLOCK_LINE).unwrap();
    let expected = if kernel_has(ABI::V6) {
        "enforced in full\n"
    } else if kernel_has(ABI::V1) {
        "enforced as far as this kernel knows it\n"
    } else {
        "not enforced: the kernel has none\n"
    };
    assert_eq!(said, expected);
}
