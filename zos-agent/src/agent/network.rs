//! The network as the agent sees it: interfaces, leases, and what follows from them for the guests' rules.

use std::{collections::BTreeSet, net::IpAddr, path::Path, pin::pin};

use tokio::sync::mpsc;

use super::{AgentError, say};
use crate::{
    guest_net::{self, Slot, Uplink},
    net::{
        self, Leases, links,
        links::Links,
        uplink::{self, Cable},
    },
    text::chain,
};

/// The network as the agent sees it.
pub(super) struct Network {
    pub(super) links: Links,
    interfaces: BTreeSet<String>,
    events: mpsc::Receiver<uplink::Event>,
    leases: Leases,
}

impl Network {
    pub(super) fn start() -> Result<Self, AgentError> {
        let links = Links::open()?;
        let physical = links::physical(Path::new(uplink::INTERFACES));
        let (sender, events) = mpsc::channel(64);
        let interfaces = physical.iter().map(|interface| interface.name.clone()).collect();
        if physical.is_empty() {
            say("no network interface: check the cable's card; its driver may be missing");
        }
        for (number, interface) in (0_u64..).zip(physical) {
            let seed = u64::from(std::process::id()) << 16 | number;
            tokio::spawn(uplink::run(interface, links.clone(), seed, sender.clone()));
        }
        Ok(Self {
            links,
            interfaces,
            events,
            leases: Leases::new(),
        })
    }

    /// Takes over what has happened since the last time.
    pub(super) fn collect(&mut self) {
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
        match self.events.recv().await {
            Some(event) => self.take(event),
            // No interface, so nothing ever happens.
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, event: uplink::Event) {
        match event {
            uplink::Event::Leased(name, lease) => {
                say(&format!("address {}/{} on {name}", lease.address, lease.prefix));
                self.leases.insert(name, lease);
            }
            uplink::Event::Lost(name) => {
                say(&format!("address lost on {name}; still asking"));
                self.leases.remove(&name);
            }
            uplink::Event::Unanswered(name, Cable::Out) => {
                say(&format!("no address on {name}: no link; check the cable; still asking"));
            }
            uplink::Event::Unanswered(name, Cable::In) => {
                say(&format!(
                    "no address on {name}: nobody answers; check that the network has a DHCP server; still asking"
                ));
            }
            uplink::Event::Failed(name, error) => say(&format!("network on {name}: {}; tried again", chain(&error))),
        }
    }

    pub(super) fn addresses(&self) -> Vec<(String, IpAddr)> {
        self.leases
            .iter()
            .map(|(name, lease)| (name.clone(), lease.address.into()))
            .collect()
    }

    pub(super) fn rules(&self, guests: BTreeSet<Slot>, port: u16) -> guest_net::Input {
        let uplink = |(name, lease): (&String, &net::dhcp::Lease)| Uplink {
            interface: name.clone(),
            address: lease.address,
            prefix: lease.prefix,
        };
        guest_net::Input {
            guests,
            interfaces: self.interfaces.clone(),
            uplinks: self.leases.iter().map(uplink).collect(),
            dns: net::name_servers(&self.leases).into_iter().next(),
            port,
        }
    }
}
