//! System calls for which no crate in use has a safe wrapper. The only unsafe code of early user space.
#![expect(unsafe_code, reason = "raw system calls, one operation a block")]

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr, slice,
    sync::Arc,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Joins a netlink socket to a multicast group, by number (`NETLINK_ADD_MEMBERSHIP` of netlink(7)).
///
/// # Errors
/// What setsockopt(2) says.
pub fn join_group(socket: impl AsFd, group: u32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<u32>()).map_err(io::Error::other)?;
    // SAFETY: the option takes a u32, `group` is one and outlives the call, and the length is its size.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_ADD_MEMBERSHIP,
            (&raw const group).cast(),
            length,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps the heap small: one arena for all threads, and buffers of 64 KiB and more go back to the kernel when freed.
pub fn keep_heap_small() {
    const RETURN_FROM: i32 = 64 * 1024;
    // SAFETY: mallopt sets a number inside the allocator; any value is allowed, and an unknown one is refused.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, RETURN_FROM) };
}

/// Gives free heap pages back to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes the allocator's own lock and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Sets the time-out of a hardware watchdog in seconds (`WDIOC_SETTIMEOUT`) and returns what the device chose.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_watchdog_timeout(device: &File, seconds: i32) -> io::Result<i32> {
    nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
    let mut timeout = seconds;
    // SAFETY: the request reads and writes one int, which `timeout` is, and it outlives the call.
    unsafe { set_timeout(device.as_raw_fd(), &raw mut timeout) }?;
    Ok(timeout)
}

/// Makes the child of `command` the leader of a session of its own.
pub fn lead_session(command: &mut Command) {
    // SAFETY: setsid is async-signal-safe and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        })
    };
}

/// Moves the child of `command` into the cgroup whose `cgroup.procs` is given, before it runs a single instruction of
/// its program.
pub fn enter_cgroup(command: &mut Command, procs: File) {
    let procs = Arc::new(procs);
    // SAFETY: write(2) is async-signal-safe; the closure allocates nothing and owns the descriptor.
    unsafe { command.pre_exec(move || (&*procs).write_all(b"0")) };
}

/// Shows `read` the contents of a file without copying them.
///
/// # Errors
/// What mmap(2) says.
pub fn with_contents<T>(file: &File, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(read(&[]));
    }
    // SAFETY: a new mapping is asked for wherever there is room, so nothing of this process is replaced.
    let start = unsafe {
        mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::PRIVATE,
            file.as_fd(),
            0,
        )
    }?;
    // SAFETY: the mapping has `length` readable bytes until it is removed below. Files of the image are written by the
    // kernel alone, before the first program runs; one that got shorter would end this program, as a panic does.
    let result = read(unsafe { slice::from_raw_parts(start.cast_const().cast::<u8>(), length) });
    // SAFETY: it is the mapping made above, and `read` keeps nothing of it, as its lifetime says.
    unsafe { munmap(start, length) }?;
    Ok(result)
}

/// Puts the calling thread behind all others: it runs when nobody else wants the processor.
pub fn run_when_idle() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is a valid sched_param and outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}
