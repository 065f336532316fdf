//! Interfaces, addresses and routes, by rtnetlink.

use std::{fs, io, net::Ipv4Addr, path::Path, sync::Arc};

use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use tokio::sync::Notify;

use super::dhcp::Lease;

/// A physical network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Kernel name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; 6],
}

/// Why the kernel's network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket.
    #[error("open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused a change.
    #[error("{step} {interface}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Kernel name of the interface.
        interface: String,
        /// The cause.
        #[source]
        source: rtnetlink::Error,
    },
    /// No interface of this name.
    #[error("interface {0} is gone")]
    Gone(String, #[source] io::Error),
}

/// Lists physical Ethernet interfaces: those with a device behind them and a hardware address of 6 bytes.
#[must_use]
pub fn physical(class: &Path) -> Vec<Interface> {
    let mut found: Vec<_> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| class.join(name).join("device").exists())
        .filter_map(|name| {
            let read = |file: &str| fs::read_to_string(class.join(&name).join(file)).ok();
            // 1 is ARPHRD_ETHER; 803 and others are monitoring interfaces without Ethernet frames.
            let ethernet = read("type")?.trim() == "1";
            let index = read("ifindex")?.trim().parse().ok()?;
            let mac = parse_mac(read("address")?.trim())?;
            ethernet.then_some(Interface { name, index, mac })
        })
        .collect();
    found.sort_by_key(|interface| interface.index);
    found
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .ok()?;
    bytes.try_into().ok().filter(|mac| *mac != [0; 6])
}

/// Notifies when the kernel says that an interface came, went or changed, on a task of the current runtime. What happened in
/// the meantime is one notification. The kernel may lose messages, so whoever listens looks from time to time as well.
///
/// # Errors
/// [`LinkError::Open`].
pub fn changes() -> Result<Arc<Notify>, LinkError> {
    let (connection, _, mut messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(LinkError::Open)?;
    tokio::spawn(connection);
    let changed = Arc::new(Notify::new());
    let told = Arc::clone(&changed);
    tokio::spawn(async move {
        while messages.recv().await.is_ok() {
            told.notify_one();
        }
    });
    Ok(changed)
}

/// The agent's handle to the kernel's network.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

impl Links {
    /// Opens a netlink socket and serves it on a task of the current runtime.
    ///
    /// # Errors
    /// [`LinkError::Open`].
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Brings an interface up.
    ///
    /// # Errors
    /// [`LinkError::Refused`].
    pub async fn up(&self, interface: &str, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(refused("bring up", interface))
    }

    /// Puts a leased address on an interface. Routes of several uplinks differ in their metric: the first interface wins.
    ///
    /// # Errors
    /// [`LinkError::Refused`].
    pub async fn configure(&self, interface: &Interface, lease: &Lease) -> Result<(), LinkError> {
        self.address(&interface.name, interface.index, lease.address, lease.prefix)
            .await?;
        let Some(router) = lease.router else { return Ok(()) };
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(router)
            .output_interface(interface.index)
            .priority(metric(interface.index))
            .build();
        self.handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(refused("set the default route of", &interface.name))
    }

    /// Puts an address on an interface; one that is there already is no error.
    ///
    /// # Errors
    /// [`LinkError::Refused`].
    pub async fn address(&self, interface: &str, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
        let request = self.handle.address().add(index, address.into(), prefix).replace();
        request
            .execute()
            .await
            .map_err(refused("set the address of", interface))
    }

    /// Takes a leased address off an interface; its routes go with it.
    ///
    /// # Errors
    /// [`LinkError::Refused`].
    pub async fn deconfigure(&self, interface: &Interface, lease: &Lease) -> Result<(), LinkError> {
        let mut message = rtnetlink::packet_route::address::AddressMessage::default();
        message.header.family = rtnetlink::packet_route::AddressFamily::Inet;
        message.header.index = interface.index;
        message.header.prefix_len = lease.prefix;
        message
            .attributes
            .push(rtnetlink::packet_route::address::AddressAttribute::Local(
                lease.address.into(),
            ));
        self.handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(refused("remove the address of", &interface.name))
    }

    /// Index of an interface by name.
    ///
    /// # Errors
    /// [`LinkError::Gone`].
    pub fn index_of(name: &str) -> Result<u32, LinkError> {
        rustix::net::netdevice::name_to_index(
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
                .map_err(|error| LinkError::Open(error.into()))?,
            name,
        )
        .map_err(|error| LinkError::Gone(name.to_owned(), error.into()))
    }
}

fn metric(index: u32) -> u32 {
    100_u32.saturating_add(index)
}

fn refused(step: &'static str, interface: &str) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let interface = interface.to_owned();
    move |source| LinkError::Refused {
        step,
        interface,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ethernet_with_a_device_behind_it_is_physical() {
        let class = tempfile::tempdir().unwrap();
        for (name, index, mac, kind, device) in [
            ("eth1", "3", "52:54:00:12:34:57", "1", true),
            ("eth0", "2", "52:54:00:12:34:56", "1", true),
            ("zt0", "4", "52:54:00:12:34:58", "1", false),
            ("ib0", "5", "80:00:02:08:fe:80:00:00", "32", true),
            ("null0", "6", "00:00:00:00:00:00", "1", true),
        ] {
            let directory = class.path().join(name);
            fs::create_dir_all(if device {
                directory.join("device")
            } else {
                directory.clone()
            })
            .unwrap();
            fs::write(directory.join("ifindex"), format!("{index}\n")).unwrap();
            fs::write(directory.join("address"), format!("{mac}\n")).unwrap();
            fs::write(directory.join("type"), format!("{kind}\n")).unwrap();
        }
        let found = physical(class.path());
        assert_eq!(
            found
                .iter()
                .map(|interface| interface.name.as_str())
                .collect::<Vec<_>>(),
            ["eth0", "eth1"]
        );
        assert_eq!(found[0].mac, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    }
}
