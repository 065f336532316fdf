//! Kernel settings, after the Kernel Self-Protection Project's recommendations, as a table.

use std::{fs, io, path::Path};

/// Settings of a node: a path below `/proc/sys` and the value.
///
/// Forwarding is left to the agent, which opens it for the guests' bridge alone.
pub const NODE: &[(&str, &str)] = &[
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/randomize_va_space", "2"),
    ("kernel/yama/ptrace_scope", "3"),
    ("kernel/sysrq", "0"),
    ("kernel/panic", "5"),
    ("kernel/panic_on_oops", "1"),
    ("dev/tty/ldisc_autoload", "0"),
    ("dev/tty/legacy_tiocsti", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    ("vm/mmap_min_addr", "65536"),
    ("net/core/bpf_jit_harden", "2"),
    ("net/ipv4/tcp_syncookies", "1"),
    ("net/ipv4/tcp_rfc1337", "1"),
    ("net/ipv4/icmp_echo_ignore_broadcasts", "1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/secure_redirects", "0"),
    ("net/ipv4/conf/default/secure_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
];

/// Writes `table` below `proc_sys` and returns a line for each setting that the kernel has and refused.
#[must_use]
pub fn apply(table: &[(&str, &str)], proc_sys: &Path) -> Vec<String> {
    let mut refused = Vec::new();
    for (name, value) in table {
        let path = proc_sys.join(name);
        match fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        {
            Ok(()) => {}
            // A kernel built without the feature has nothing to protect.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused.push(format!("sysctl {name} = {value}: {error}")),
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_exists_and_skips_what_the_kernel_lacks() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        fs::create_dir(dir.path().join("refused")).unwrap();
        let refused = apply(&[("a", "new"), ("missing/b", "1"), ("refused", "1")], dir.path());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "new");
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(!dir.path().join("missing").exists());
    }

    #[test]
    fn nothing_is_set_twice() {
        let mut names: Vec<_> = NODE.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NODE.len());
    }
}
