//! Packets that no ordinary socket sends.

use std::net::SocketAddrV4;

/// Length of an IPv4 header without options.
const IPV4_HEADER: usize = 20;
/// What ours is told by among others' echoes.
const ECHO_ID: [u8; 2] = *b"ZO";

/// A first packet of QUIC (RFC 9000, 17.2) of a version that is kept free to make others name theirs (15), as long as a
/// server wants it (14.1).
pub(crate) fn quic_of_no_version() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a];
    packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.extend([8, 8, 7, 6, 5, 4, 3, 2, 1]);
    packet.resize(1200, 0);
    packet
}

/// An echo request (RFC 792).
pub(crate) fn echo_request() -> Vec<u8> {
    let mut packet = vec![8, 0, 0, 0, ECHO_ID[0], ECHO_ID[1], 0, 1];
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    packet
}

/// Whether a packet, with its IPv4 header, is the answer to [`echo_request`].
pub(crate) fn is_echo_reply(packet: &[u8]) -> bool {
    packet.get(IPV4_HEADER) == Some(&0) && packet.get(IPV4_HEADER + 4..IPV4_HEADER + 6) == Some(&ECHO_ID)
}

/// A UDP packet with its IPv4 header, of which the kernel fills in length and checksum.
pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + content.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length.to_be_bytes());
    // No checksum (RFC 768).
    packet.extend([0, 0]);
    packet.extend(content);
    packet
}

/// The internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_request_has_a_sum_that_makes_the_whole_zero() {
        assert_eq!(checksum(&echo_request()), 0);
        let mut reply = vec![0; IPV4_HEADER];
        reply.extend(echo_request());
        assert!(!is_echo_reply(&reply), "our own request is no reply");
        reply[IPV4_HEADER] = 0;
        assert!(is_echo_reply(&reply));
    }

    #[test]
    fn forged_packet_names_both_ends() {
        let packet = udp("100.64.0.6:9".parse().unwrap(), "8.8.4.4:53".parse().unwrap(), b"hi");
        assert_eq!(packet.len(), IPV4_HEADER + 10);
        assert_eq!(packet[12..20], [100, 64, 0, 6, 8, 8, 4, 4]);
        assert_eq!(packet[20..28], [0, 9, 0, 53, 0, 10, 0, 0]);
    }
}
