//! Devices that are there at boot and devices that come later.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::sys::socket::{SockProtocol, setsockopt, sockopt};

use crate::netlink::Socket;

/// The kernel's own multicast group of uevents.
const KERNEL_EVENTS: u32 = 1;
/// Room for events that arrive while modules are loaded, in bytes.
const ROOM: usize = 1024 * 1024;

/// Hears of devices that appear.
#[derive(Debug)]
pub struct Hotplug {
    socket: Socket,
}

/// What was heard since the last time.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Devices with these modaliases appeared; none means that all events were taken.
    Devices(BTreeSet<String>),
    /// Events were lost: look at all devices again.
    Lost,
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Hotplug {
    /// Begins to listen. Do this before the devices that are there are looked at, so that none falls between.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkKObjectUEvent, KERNEL_EVENTS)?;
        setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
        Ok(Self { socket })
    }

    /// Takes what has arrived; does not wait.
    #[must_use]
    pub fn heard(&self) -> Heard {
        let mut modaliases = BTreeSet::new();
        // A flood is taken in turns.
        for _ in 0..1024 {
            match self.socket.receive() {
                Ok(Some(event)) => modaliases.extend(modalias_of_added(&event).map(str::to_owned)),
                Ok(None) => break,
                Err(_) => return Heard::Lost,
            }
        }
        Heard::Devices(modaliases)
    }
}

/// The modalias in a uevent that says that a device was added: `ACTION@PATH`, then `KEY=VALUE`s, each ended by a zero.
fn modalias_of_added(event: &[u8]) -> Option<&str> {
    let mut fields = event
        .split(|byte| *byte == 0)
        .filter_map(|field| std::str::from_utf8(field).ok());
    fields.next()?.starts_with("add@").then_some(())?;
    fields.find_map(|field| field.strip_prefix("MODALIAS="))
}

/// Modaliases of all devices on all buses below `sys`.
#[must_use]
pub fn devices(sys: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in names(&sys.join("bus")) {
        for device in names(&bus.join("devices")) {
            found.extend(read(&device.join("modalias")));
        }
    }
    found.extend(read(&sys.join("class/dmi/id/modalias")));
    found
}

/// Modalias of the processor, which wants its virtualization and acceleration modules.
#[must_use]
pub fn processor(sys: &Path) -> BTreeSet<String> {
    read(&sys.join("devices/system/cpu/modalias")).into_iter().collect()
}

fn names(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let modalias = text.trim_end();
    (!modalias.is_empty()).then(|| modalias.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_added_devices_with_a_modalias_count() {
        let added = b"add@/devices/pci0000:00\0ACTION=add\0SUBSYSTEM=virtio\0MODALIAS=virtio:d1v2\0SEQNUM=7\0";
        assert_eq!(modalias_of_added(added), Some("virtio:d1v2"));
        assert_eq!(modalias_of_added(b"remove@/x\0MODALIAS=virtio:d1v2\0"), None);
        assert_eq!(modalias_of_added(b"add@/x\0ACTION=add\0"), None);
        assert_eq!(modalias_of_added(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(modalias_of_added(b""), None);
    }

    #[test]
    fn devices_of_all_buses_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("bus/pci/devices/0000:00:01.0", "pci:v1\n"),
            ("bus/acpi/devices/X:00", "acpi:X:\n"),
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
            fs::write(dir.path().join(path).join("modalias"), text).unwrap();
        }
        fs::create_dir_all(dir.path().join("bus/pci/devices/none")).unwrap();
        let found: Vec<String> = devices(dir.path()).into_iter().collect();
        assert_eq!(found, ["acpi:X:", "pci:v1"]);
    }
}
