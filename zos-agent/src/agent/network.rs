//! The network as the agent sees it: interfaces, leases, and what follows from them for the guests' rules.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use error_line::with_causes;
use tokio::sync::{Notify, mpsc};

use super::{AgentError, say};
use crate::{
    guest_net::{self, FlowMark, Slot, Uplink},
    net::{
        self, Leases,
        links::{self, Links},
        roster::{Absence, PATIENCE, Roster},
        uplink::{self, Cable},
    },
};

/// Pause between two looks at the interfaces when the kernel says nothing.
const LOOK: Duration = Duration::from_secs(1);

/// Whether the interfaces are the same as before a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interfaces {
    Same,
    Others,
}

/// The network as the agent sees it.
pub(super) struct Network {
    pub(super) links: Links,
    changed: Arc<Notify>,
    roster: Roster,
    absence: Absence,
    sender: mpsc::Sender<uplink::Event>,
    events: mpsc::Receiver<uplink::Event>,
    leases: Leases,
}

impl Network {
    pub(super) fn start() -> Result<Self, AgentError> {
        let (sender, events) = mpsc::channel(64);
        let mut network = Self {
            links: Links::open()?,
            // Before the first look, so that no interface falls between.
            changed: links::changes()?,
            roster: Roster::default(),
            absence: Absence::Until(Instant::now() + PATIENCE),
            sender,
            events,
            leases: Leases::new(),
        };
        let _ = network.look();
        Ok(network)
    }

    /// Follows the interfaces that have come and gone.
    fn look(&mut self) -> Interfaces {
        let before = self.roster.names();
        let (links, sender) = (&self.links, &self.sender);
        let gone = self
            .roster
            .follow(links::physical(Path::new(uplink::INTERFACES)), |interface| {
                let seed = u64::from(std::process::id()) << 16 | u64::from(interface.index);
                tokio::spawn(uplink::run(interface, links.clone(), seed, sender.clone())).abort_handle()
            });
        for name in gone {
            say(&format!("network interface {name} is gone"));
            self.leases.remove(&name);
        }
        let (absence, say_so) = self.absence.seen(&self.roster, Instant::now());
        self.absence = absence;
        if say_so {
            say(
                "no network interface: none of the machine's network cards has a driver in this image; add a supported \
                 card",
            );
        }
        if self.roster.names() == before {
            Interfaces::Same
        } else {
            Interfaces::Others
        }
    }

    /// Takes over what has happened since the last time.
    pub(super) fn collect(&mut self) {
        let _ = self.look();
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    /// Takes over what happens for as long as `work` goes on.
    pub(super) async fn tend<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.change() => {}
            }
        }
    }

    /// Waits until something happens, and takes it over.
    pub(super) async fn change(&mut self) {
        loop {
            tokio::select! {
                Some(event) = self.events.recv() => return self.take(event),
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            // The guests' taps make the kernel speak as well; they are no reason to stir.
            if self.look() == Interfaces::Others {
                return;
            }
        }
    }

    fn take(&mut self, event: uplink::Event) {
        if matches!(event, uplink::Event::Failed(..)) {
            // Its interface may be gone, and then that is what is to be said.
            let _ = self.look();
        }
        if !self.roster.has(event.interface()) {
            return;
        }
        match event {
            uplink::Event::Leased(interface, lease) => {
                say(&format!(
                    "address {}/{} on {}",
                    lease.address, lease.prefix, interface.name
                ));
                self.leases.insert(interface.name, lease);
            }
            uplink::Event::Lost(interface) => {
                say(&format!("address lost on {}; still asking", interface.name));
                self.leases.remove(&interface.name);
            }
            uplink::Event::Unanswered(interface, Cable::Out) => say(&format!(
                "no address on {}: no link; check the cable; still asking",
                interface.name
            )),
            uplink::Event::Unanswered(interface, Cable::In) => say(&format!(
                "no address on {}: nobody answers; check that the network has a DHCP server; still asking",
                interface.name
            )),
            uplink::Event::Failed(interface, error) => {
                say(&format!(
                    "network on {}: {}; tried again",
                    interface.name,
                    with_causes(&error)
                ));
            }
        }
    }

    pub(super) fn addresses(&self) -> Vec<(String, IpAddr)> {
        self.leases
            .iter()
            .map(|(name, lease)| (name.clone(), lease.address.into()))
            .collect()
    }

    pub(super) fn rules(&self, guests: BTreeMap<Slot, FlowMark>, port: u16) -> guest_net::Input {
        let uplink = |(name, lease): (&String, &net::dhcp::Lease)| Uplink {
            interface: name.clone(),
            address: lease.address,
            prefix: lease.prefix,
        };
        guest_net::Input {
            guests,
            interfaces: self.roster.names(),
            uplinks: self.leases.iter().map(uplink).collect(),
            dns: net::name_servers(&self.leases).into_iter().next(),
            port,
        }
    }
}
