//! Sockets that hear from anyone.

use std::{fs, path::Path};

use crate::command::{Refusal, failed};

/// Files of proc_net(5), each with the state of a socket that hears from anyone: listening, or without a peer.
const PROTOCOLS: [(&str, &str); 6] = [
    ("tcp", "0A"),
    ("tcp6", "0A"),
    ("udp", "07"),
    ("udp6", "07"),
    ("raw", "07"),
    ("raw6", "07"),
];

/// Such sockets below `net`, `PROTOCOL:PORT` each, in order.
pub(crate) fn open(net: &Path) -> Result<Vec<String>, Refusal> {
    let mut open = Vec::new();
    for (protocol, state) in PROTOCOLS {
        let table = match fs::read_to_string(net.join(protocol)) {
            Ok(table) => table,
            // The kernel has no such protocol.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("list the sockets")(error)),
        };
        let ports = table.lines().skip(1).filter_map(|line| port(line, state));
        open.extend(ports.map(|port| format!("{protocol}:{port}")));
    }
    open.sort();
    Ok(open)
}

/// The local port of a socket in the given state.
fn port(line: &str, wanted: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _peer, state) = (fields.next()?, fields.next()?, fields.next()?);
    let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
    (state == wanted).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections() {
        let directory = tempfile::tempdir().unwrap();
        let tables = [
            (
                "tcp",
                "   0: 00000000:0050 00000000:0000 0A 00000000:00000000\n   1: 0100007F:1F90 0100007F:0050 01 0:0\n",
            ),
            ("udp", "  10: 0F02000A:1E5A 00000000:0000 07 00000000:00000000\n"),
        ];
        for (protocol, lines) in tables {
            let table = format!("  sl  local_address rem_address   st tx_queue rx_queue\n{lines}");
            fs::write(directory.path().join(protocol), table).unwrap();
        }
        assert_eq!(open(directory.path()).unwrap(), ["tcp:80", "udp:7770"]);
    }
}
