//! The link between two spaces: it loses, delays, reorders and cuts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet, time::sleep};

use crate::space::Space;

/// Longest datagram on loopback.
const MAX_DATAGRAM: usize = 65_536;

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Of a thousand datagrams, how many are lost.
    pub(crate) lost_permille: u16,
    /// Longest delay; each datagram takes its own, so that they overtake each other.
    pub(crate) delay: Duration,
    /// Whether nothing gets through.
    pub(crate) cut: bool,
}

/// The faults of a link, and the chance by which they strike.
#[derive(Debug)]
struct Weather {
    faults: Faults,
    chance: fastrand::Rng,
    passed: u64,
}

impl Weather {
    /// How long a datagram takes, if it arrives.
    fn passage(&mut self) -> Option<Duration> {
        let Faults {
            lost_permille,
            delay,
            cut,
        } = self.faults;
        if cut || self.chance.u16(0..1000) < lost_permille {
            return None;
        }
        self.passed += 1;
        let longest = u64::try_from(delay.as_micros()).unwrap();
        Some(Duration::from_micros(self.chance.u64(0..=longest)))
    }
}

/// A link whose faults can be changed while it is used. Dropping it cuts it.
#[derive(Debug)]
pub(crate) struct Link {
    weather: Arc<Mutex<Weather>>,
    relays: JoinSet<()>,
}

impl Link {
    /// A link without faults so far; those to come follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let weather = Weather {
            faults: Faults::default(),
            chance: fastrand::Rng::with_seed(seed),
            passed: 0,
        };
        Self {
            weather: Arc::new(Mutex::new(weather)),
            relays: JoinSet::new(),
        }
    }

    /// Opens a way from a socket to `target` in `space`. Returns the address that leads there.
    pub(crate) fn open(&mut self, from: std::net::UdpSocket, space: &Arc<Space>, target: SocketAddr) -> SocketAddr {
        let address = from.local_addr().unwrap();
        let relay = relay(shared(from), Arc::clone(space), target, Arc::clone(&self.weather));
        self.relays.spawn(relay);
        address
    }

    /// From now on these faults.
    pub(crate) fn set(&self, faults: Faults) {
        self.weather.lock().unwrap().faults = faults;
    }

    /// How many datagrams have got through.
    pub(crate) fn passed(&self) -> u64 {
        self.weather.lock().unwrap().passed
    }
}

fn shared(socket: std::net::UdpSocket) -> Arc<UdpSocket> {
    socket.set_nonblocking(true).unwrap();
    Arc::new(UdpSocket::from_std(socket).unwrap())
}

/// Passes datagrams on to `target`, and its answers back, by a socket of its own for each who sends.
async fn relay(socket: Arc<UdpSocket>, space: Arc<Space>, target: SocketAddr, weather: Arc<Mutex<Weather>>) {
    let mut ways: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An error says that an earlier datagram found nobody.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let way = ways.entry(from).or_insert_with(|| {
            let way = shared(space.socket());
            let back = pass(Arc::clone(&way), (Arc::clone(&socket), from), Arc::clone(&weather));
            answering.spawn(back);
            way
        });
        send(&weather, way, target, &buffer[..length]);
    }
}

/// Passes on what comes to a socket.
async fn pass(from: Arc<UdpSocket>, (by, to): (Arc<UdpSocket>, SocketAddr), weather: Arc<Mutex<Weather>>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        if let Ok((length, _)) = from.recv_from(&mut buffer).await {
            send(&weather, &by, to, &buffer[..length]);
        }
    }
}

fn send(weather: &Mutex<Weather>, by: &Arc<UdpSocket>, to: SocketAddr, datagram: &[u8]) {
    let passage = weather.lock().unwrap().passage();
    if let Some(passage) = passage {
        let (datagram, by) = (datagram.to_vec(), Arc::clone(by));
        tokio::spawn(async move {
            sleep(passage).await;
            // Who is not there hears nothing, as on any network.
            let _ = by.send_to(&datagram, to).await;
        });
    }
}
