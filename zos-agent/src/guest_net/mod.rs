//! The network of the guests: a tap each, a network of two addresses each, one rule set for all.
//!
//! Every micro-VM has a slot; slot `n` has the tap `zt<n>` and the four addresses from `100.64.0.0 + 4n`, a range that is set
//! aside for carriers (RFC 6598) and therefore collides with no farmer's own network. Guests share no bridge: there is no way
//! from one to another but through the node's rule set, which has none.

mod ruleset;
mod tap;

use std::net::Ipv4Addr;

pub use ruleset::{Input, TABLE, Uplink, ruleset};
pub use tap::{NFT, NetError, apply, close_tap, open_tap};

/// First address of the guests' range; its prefix has [`RANGE_PREFIX`] bits.
pub const RANGE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// Length of the prefix of [`RANGE`].
pub const RANGE_PREFIX: u8 = 16;
/// Length of the prefix of one guest's network.
pub const GUEST_PREFIX: u8 = 30;
/// Slots that the range has room for.
pub const MAX_SLOTS: u16 = 1 << 14;
/// Prefix of the taps' names.
pub const TAP_PREFIX: &str = "zt";

/// A place among the guests; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// A slot below [`MAX_SLOTS`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < MAX_SLOTS).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Name of its tap.
    #[must_use]
    pub fn tap(self) -> String {
        format!("{TAP_PREFIX}{}", self.0)
    }

    /// The node's address on the tap: the guest's gateway and name server.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.address(1)
    }

    /// The guest's address.
    #[must_use]
    pub fn guest(self) -> Ipv4Addr {
        self.address(2)
    }

    /// The guest's hardware address, locally administered.
    #[must_use]
    pub fn mac(self) -> [u8; 6] {
        let [high, low] = self.0.to_be_bytes();
        [0x02, 0x5a, 0x4f, 0x53, high, low]
    }

    fn address(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(RANGE.to_bits() + 4 * u32::from(self.0) + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_networks_of_their_own_within_the_range() {
        let first = Slot::new(0).unwrap();
        assert_eq!(
            (first.gateway(), first.guest()),
            (Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::new(100, 64, 0, 2))
        );
        let last = Slot::new(MAX_SLOTS - 1).unwrap();
        assert_eq!(
            (last.gateway(), last.guest()),
            (Ipv4Addr::new(100, 64, 255, 253), Ipv4Addr::new(100, 64, 255, 254))
        );
        assert_eq!(last.tap(), "zt16383");
        assert_eq!(last.mac(), [2, 0x5a, 0x4f, 0x53, 0x3f, 0xff]);
        assert_eq!(Slot::new(MAX_SLOTS), None);
    }
}
