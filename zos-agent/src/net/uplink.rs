//! One uplink: the DHCP client of an interface with its socket.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, sync::mpsc};

use super::{
    dhcp::{Client, Destination, Lease, Output},
    links::{Interface, LinkError, Links},
};

/// Longest datagram that is read.
const MAX_PACKET: usize = 2048;
/// Pause after an error of the socket or the kernel, before the uplink is tried anew.
const RETRY: Duration = Duration::from_secs(5);

/// Where the kernel shows its interfaces.
pub const INTERFACES: &str = "/sys/class/net";
/// How long nobody may answer before that is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// What has happened on an uplink.
#[derive(Debug)]
pub enum Event {
    /// The interface has a lease, or another one.
    Leased(Interface, Lease),
    /// The interface has lost its lease.
    Lost(Interface),
    /// Nobody gives the interface an address; it goes on asking.
    Unanswered(Interface, Cable),
    /// Something failed; the uplink is tried again.
    Failed(Interface, UplinkError),
}

impl Event {
    /// The interface of the uplink.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        match self {
            Self::Leased(interface, _)
            | Self::Lost(interface)
            | Self::Unanswered(interface, _)
            | Self::Failed(interface, _) => interface,
        }
    }
}

/// Whether an interface has a link to whatever is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// It has one.
    In,
    /// It has none.
    Out,
}

impl Cable {
    /// As the kernel sees it below `class`, usually `/sys/class/net`. An interface that does not say has one.
    fn of(interface: &str, class: &Path) -> Self {
        match fs::read_to_string(class.join(interface).join("carrier")) {
            Ok(carrier) if carrier.trim() == "0" => Self::Out,
            _ => Self::In,
        }
    }
}

/// How long an interface has been without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It has a lease, or nobody has looked yet.
    Begins,
    /// It has none, which is to be said then.
    Until(Instant),
    /// It has none, which was said.
    Told,
}

impl Silence {
    fn seen(self, leased: bool, now: Instant) -> Self {
        match self {
            _ if leased => Self::Begins,
            Self::Begins => Self::Until(now + PATIENCE),
            goes_on => goes_on,
        }
    }

    /// Ends when it should be told, which may be never.
    async fn is_too_long(self) {
        match self {
            Self::Until(then) => tokio::time::sleep_until(then.into()).await,
            Self::Begins | Self::Told => std::future::pending().await,
        }
    }
}

/// Why an uplink does not work.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The socket failed.
    #[error("DHCP socket on {0}")]
    Socket(String, #[source] io::Error),
    /// The kernel refused a change.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Runs an uplink until `events` is closed. Never gives up: a cable may be plugged in next year. Whoever finds that the
/// interface is gone aborts it.
pub async fn run(interface: Interface, links: Links, seed: u64, events: mpsc::Sender<Event>) {
    let began = Instant::now();
    let mut client = Client::new(interface.mac, seed, Duration::ZERO);
    loop {
        let failed = match serve(&interface, &links, &mut client, began, &events).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if events.send(Event::Failed(interface.clone(), failed)).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
        for output in client.restart(began.elapsed()) {
            if let Output::Deconfigure(lease) = output {
                // The interface may be gone, and the address with it.
                _ = links.deconfigure(&interface, &lease).await;
                _ = events.send(Event::Lost(interface.clone())).await;
            }
        }
    }
}

async fn serve(
    interface: &Interface,
    links: &Links,
    client: &mut Client,
    began: Instant,
    events: &mpsc::Sender<Event>,
) -> Result<(), UplinkError> {
    let name = &interface.name;
    accept_answers(name);
    links.up(name, interface.index).await?;
    let socket_error = |source| UplinkError::Socket(name.clone(), source);
    let mut socket = Some(open(name).map_err(socket_error)?);
    let mut packet = [0; MAX_PACKET];
    let mut silence = Silence::Begins;
    loop {
        silence = silence.seen(client.lease().is_some(), Instant::now());
        let wait = client.deadline().saturating_sub(began.elapsed());
        let outputs = tokio::select! {
            received = receive(socket.as_ref(), &mut packet) => {
                let length = received.map_err(socket_error)?;
                client.receive(&packet[..length], began.elapsed())
            }
            () = tokio::time::sleep(wait) => client.tick(began.elapsed()),
            () = silence.is_too_long() => {
                silence = Silence::Told;
                let cable = Cable::of(name, Path::new(INTERFACES));
                _ = events.send(Event::Unanswered(interface.clone(), cable)).await;
                Vec::new()
            }
            () = events.closed() => return Ok(()),
        };
        // The machine hears nothing under this port but answers to what it has asked.
        socket = match socket {
            _ if !client.is_asking() => None,
            None => Some(open(name).map_err(socket_error)?),
            open => open,
        };
        for output in outputs {
            perform(interface, links, socket.as_ref(), output, events).await?;
        }
    }
}

async fn perform(
    interface: &Interface,
    links: &Links,
    socket: Option<&UdpSocket>,
    output: Output,
    events: &mpsc::Sender<Event>,
) -> Result<(), UplinkError> {
    match output {
        Output::Send(to, bytes) => {
            let to = match to {
                Destination::Broadcast => Ipv4Addr::BROADCAST,
                Destination::Server(address) => address,
            };
            if let Some(socket) = socket {
                // A cable that is not plugged in is no error: the machine repeats the message.
                _ = socket.send_to(&bytes, SocketAddrV4::new(to, 67)).await;
            }
        }
        Output::Configure(lease) => {
            links.configure(interface, &lease).await?;
            _ = events.send(Event::Leased(interface.clone(), lease)).await;
        }
        Output::Deconfigure(lease) => {
            links.deconfigure(interface, &lease).await?;
            _ = events.send(Event::Lost(interface.clone())).await;
        }
    }
    Ok(())
}

/// A DHCP server's answer comes from an address to which there is no route yet; the reverse path filter would drop it. The rule
/// set of [`crate::guest_net`] pins guests' addresses instead. Best effort: without the filter there is nothing to switch off.
fn accept_answers(interface: &str) {
    for scope in ["all", interface] {
        _ = fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "0");
    }
}

/// The length of the next packet; never without a socket.
async fn receive(socket: Option<&UdpSocket>, packet: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => Ok(socket.recv_from(packet).await?.0),
        None => std::future::pending().await,
    }
}

fn open(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_until_the_next_lease() {
        let now = Instant::now();
        let silent = Silence::Begins.seen(false, now);
        assert_eq!(silent, Silence::Until(now + PATIENCE));
        assert_eq!(
            silent.seen(false, now + PATIENCE),
            silent,
            "it goes on from its beginning"
        );
        assert_eq!(Silence::Told.seen(false, now), Silence::Told);
        assert_eq!(Silence::Told.seen(true, now), Silence::Begins);
    }

    #[test]
    fn cable_is_out_only_where_the_kernel_says_so() {
        let class = tempfile::tempdir().unwrap();
        let interface = class.path().join("eth0");
        fs::create_dir(&interface).unwrap();
        assert_eq!(Cable::of("eth0", class.path()), Cable::In);
        for (carrier, cable) in [("1\n", Cable::In), ("0\n", Cable::Out)] {
            fs::write(interface.join("carrier"), carrier).unwrap();
            assert_eq!(Cable::of("eth0", class.path()), cable);
        }
    }
}
