//! The network of the guests: a tap each, a network of two addresses each, one rule set for all.
//!
//! Every micro-VM has a slot; slot `n` has the tap `zt<n>` and the four addresses from `100.64.0.0 + 4n`, a range that is set
//! aside for carriers (RFC 6598) and therefore collides with no farmer's own network. Guests share no bridge: there is no way
//! from one to another but through the node's rule set, which has none.

mod ruleset;
mod tap;

use std::net::Ipv4Addr;

pub use ruleset::{FLOW_LIMIT, FLOWS_OF_A_GUEST, Input, TABLE, Uplink, ruleset};
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

/// Tells the flows of one tenant of a slot from those of the next. It stays the same for as long as the machine runs, also
/// for another agent, and nobody outside the machine can choose a VM's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowMark(u32);

impl FlowMark {
    const CONTEXT: &str = "ZOS 2026 mark of a guest's flows";

    /// The mark of a VM in a boot of the machine.
    #[must_use]
    pub fn new(boot: &str, vm: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(Self::CONTEXT);
        hasher.update(boot.as_bytes()).update(&[0]).update(vm.as_bytes());
        let bytes = std::array::from_fn(|at| hasher.finalize().as_bytes()[at]);
        // Zero is the mark of a flow that has none.
        Self(u32::from_le_bytes(bytes).max(1))
    }
}

impl std::fmt::Display for FlowMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_marks_differ_by_vm_and_by_boot() {
        let marks = [("a", "x"), ("a", "y"), ("b", "x")].map(|(boot, vm)| FlowMark::new(boot, vm));
        assert_eq!(marks[0], FlowMark::new("a", "x"));
        assert!(
            marks[0] != marks[1] && marks[0] != marks[2] && marks[1] != marks[2],
            "{marks:?}"
        );
        assert_eq!(FlowMark(0x00c0_ffee).to_string(), "0x00c0ffee");
    }

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
