//! What can be tried, and how it went.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use crate::packet;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(6);
/// Until a packet is sent again, in case it was lost.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest answer that is looked at, in bytes.
const MAX_ANSWER: usize = 2048;

/// An attempt, as it is written in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// `own TO`: says from which address a packet to `TO` goes.
    Own(SocketAddrV4),
    /// `tcp TO`: connects, and says what the other side said first.
    Tcp(SocketAddrV4),
    /// `udp TO TEXT`: sends the text, and says what came back.
    Udp(SocketAddrV4, String),
    /// `quic TO`: sends a first QUIC packet of a version that nobody knows; whoever speaks QUIC answers with those that it
    /// knows.
    Quic(SocketAddrV4),
    /// `ping TO`: asks for an echo.
    Ping(Ipv4Addr),
    /// `forge FROM TO TEXT`: sends the text by UDP under another's address.
    Forge(Ipv4Addr, SocketAddrV4, String),
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something came back.
    Answered(String),
    /// Somebody said that nobody is there.
    Refused,
    /// Nothing came back.
    Silent,
    /// A packet was sent that no answer is expected to.
    Sent,
    /// It could not be tried.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(text) => write!(formatter, "answered {text}"),
            Self::Refused => formatter.write_str("refused"),
            Self::Silent => formatter.write_str("silent"),
            Self::Sent => formatter.write_str("sent"),
            Self::Failed(reason) => write!(formatter, "failed: {reason}"),
        }
    }
}

/// A line that is no attempt.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no attempt")]
pub(crate) struct NoAttempt(String);

impl FromStr for Attempt {
    type Err = NoAttempt;

    fn from_str(line: &str) -> Result<Self, NoAttempt> {
        let words: Vec<&str> = line.split(' ').collect();
        parse(&words).ok_or_else(|| NoAttempt(line.to_owned()))
    }
}

fn parse(words: &[&str]) -> Option<Attempt> {
    Some(match words {
        ["own", to] => Attempt::Own(to.parse().ok()?),
        ["tcp", to] => Attempt::Tcp(to.parse().ok()?),
        ["udp", to, text] => Attempt::Udp(to.parse().ok()?, (*text).to_owned()),
        ["quic", to] => Attempt::Quic(to.parse().ok()?),
        ["ping", to] => Attempt::Ping(to.parse().ok()?),
        ["forge", from, to, text] => Attempt::Forge(from.parse().ok()?, to.parse().ok()?, (*text).to_owned()),
        _ => return None,
    })
}

impl Attempt {
    /// Makes it.
    pub(crate) fn make(&self) -> Outcome {
        let made = match self {
            Self::Own(to) => own_address(*to).map(|own| Outcome::Answered(own.to_string())),
            Self::Tcp(to) => tcp(*to).map(Outcome::Answered),
            Self::Udp(to, text) => udp(*to, text.as_bytes()).map(|answer| Outcome::Answered(printable(&answer))),
            Self::Quic(to) => udp(*to, &packet::quic_of_no_version()).map(|_| Outcome::Answered("quic".to_owned())),
            Self::Ping(to) => ping(*to).map(|()| Outcome::Answered("echo".to_owned())),
            Self::Forge(from, to, text) => forge(*from, *to, text).map(|()| Outcome::Sent),
        };
        made.unwrap_or_else(|error| match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silent,
            _ => Outcome::Failed(error.to_string()),
        })
    }
}

fn own_address(to: SocketAddrV4) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

fn tcp(to: SocketAddrV4) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to.into(), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut bytes = [0; MAX_ANSWER];
    // Whoever takes the connection is reached, whatever it says.
    let said = stream.read(&mut bytes).unwrap_or_default();
    Ok(printable(bytes.get(..said).unwrap_or_default()))
}

fn udp(to: SocketAddrV4, packet: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    ask(&socket, packet, |_| true)
}

fn ping(to: Ipv4Addr) -> io::Result<()> {
    let socket = raw(ipproto::ICMP)?;
    socket.connect(SocketAddr::from((to, 0)))?;
    ask(&socket, &packet::echo_request(), packet::is_echo_reply).map(drop)
}

fn forge(from: Ipv4Addr, to: SocketAddrV4, text: &str) -> io::Result<()> {
    let packet = packet::udp(SocketAddrV4::new(from, to.port()), to, text.as_bytes());
    // For this protocol the kernel takes the header as it is.
    raw(ipproto::RAW)?
        .send_to(&packet, SocketAddr::from((*to.ip(), 0)))
        .map(drop)
}

fn raw(protocol: rustix::net::Protocol) -> io::Result<UdpSocket> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    // The type stands for any socket of packets.
    Ok(UdpSocket::from(socket))
}

/// Sends a packet every second until one comes back that is an answer.
fn ask(socket: &UdpSocket, packet: &[u8], is_answer: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(AGAIN))?;
    let deadline = Instant::now() + LIMIT;
    let mut bytes = [0; MAX_ANSWER];
    while Instant::now() < deadline {
        socket.send(packet)?;
        match socket.recv(&mut bytes) {
            Ok(length) => {
                let answer = bytes.get(..length).unwrap_or_default();
                if is_answer(answer) {
                    return Ok(answer.to_vec());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::TimedOut.into())
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .copied()
        .filter(u8::is_ascii_graphic)
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    fn outcome(line: &str) -> String {
        line.parse::<Attempt>().unwrap().make().to_string()
    }

    #[test]
    fn lines_that_are_no_attempts_are_told() {
        for line in ["", "tcp", "tcp 10.0.0.1", "ping 10.0.0.1:80", "walk 10.0.0.1:80"] {
            let error = line.parse::<Attempt>().unwrap_err().to_string();
            assert_eq!(error, format!("{line:?} is no attempt"));
        }
    }

    #[test]
    fn who_answers_is_told_from_who_refuses_and_who_is_silent() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = listener.local_addr().unwrap();
        thread::spawn(move || listener.accept().unwrap().0.write_all(b"hello\n").unwrap());
        assert_eq!(outcome(&format!("tcp {open}")), "answered hello");

        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mute = socket.local_addr().unwrap();
        assert_eq!(outcome(&format!("udp {mute} text")), "silent");
        drop(socket);
        assert_eq!(outcome(&format!("udp {mute} text")), "refused");
        assert_eq!(outcome("own 127.0.0.1:9"), "answered 127.0.0.1");
    }
}
