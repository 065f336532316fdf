//! A system call outside a filter ends the process and is named.

use std::process::Command;

use node_api::vmm::exit;
use vmm::{
    seccomp::{self, Thread},
    sys,
};

/// Tells the copy of this test which thread it plays.
const ROLE: &str = "VMM_TEST_ROLE";

fn role() -> Option<Thread> {
    match std::env::var(ROLE).ok()?.as_str() {
        "vcpu" => Some(Thread::Vcpu),
        "disk" => Some(Thread::Disk),
        _ => Some(Thread::Main),
    }
}

#[test]
fn opening_a_file_ends_each_kind_of_thread_by_name() {
    if let Some(thread) = role() {
        sys::install_violation_handler().unwrap();
        seccomp::install(thread).unwrap();
        let _refused = std::fs::File::open("/etc/passwd");
        sys::leave(0, None);
    }
    for kind in ["vcpu", "disk", "main"] {
        let myself = std::env::current_exe().unwrap();
        let mut copy = Command::new(myself);
        copy.args(["--exact", "violation::opening_a_file_ends_each_kind_of_thread_by_name"])
            .env(ROLE, kind);
        let output = copy.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit::SECCOMP), "{error}");
        let named = format!("vmm: thread {kind} made a system call that its filter refuses: openat (257)\n");
        assert!(error.ends_with(&named), "{error}");
    }
}
