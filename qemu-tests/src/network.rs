//! A network of a test's own, in which the test stands for everything that a machine can reach.
//!
//! QEMU's own network passes on what a machine sends to the network of the computer. So that this is neither the real
//! internet nor somebody's real network, the test runs once more in a network namespace whose loopback interface has
//! whatever addresses it likes: those of other machines in a farmer's network, and those of the internet.
//!
//! ```text
//! test ── unshare ──▶ the same test ──▶ chain, bots, QEMU ──▶ 192.168.77.10, 93.184.215.14, … : a Beacon
//! ```

use std::env;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Set where a test runs in a network of its own.
const INSIDE: &str = "ZOS_OWN_NETWORK";
/// What a [`Beacon`] says to whoever connects.
pub const GREETING: &str = "beacon";
/// The computer's list of name servers.
const RESOLVERS: &str = "/etc/resolv.conf";
/// Datagrams that a beacon remembers; later ones are only answered.
const MAX_HEARD: usize = 4096;
/// Longest datagram that is taken whole.
const MAX_DATAGRAM: usize = 2048;

/// Runs the test `name`, which calls this first, once more in a network of its own, where this computer has all of
/// `addresses` and asks the last of them for names. Returns whether the caller is the one inside, which goes on; for the
/// other one it is then over.
///
/// # Errors
/// If there can be no such network, or the test inside failed.
pub fn is_own(name: &str, addresses: &[Ipv4Addr]) -> Result<bool> {
    if env::var_os(INSIDE).is_some() {
        furnish(addresses)?;
        return Ok(true);
    }
    let program = env::current_exe().context("find the test's program")?;
    let mut command = Command::new("unshare");
    // In this order: a new user namespace makes the kernel forget about the parent's death.
    command.args([
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--",
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
    ]);
    command
        .arg(program)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    let status = command.status().context("start unshare")?;
    ensure!(status.success(), "the test in a network of its own: {status}");
    Ok(false)
}

fn furnish(addresses: &[Ipv4Addr]) -> Result<()> {
    init::link::up("lo", None)?;
    for address in addresses {
        init::link::add_address("lo", *address, 32)?;
    }
    if let Some(server) = addresses.last() {
        let list = env::temp_dir().join(format!("zos-resolvers-{}", std::process::id()));
        fs::write(&list, format!("nameserver {server}\n")).with_context(|| format!("write {}", list.display()))?;
        rustix::mount::mount_bind(&list, RESOLVERS).with_context(|| format!("replace {RESOLVERS}"))?;
        // The mount keeps the file.
        fs::remove_file(&list).with_context(|| format!("clear {}", list.display()))?;
    }
    Ok(())
}

/// Listens on one port of every address: greets who connects by TCP, sends back what comes by UDP, and remembers it.
#[derive(Debug)]
pub struct Beacon {
    port: u16,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    datagrams: Mutex<Vec<String>>,
    came: Condvar,
}

impl Beacon {
    /// Starts to listen on `port`; 0 takes a free one. It goes on to the end of the process.
    ///
    /// # Errors
    /// If it cannot.
    pub fn light(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen for connections")?;
        let port = listener.local_addr().context("find the beacon's port")?.port();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen for datagrams")?;
        let heard = Arc::new(Heard::default());
        let ear = Arc::clone(&heard);
        let thread = |name: &str| thread::Builder::new().name(name.into());
        thread("greeting").spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Who has gone needs no greeting.
                let _ = stream.write_all(GREETING.as_bytes());
            }
        })?;
        thread("echo").spawn(move || {
            let mut bytes = [0; MAX_DATAGRAM];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let datagram = bytes.get(..length).unwrap_or_default();
                ear.note(datagram);
                // As above.
                let _ = socket.send_to(datagram, from);
            }
        })?;
        Ok(Self { port, heard })
    }

    /// Where it is at `host`.
    #[must_use]
    pub fn at(&self, host: Ipv4Addr) -> SocketAddrV4 {
        SocketAddrV4::new(host, self.port)
    }

    /// All texts that came as datagrams.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard
            .datagrams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until a text has come as a datagram.
    ///
    /// # Errors
    /// If it has not within `limit`.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut datagrams = self.heard.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        while !datagrams.iter().any(|datagram| datagram == text) {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "no datagram {text} within {limit:?}: {datagrams:?}");
            let waited = self.heard.came.wait_timeout(datagrams, left);
            datagrams = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

impl Heard {
    fn note(&self, datagram: &[u8]) {
        let mut datagrams = self.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        if datagrams.len() < MAX_HEARD {
            datagrams.push(String::from_utf8_lossy(datagram).into_owned());
        }
        self.came.notify_all();
    }
}

/// Whether somebody at `address` answers a packet by UDP within `limit`.
///
/// # Errors
/// If it cannot be sent.
pub fn answers(address: SocketAddr, packet: &[u8], limit: Duration) -> Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
    socket.connect(address).context("name the other side")?;
    socket.set_read_timeout(Some(limit)).context("set a limit")?;
    socket.send(packet).context("send")?;
    Ok(socket.recv(&mut [0; MAX_DATAGRAM]).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;

    #[test]
    fn beacon_greets_echoes_and_remembers() {
        let beacon = Beacon::light(0).unwrap();
        let here = beacon.at(Ipv4Addr::LOCALHOST);
        let mut greeting = String::new();
        TcpStream::connect(here).unwrap().read_to_string(&mut greeting).unwrap();
        assert_eq!(greeting, GREETING);
        assert!(answers(here.into(), b"hello", Duration::from_secs(20)).unwrap());
        beacon.wait_for("hello", Duration::from_secs(20)).unwrap();
        assert_eq!(beacon.heard(), ["hello"]);
        assert!(beacon.wait_for("more", Duration::from_millis(20)).is_err());
    }
}
