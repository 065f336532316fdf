//! The system calls that each kind of thread may make once the guest runs. Any other ends the process.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::sys;

/// `KVM_RUN`: runs a processor.
const KVM_RUN: u64 = 0xae80;
/// `KVM_GET_REGS`: says where a processor was when it faulted.
const KVM_GET_REGS: u64 = 0x8090_ae81;
/// `FIONBIO`: sets a socket to not block.
const FIONBIO: u64 = 0x5421;
/// `F_GETFD`: reads a flag of a descriptor.
const F_GETFD: u64 = 1;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Runs a virtual processor; writes to the console.
    Vcpu,
    /// Serves one disk.
    Disk,
    /// Serves all other devices and the control socket.
    Main,
}

impl Thread {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vcpu => "vcpu",
            Self::Disk => "disk",
            Self::Main => "main",
        }
    }
}

/// A filter could not be made or installed.
#[derive(Debug, thiserror::Error)]
#[error("filter the system calls of thread {thread}")]
pub struct SeccompError {
    thread: &'static str,
    #[source]
    source: seccompiler::Error,
}

/// Calls of every thread: memory of its own, locks, the clock, the console, and the end.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit_group,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
];

/// Calls of a processor's thread beyond [`COMMON`]. A guest that resets its socket device ends the connections that wait for
/// it, and the reset is served on the processor's thread.
const VCPU: &[i64] = &[libc::SYS_close];

/// Calls of a disk's thread beyond [`COMMON`].
const DISK: &[i64] = &[libc::SYS_fdatasync, libc::SYS_lseek];
/// How a disk's thread may call fallocate: `FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE`, which neither frees nor adds space.
const ZERO_RANGE: u64 = 0x11;

/// Calls of the main thread beyond [`COMMON`].
const MAIN: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_getrandom,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

/// Installs the filter of the calling thread, which does `thread`.
///
/// # Errors
/// [`SeccompError`] when the kernel refuses.
pub fn install(thread: Thread) -> Result<(), SeccompError> {
    sys::name_thread(thread.name());
    let failed = |source| SeccompError {
        thread: thread.name(),
        source,
    };
    let program = program(thread).map_err(|error| failed(error.into()))?;
    seccompiler::apply_filter(&program).map_err(failed)
}

fn program(thread: Thread) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = rules(thread)?;
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn rules(thread: Thread) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let own = match thread {
        Thread::Vcpu => VCPU,
        Thread::Disk => DISK,
        Thread::Main => MAIN,
    };
    let mut rules: BTreeMap<_, _> = COMMON.iter().chain(own).map(|call| (*call, Vec::new())).collect();
    // No memory is ever made executable.
    let no_code = |argument| argument_is(argument, SeccompCmpOp::MaskedEq(4), 0);
    rules.insert(libc::SYS_mmap, vec![no_code(2)?]);
    rules.insert(libc::SYS_mprotect, vec![no_code(2)?]);
    // The standard library asks so whether a descriptor that it closes is open.
    rules.insert(libc::SYS_fcntl, vec![argument_is(1, SeccompCmpOp::Eq, F_GETFD)?]);
    let requests = match thread {
        Thread::Vcpu => &[KVM_RUN, KVM_GET_REGS][..],
        Thread::Disk => {
            let zero = argument_is(1, SeccompCmpOp::Eq, ZERO_RANGE)?;
            rules.insert(libc::SYS_fallocate, vec![zero]);
            return Ok(rules);
        }
        Thread::Main => &[FIONBIO, sys::TUNSETOFFLOAD],
    };
    let requests = requests
        .iter()
        .map(|request| argument_is(1, SeccompCmpOp::Eq, *request));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    Ok(rules)
}

fn argument_is(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls;

    const THREADS: [Thread; 3] = [Thread::Vcpu, Thread::Disk, Thread::Main];

    fn names(thread: Thread) -> Vec<&'static str> {
        rules(thread)
            .unwrap()
            .keys()
            .map(|call| syscalls::name(*call))
            .collect()
    }

    #[test]
    fn every_allowed_call_has_a_name_and_every_filter_compiles() {
        for thread in THREADS {
            assert!(!names(thread).contains(&"unknown"));
            assert!(!program(thread).unwrap().is_empty());
        }
    }

    #[test]
    fn a_processor_that_resets_a_device_may_end_its_connections() {
        assert!(names(Thread::Vcpu).contains(&"close"));
    }

    #[test]
    fn no_thread_may_open_start_trace_signal_or_connect() {
        for thread in THREADS {
            for call in [
                "open",
                "openat",
                "openat2",
                "execve",
                "execveat",
                "clone",
                "clone3",
                "fork",
                "vfork",
                "ptrace",
                "kill",
                "tgkill",
                "tkill",
                "connect",
                "socket",
                "bind",
                "mount",
                "setns",
                "unshare",
                "process_vm_writev",
                "bpf",
                "io_uring_setup",
                "userfaultfd",
                "pidfd_getfd",
                "seccomp",
                "prctl",
                "memfd_create",
            ] {
                assert!(!names(thread).contains(&call), "{thread:?} may {call}");
            }
        }
    }

    #[test]
    fn only_disks_reach_stable_storage_and_only_the_main_thread_accepts() {
        assert!(names(Thread::Disk).contains(&"fdatasync") && !names(Thread::Vcpu).contains(&"fdatasync"));
        assert!(names(Thread::Main).contains(&"accept4") && !names(Thread::Disk).contains(&"accept4"));
    }
}
