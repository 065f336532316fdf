//! The calls to the kernel that no safe wrapper covers, one operation each.
#![expect(
    unsafe_code,
    reason = "file descriptors handed over by number, ioctls, process exit and a signal handler"
)]

use std::{
    cell::Cell,
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use node_api::vmm::exit;

use crate::syscalls;

/// Length of the header that a tap device puts before each frame: `virtio_net_hdr_v1`.
pub const NET_HEADER: usize = 12;
/// `TUNGETIFF`: asks a tap queue for its interface and flags.
const TUNGETIFF: u64 = 0x8004_54d2;
/// `TUNSETOFFLOAD`: says which unfinished frames the guest takes.
pub const TUNSETOFFLOAD: u64 = 0x4004_54d0;
/// `TUNSETVNETHDRSZ`: sets the length of the header before each frame.
const TUNSETVNETHDRSZ: u64 = 0x4004_54d8;
/// Bytes of `struct ifreq`.
const IFREQ: usize = 40;
/// Offset of the flags in `struct ifreq`.
const IFREQ_FLAGS: usize = 16;

thread_local! {
    /// What the calling thread does, for the line that a refused system call leaves.
    static THREAD: Cell<&'static str> = const { Cell::new("main") };
}

/// Takes over descriptor `fd`, which the agent opened for the field that names it.
///
/// # Errors
/// When it is not open.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads a flag of the descriptor table and touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and the configuration's check lets each number be adopted only once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor from `first` to `last`.
///
/// # Errors
/// When the kernel does not know the call.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    let (Ok(first), Ok(last)) = (libc::c_uint::try_from(first), libc::c_uint::try_from(last)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // SAFETY: the caller names only numbers that nothing in this process owns.
    check(unsafe { libc::close_range(first, last, 0) }).map(drop)
}

/// Makes descriptor `number` a copy of `file`.
///
/// # Errors
/// When the kernel refuses.
pub fn copy_to(file: &File, number: RawFd) -> io::Result<()> {
    // SAFETY: `number` is a standard descriptor; what it was before is not used by this process.
    check(unsafe { libc::dup2(file.as_raw_fd(), number) }).map(drop)
}

/// The descriptor of `file`, for as long as `file` lives.
pub fn borrow(file: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: `file` owns the descriptor and outlives what is returned.
    unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }
}

/// Clears the environment. Only one thread may run.
pub fn clear_environment() {
    // SAFETY: called by the jail before any thread is started, so nothing reads the environment meanwhile.
    unsafe { libc::clearenv() };
}

/// The flags of the interface that `tap` is a queue of.
///
/// # Errors
/// When it is not a tap queue.
pub fn tap_flags(tap: &File) -> io::Result<i32> {
    let mut request = [0u8; IFREQ];
    // SAFETY: the request writes one `ifreq`, for which the buffer has room.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNGETIFF, request.as_mut_ptr()) })?;
    Ok(i32::from(crate::bytes::u16_at(&request, IFREQ_FLAGS)))
}

/// Sets the length of the header before each frame to [`NET_HEADER`].
///
/// # Errors
/// When the kernel refuses.
pub fn set_tap_header(tap: &File) -> io::Result<()> {
    let length = libc::c_int::try_from(NET_HEADER).expect("a header is short");
    // SAFETY: the request reads one integer, which lives until the call returns.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETVNETHDRSZ, &raw const length) }).map(drop)
}

/// Says which unfinished frames (`TUN_F_*`) the guest takes from `tap`.
///
/// # Errors
/// When the kernel refuses.
pub fn set_tap_offload(tap: &File, flags: u32) -> io::Result<()> {
    // SAFETY: the request takes its argument by value.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(flags)) }).map(drop)
}

/// Wraps the descriptor of `/dev/kvm`.
#[must_use]
pub fn kvm(fd: OwnedFd) -> kvm_ioctls::Kvm {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is owned, open and given up to the wrapper; that it is /dev/kvm was checked before.
    unsafe { kvm_ioctls::Kvm::from_raw_fd(fd.into_raw_fd()) }
}

/// Gives the guest the memory region of `slot`.
///
/// # Errors
/// When KVM refuses.
pub fn map_memory(
    vm: &kvm_ioctls::VmFd,
    slot: u32,
    guest_address: u64,
    size: u64,
    host_address: *mut u8,
) -> Result<(), kvm_ioctls::Error> {
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: guest_address,
        memory_size: size,
        userspace_addr: crate::bytes::wide(host_address.addr()),
    };
    // SAFETY: the region is a mapping of guest memory, which `run` keeps until the process ends.
    unsafe { vm.set_user_memory_region(region) }
}

/// Writes one line to standard error.
pub fn say(line: &str) {
    write_error(&format!("{line}\n"));
}

/// Ends the process at once with `code`, after `line` on standard error.
pub fn leave(code: i32, line: Option<&str>) -> ! {
    if let Some(line) = line {
        write_error(&format!("vmm: {line}\n"));
    }
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Names the calling thread's kind for the line that a refused system call leaves.
pub fn name_thread(kind: &'static str) {
    THREAD.set(kind);
}

/// The calling thread's kind.
#[must_use]
pub fn thread_kind() -> &'static str {
    THREAD.get()
}

/// Lets a system call outside a thread's filter end the process with [`exit::SECCOMP`] and a line that names it.
///
/// # Errors
/// When the kernel refuses the signal handler.
pub fn install_violation_handler() -> io::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    let action = SigAction::new(SigHandler::SigAction(on_violation), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler calls only what is safe in a signal handler.
    unsafe { sigaction(Signal::SIGSYS, &action) }
        .map(drop)
        .map_err(io::Error::from)
}

/// The part of `siginfo_t` that a `SIGSYS` fills in. Source: `siginfo_t`, `_sigsys`, in the kernel's `siginfo.h`.
#[repr(C)]
struct ViolationInfo {
    signal: i32,
    error: i32,
    code: i32,
    padding: i32,
    address: u64,
    number: i32,
    architecture: u32,
}

extern "C" fn on_violation(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a whole `siginfo_t`, which is larger than the part read here.
    let number = unsafe { (*info.cast::<ViolationInfo>()).number };
    // Only writes and the exit: neither allocates nor locks.
    write_error("vmm: thread ");
    write_error(THREAD.get());
    write_error(" made a system call that its filter refuses: ");
    write_error(syscalls::name(i64::from(number)));
    write_error(" ");
    let mut digits = [0u8; 12];
    write_error(decimal(number, &mut digits));
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(exit::SECCOMP) }
}

/// `number` in brackets with the end of the line, put together without allocation.
fn decimal(number: i32, buffer: &mut [u8; 12]) -> &str {
    let mut rest = number.unsigned_abs();
    let mut at = buffer.len() - 2;
    buffer[at..].copy_from_slice(b")\n");
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 || at == 2 {
            break;
        }
    }
    at -= 1;
    buffer[at] = b'(';
    std::str::from_utf8(&buffer[at..]).unwrap_or("\n")
}

fn write_error(text: &str) {
    // SAFETY: reads `text` alone. A failure leaves nobody to tell.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_a_system_call_is_written_without_allocation() {
        assert_eq!(decimal(0, &mut [0; 12]), "(0)\n");
        assert_eq!(decimal(231, &mut [0; 12]), "(231)\n");
    }

    #[test]
    fn closed_descriptor_is_not_adopted() {
        assert!(adopt(1_000_000).is_err());
    }
}
