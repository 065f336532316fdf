//! Ports of the loopback address that nobody uses.
//!
//! Between finding a port and using it another program may take it; the kernel hands out others first, so in practice
//! none does, and QEMU says so if one did.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// A free UDP port of 127.0.0.1.
///
/// # Errors
/// If there is none.
pub fn free_udp_port() -> io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A free TCP port of 127.0.0.1.
///
/// # Errors
/// If there is none.
pub fn free_tcp_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
