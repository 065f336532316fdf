//! The power button: ACPI's events as the kernel sends them over generic netlink.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::sys::socket::SockProtocol;

use crate::{
    netlink::{Message, REQUEST, Socket, attributes, messages},
    sys,
};

// Numbers of linux/genetlink.h and of the kernel's drivers/acpi/event.c.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const CTRL_ATTR_MCAST_GROUPS: u16 = 7;
const CTRL_ATTR_MCAST_GRP_NAME: u16 = 1;
const CTRL_ATTR_MCAST_GRP_ID: u16 = 2;
const ACPI_GENL_ATTR_EVENT: u16 = 1;
const FAMILY: &[u8] = b"acpi_event\0";
const GROUP: &[u8] = b"acpi_mc_group\0";
/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;
/// How the device class of an event begins when the power button was pressed.
const POWER_BUTTON: &[u8] = b"button/power";

/// A socket that hears the power button.
#[derive(Debug)]
pub struct PowerButton {
    socket: Socket,
    family: u16,
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PowerButton {
    /// Subscribes to the kernel's ACPI events.
    ///
    /// # Errors
    /// When the kernel has no ACPI or refuses.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(SockProtocol::NetlinkGeneric, 0)?;
        let question = Message::new(GENL_ID_CTRL, REQUEST)
            .with(&[CTRL_CMD_GETFAMILY, 1, 0, 0])
            .attribute(CTRL_ATTR_FAMILY_NAME, FAMILY);
        let answer = socket.ask(question)?.unwrap_or_default();
        let (family, group) = parse_family(&answer).ok_or(io::ErrorKind::Unsupported)?;
        sys::join_group(&socket, group)?;
        Ok(Self { socket, family })
    }

    /// Takes all events that have arrived and says whether the power button was among them.
    #[must_use]
    pub fn was_pressed(&self) -> bool {
        let mut pressed = false;
        // A flood ends here and goes on with the next wait.
        for _ in 0..64 {
            let Ok(Some(datagram)) = self.socket.receive() else {
                break;
            };
            pressed |= messages(&datagram).any(|(kind, payload)| kind == self.family && is_power_button(payload));
        }
        pressed
    }
}

/// The family's message type and the number of its multicast group.
fn parse_family(payload: &[u8]) -> Option<(u16, u32)> {
    let mut family = None;
    let mut group = None;
    for (kind, value) in attributes(payload.get(GENERIC_HEADER..)?) {
        match kind {
            CTRL_ATTR_FAMILY_ID => family = Some(u16::from_ne_bytes(value.try_into().ok()?)),
            CTRL_ATTR_MCAST_GROUPS => group = attributes(value).find_map(|(_, group)| parse_group(group)),
            _ => {}
        }
    }
    Some((family?, group?))
}

fn parse_group(bytes: &[u8]) -> Option<u32> {
    let named = attributes(bytes).any(|(kind, value)| kind == CTRL_ATTR_MCAST_GRP_NAME && value == GROUP);
    let number = attributes(bytes).find(|(kind, _)| *kind == CTRL_ATTR_MCAST_GRP_ID)?.1;
    named.then(|| number.try_into().map(u32::from_ne_bytes).ok()).flatten()
}

fn is_power_button(payload: &[u8]) -> bool {
    attributes(payload.get(GENERIC_HEADER..).unwrap_or_default())
        .any(|(kind, value)| kind == ACPI_GENL_ATTR_EVENT && value.starts_with(POWER_BUTTON))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(message: Message) -> Vec<u8> {
        message.finish()[16..].to_vec()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        payload(Message::new(0, 0).attribute(kind, value))
    }

    #[test]
    fn family_and_group_are_found_among_others() {
        let group = |name: &[u8], id: u32| {
            [
                attribute(CTRL_ATTR_MCAST_GRP_NAME, name),
                attribute(CTRL_ATTR_MCAST_GRP_ID, &id.to_ne_bytes()),
            ]
            .concat()
        };
        let groups = [attribute(1, &group(b"other\0", 4)), attribute(2, &group(GROUP, 5))].concat();
        let answer = [
            vec![1, 2, 0, 0],
            attribute(CTRL_ATTR_FAMILY_ID, &23_u16.to_ne_bytes()),
            attribute(CTRL_ATTR_MCAST_GROUPS, &groups),
        ]
        .concat();
        assert_eq!(parse_family(&answer), Some((23, 5)));
        assert_eq!(parse_family(&answer[..12]), None);
    }

    #[test]
    fn only_the_power_button_counts() {
        let event = |class: &[u8]| [vec![1, 1, 0, 0], attribute(ACPI_GENL_ATTR_EVENT, class)].concat();
        assert!(is_power_button(&event(b"button/power\0\0\0\0\0\0\0\0LNXPWRBN:00")));
        assert!(!is_power_button(&event(b"button/lid\0")));
        assert!(!is_power_button(b"x"));
    }
}
