//! Netlink messages: written and read as bytes, and the socket that carries them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto, socket,
};

use crate::wait;

/// `NLM_F_REQUEST`: a message to the kernel (linux/netlink.h).
pub const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`: answer even if all went well.
pub const ACK: u16 = 0x04;
/// `NLM_F_CREATE`: make what does not exist.
pub const CREATE: u16 = 0x400;
/// `NLM_F_REPLACE`: replace what exists.
pub const REPLACE: u16 = 0x100;

/// `NLMSG_ERROR`: an error, or with number 0 an acknowledgement.
const ERROR: u16 = 2;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Largest message that is read; the kernel's own are far smaller.
const MAX_MESSAGE: usize = 16 * 1024;
/// How long the kernel may take to answer a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message being written.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Begins a message of a type with flags.
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// Adds a fixed part, padded to 4 bytes.
    #[must_use]
    pub fn with(mut self, fixed: &[u8]) -> Self {
        self.bytes.extend_from_slice(fixed);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        let mut attribute = Vec::with_capacity(value.len() + 4);
        attribute.extend_from_slice(&length.to_ne_bytes());
        attribute.extend_from_slice(&kind.to_ne_bytes());
        attribute.extend_from_slice(value);
        self.with(&attribute)
    }

    /// The message with its length filled in.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

/// Type and payload of each message in a datagram. Stops at the first that is malformed.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let kind = read_u16(rest, 4)?;
        let payload = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// Type and value of each attribute in `bytes`. Stops at the first that is malformed.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest, 0)?);
        // The two upper bits of the type are flags.
        let kind = read_u16(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A netlink socket that talks with the kernel.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket of a netlink family that hears the multicast groups in the mask `groups`.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd })
    }

    /// Sends a message and waits for the kernel's answer: the first message that is not an acknowledgement, or nothing.
    ///
    /// # Errors
    /// What the kernel answered, or that it did not answer in time.
    pub fn ask(&self, message: Message) -> io::Result<Option<Vec<u8>>> {
        sendto(
            self.fd.as_raw_fd(),
            &message.finish(),
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;
        if !wait::readable(self.fd.as_fd(), PATIENCE) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let datagram = self.receive()?.unwrap_or_default();
        let Some((kind, payload)) = messages(&datagram).next() else {
            return Ok(None);
        };
        if kind != ERROR {
            return Ok(Some(payload.to_vec()));
        }
        let number = payload
            .get(..4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, i32::from_ne_bytes);
        if number == 0 {
            Ok(None)
        } else {
            Err(io::Error::from_raw_os_error(number.saturating_neg()))
        }
    }

    /// Takes the next datagram that the kernel sent; those of other processes are dropped. `None` when there is none.
    ///
    /// # Errors
    /// What recvfrom(2) says; `ENOBUFS` means that datagrams were lost.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                Ok((length, Some(sender))) if sender.pid() == 0 => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Message::new(7, REQUEST)
            .with(&[1])
            .attribute(3, b"abcde")
            .attribute(0x8004, b"")
            .finish();
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 1);
        let (kind, payload) = all[0];
        assert_eq!((kind, payload.len() % 4), (7, 0));
        let found: Vec<_> = attributes(&payload[4..]).collect();
        assert_eq!(found, [(3, b"abcde".as_slice()), (4, b"".as_slice())]);
    }

    #[test]
    fn any_truncation_or_flip_ends_without_a_panic() {
        let bytes = Message::new(7, 0).with(&[0; 8]).attribute(1, &[2; 9]).finish();
        for end in 0..bytes.len() {
            for (_, payload) in messages(&bytes[..end]) {
                let _ = attributes(payload).count();
            }
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            for (_, payload) in messages(&changed).take(100) {
                assert!(attributes(payload).take(1000).count() < 1000);
            }
        }
    }
}
