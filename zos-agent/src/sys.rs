//! The three system calls for which no safe wrapper exists. Each function is one operation and takes and gives owned types.
#![expect(
    unsafe_code,
    reason = "ioctl and the space between fork and exec have no safe interface"
)]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

mod ioctl {
    // `BLKRRPART` of <linux/fs.h>.
    nix::ioctl_none!(reread_partitions, 0x12, 95);
    // `TUNSETIFF` of <linux/if_tun.h>; declared with `int`, used with `struct ifreq`.
    nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, 4), libc::ifreq);
}

/// Makes the kernel read a disk's partition table anew.
///
/// # Errors
/// The kernel's error: `EBUSY` when a partition is in use.
pub(crate) fn reread_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: the call takes no pointer, and the descriptor is open for as long as `disk` is borrowed.
    unsafe { ioctl::reread_partitions(disk.as_raw_fd()) }?;
    Ok(())
}

/// Attaches an opened `/dev/net/tun` to a tap interface without packet information and with a virtio header.
///
/// # Errors
/// The kernel's error, or `InvalidInput` for a name longer than an interface may have.
pub(crate) fn attach_tap(tun: &OwnedFd, name: &str) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR)
                .map_err(|_| io::ErrorKind::InvalidInput)?,
        },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = libc::c_char::try_from(byte).map_err(|_| io::ErrorKind::InvalidInput)?;
    }
    // SAFETY: `request` is a whole `ifreq` that outlives the call; the kernel reads the name and the flags from it.
    unsafe { ioctl::tun_set_iff(tun.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// Makes `command` start in a session of its own and inherit exactly `descriptors` beside its standard streams. Every
/// descriptor of the agent is opened close-on-exec, so what is not named here ends at exec.
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<OwnedFd>) -> &mut Command {
    let prepare = move || {
        nix::unistd::setsid().map_err(io::Error::from)?;
        descriptors
            .iter()
            .try_for_each(|descriptor| keep_across_exec(descriptor.as_fd()))
    };
    // SAFETY: between fork and exec the closure only makes system calls that are async-signal-safe (setsid, fcntl): it
    // neither allocates nor takes locks. The descriptors are owned by it and stay open until the command is dropped.
    unsafe { command.pre_exec(prepare) }
}

fn keep_across_exec(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).map_err(io::Error::from)
}
