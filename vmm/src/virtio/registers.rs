//! The registers of a virtio device (section 4.2.2), as a state machine that takes nothing from the guest unchecked.
//!
//! ```text
//! reset -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK      (bits only ever added, in this order)
//!   ^          |            |           |              |
//!   +----------+------------+-----------+--------------+  write of 0
//! ```
//! Features are taken only between DRIVER and FEATURES_OK, queues set up only between FEATURES_OK and DRIVER_OK.

use virtio_queue::QueueT;

use super::{EVENT_INDEX, VERSION_1, chain::Ring};
use crate::{Memory, bytes};

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// Version of the register layout.
const VERSION: u32 = 2;
/// Names the maker in `VendorID`: "ZOS".
const VENDOR: u32 = 0x0053_4f5a;

/// Status bits (section 2.1).
pub mod status {
    pub use virtio_bindings::virtio_config::{
        VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
        VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
        VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET,
    };
}

/// Register offsets.
pub mod offset {
    #![expect(missing_docs, reason = "the names are those of table 4.1 of the specification")]
    pub const MAGIC: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE: u64 = 0x008;
    pub const VENDOR: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SELECT: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SELECT: u64 = 0x024;
    pub const QUEUE_SELECT: u64 = 0x030;
    pub const QUEUE_SIZE_MAX: u64 = 0x034;
    pub const QUEUE_SIZE: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESCRIPTORS: u64 = 0x080;
    pub const QUEUE_DRIVER: u64 = 0x090;
    pub const QUEUE_DEVICE: u64 = 0x0a0;
    pub const SHARED_MEMORY: std::ops::Range<u64> = 0x0b0..0x0c0;
    pub const GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// What a write asks of the device behind the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The driver is ready: the device starts with the agreed features.
    Activate,
    /// Everything goes back to power-on.
    Reset,
    /// The write breaks the rules and changed nothing.
    Refused,
}

/// The registers.
#[derive(Debug)]
pub struct Registers {
    kind: u32,
    offered: u64,
    agreed: u64,
    offered_select: u32,
    agreed_select: u32,
    queue_select: u32,
    status: u32,
    /// The device's queues.
    pub rings: Vec<Ring>,
}

impl Registers {
    /// Registers of a device of `kind` with `features` and queues of `sizes`.
    #[must_use]
    pub fn new(kind: u32, features: u64, sizes: &[u16]) -> Self {
        Self {
            kind,
            offered: features,
            agreed: 0,
            offered_select: 0,
            agreed_select: 0,
            queue_select: 0,
            status: 0,
            rings: sizes.iter().map(|size| Ring::new(*size)).collect(),
        }
    }

    /// Features that both sides have.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.agreed
    }

    /// Whether queues may be worked on.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.status & (status::DRIVER_OK | status::NEEDS_RESET | status::FAILED) == status::DRIVER_OK
    }

    /// Stops the device until a reset. Returns whether it was not stopped before.
    pub fn fail(&mut self) -> bool {
        let was_live = self.is_live();
        self.status |= status::NEEDS_RESET;
        was_live
    }

    /// The guest reads the register at `offset`.
    #[must_use]
    pub fn read(&self, at: u64) -> u32 {
        let ring = self.rings.get(bytes::size(self.queue_select.into()));
        match at {
            offset::MAGIC => MAGIC,
            offset::VERSION => VERSION,
            offset::DEVICE => self.kind,
            offset::VENDOR => VENDOR,
            offset::DEVICE_FEATURES => half(self.offered, self.offered_select),
            offset::QUEUE_SIZE_MAX => ring.map_or(0, |ring| ring.queue.max_size().into()),
            offset::QUEUE_READY => ring.map_or(0, |ring| ring.queue.ready().into()),
            offset::STATUS => self.status,
            // No shared memory: length and base of each region are all ones.
            at if offset::SHARED_MEMORY.contains(&at) => u32::MAX,
            _ => 0,
        }
    }

    /// The guest writes `value` to the register at `offset`.
    pub fn write(&mut self, at: u64, value: u32, memory: &Memory) -> Effect {
        match at {
            offset::DEVICE_FEATURES_SELECT => self.offered_select = value,
            offset::DRIVER_FEATURES_SELECT => self.agreed_select = value,
            offset::QUEUE_SELECT => self.queue_select = value,
            offset::DRIVER_FEATURES => return self.write_features(value),
            offset::STATUS => return self.write_status(value),
            _ => return self.write_queue(at, value, memory),
        }
        Effect::None
    }

    fn write_features(&mut self, value: u32) -> Effect {
        if self.status & (status::DRIVER | status::FEATURES_OK) != status::DRIVER {
            return Effect::Refused;
        }
        let value = u64::from(value);
        match self.agreed_select {
            0 => self.agreed = (self.agreed & !0xffff_ffff) | value,
            1 => self.agreed = (self.agreed & 0xffff_ffff) | (value << 32),
            _ if value == 0 => {}
            _ => return Effect::Refused,
        }
        Effect::None
    }

    fn write_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            self.reset();
            return Effect::Reset;
        }
        if value & status::FAILED != 0 {
            self.status |= status::FAILED;
            return Effect::None;
        }
        let kept = self.status & !status::NEEDS_RESET;
        if kept & !value != 0 {
            return Effect::Refused;
        }
        let was_live = self.is_live();
        let order = [
            (status::ACKNOWLEDGE, 0),
            (status::DRIVER, status::ACKNOWLEDGE),
            (status::FEATURES_OK, status::DRIVER),
            (status::DRIVER_OK, status::FEATURES_OK),
        ];
        for (bit, before) in order {
            if value & !self.status & bit == 0 {
                continue;
            }
            if self.status & before != before {
                return Effect::Refused;
            }
            // Section 2.2.2: without the agreement the bit stays clear, which tells the driver.
            if bit == status::FEATURES_OK && (self.agreed & !self.offered != 0 || self.agreed & VERSION_1 == 0) {
                return Effect::Refused;
            }
            self.status |= bit;
        }
        if !was_live && self.is_live() {
            Effect::Activate
        } else {
            Effect::None
        }
    }

    fn write_queue(&mut self, at: u64, value: u32, memory: &Memory) -> Effect {
        let may_set_up = self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let event_index = self.agreed & EVENT_INDEX != 0;
        let Some(ring) = self.rings.get_mut(bytes::size(self.queue_select.into())) else {
            return Effect::Refused;
        };
        if at == offset::QUEUE_READY && value == 0 {
            ring.reset();
            return Effect::None;
        }
        if !may_set_up || ring.queue.ready() {
            return Effect::Refused;
        }
        let queue = &mut ring.queue;
        match at {
            offset::QUEUE_SIZE => match u16::try_from(value) {
                Ok(size) if size.is_power_of_two() && size <= queue.max_size() => queue.set_size(size),
                _ => return Effect::Refused,
            },
            offset::QUEUE_READY => {
                queue.set_event_idx(event_index);
                queue.set_ready(value == 1);
                if !queue.is_valid(memory) {
                    queue.set_ready(false);
                    return Effect::Refused;
                }
            }
            _ => return write_address(queue, at, value),
        }
        Effect::None
    }

    fn reset(&mut self) {
        (self.agreed, self.offered_select, self.agreed_select) = (0, 0, 0);
        (self.queue_select, self.status) = (0, 0);
        self.rings.iter_mut().for_each(Ring::reset);
    }
}

fn write_address(queue: &mut virtio_queue::Queue, at: u64, value: u32) -> Effect {
    let (low, high) = if at & 4 == 0 {
        (Some(value), None)
    } else {
        (None, Some(value))
    };
    match at & !4 {
        offset::QUEUE_DESCRIPTORS => queue.set_desc_table_address(low, high),
        offset::QUEUE_DRIVER => queue.set_avail_ring_address(low, high),
        offset::QUEUE_DEVICE => queue.set_used_ring_address(low, high),
        _ => return Effect::Refused,
    }
    Effect::None
}

/// The low or high 32 bits of `value`.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => u32::try_from(value & 0xffff_ffff).expect("masked to 32 bits"),
        1 => u32::try_from(value >> 32).expect("shifted to 32 bits"),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::COMMON_FEATURES, *};
    use crate::virtio::chain::tests::memory;

    fn registers() -> Registers {
        Registers::new(2, COMMON_FEATURES | 1, &[256, 256])
    }

    fn agree(registers: &mut Registers, memory: &Memory, features: u64) {
        for value in [status::ACKNOWLEDGE, 3] {
            assert_eq!(registers.write(offset::STATUS, value, memory), Effect::None);
        }
        for select in [0, 1] {
            registers.write(offset::DRIVER_FEATURES_SELECT, select, memory);
            registers.write(offset::DRIVER_FEATURES, half(features, select), memory);
        }
    }

    fn set_up_queue(registers: &mut Registers, memory: &Memory, index: u32) -> Effect {
        registers.write(offset::QUEUE_SELECT, index, memory);
        registers.write(offset::QUEUE_SIZE, 16, memory);
        registers.write(offset::QUEUE_DESCRIPTORS, 0x1000, memory);
        registers.write(offset::QUEUE_DRIVER, 0x2000, memory);
        registers.write(offset::QUEUE_DEVICE, 0x3000, memory);
        registers.write(offset::QUEUE_READY, 1, memory)
    }

    #[test]
    fn driver_that_follows_the_order_gets_a_live_device() {
        let (mut registers, memory) = (registers(), memory());
        agree(&mut registers, &memory, VERSION_1 | EVENT_INDEX);
        assert_eq!(registers.write(offset::STATUS, 11, &memory), Effect::None);
        assert_eq!(set_up_queue(&mut registers, &memory, 1), Effect::None);
        assert_eq!(registers.read(offset::QUEUE_READY), 1);
        assert!(!registers.is_live());
        assert_eq!(registers.write(offset::STATUS, 15, &memory), Effect::Activate);
        assert!(registers.is_live());
        assert_eq!(registers.write(offset::STATUS, 0, &memory), Effect::Reset);
        assert_eq!(
            (registers.read(offset::STATUS), registers.read(offset::QUEUE_READY)),
            (0, 0)
        );
    }

    #[test]
    fn features_that_were_not_offered_are_not_agreed_on() {
        for features in [VERSION_1 | 2, 1] {
            let (mut registers, memory) = (registers(), memory());
            agree(&mut registers, &memory, features);
            assert_eq!(registers.write(offset::STATUS, 11, &memory), Effect::Refused);
            assert_eq!(registers.read(offset::STATUS), 3);
        }
    }

    #[test]
    fn skipped_or_cleared_status_bits_are_refused() {
        let (mut registers, memory) = (registers(), memory());
        assert_eq!(
            registers.write(offset::STATUS, status::DRIVER, &memory),
            Effect::Refused
        );
        registers.write(offset::STATUS, 1, &memory);
        registers.write(offset::STATUS, 3, &memory);
        assert_eq!(registers.write(offset::STATUS, 1, &memory), Effect::Refused);
        assert_eq!(registers.write(offset::STATUS, 7, &memory), Effect::Refused);
    }

    #[test]
    fn queues_are_set_up_neither_early_nor_late_nor_outside_memory() {
        let (mut registers, memory) = (registers(), memory());
        assert_eq!(set_up_queue(&mut registers, &memory, 0), Effect::Refused);
        agree(&mut registers, &memory, VERSION_1);
        registers.write(offset::STATUS, 11, &memory);
        assert_eq!(set_up_queue(&mut registers, &memory, 2), Effect::Refused);
        registers.write(offset::QUEUE_SELECT, 0, &memory);
        for size in [0, 3, 512, u32::MAX] {
            assert_eq!(
                registers.write(offset::QUEUE_SIZE, size, &memory),
                Effect::Refused,
                "{size}"
            );
        }
        registers.write(offset::QUEUE_DESCRIPTORS + 4, 1, &memory);
        assert_eq!(set_up_queue(&mut registers, &memory, 0), Effect::Refused);
        registers.write(offset::QUEUE_DESCRIPTORS + 4, 0, &memory);
        assert_eq!(set_up_queue(&mut registers, &memory, 0), Effect::None);
        assert_eq!(registers.write(offset::QUEUE_SIZE, 32, &memory), Effect::Refused);
        registers.write(offset::STATUS, 15, &memory);
        assert_eq!(set_up_queue(&mut registers, &memory, 1), Effect::Refused);
    }

    #[test]
    fn failed_device_is_not_live_until_reset() {
        let (mut registers, memory) = (registers(), memory());
        agree(&mut registers, &memory, VERSION_1);
        registers.write(offset::STATUS, 11, &memory);
        registers.write(offset::STATUS, 15, &memory);
        assert!(registers.fail());
        assert!(!registers.fail());
        assert!(!registers.is_live());
        assert_eq!(registers.write(offset::STATUS, 15, &memory), Effect::None);
        assert!(!registers.is_live());
    }

    proptest! {
        #[test]
        fn any_writes_keep_the_order_of_the_states(writes in prop::collection::vec((0u64..0x100, any::<u32>()), 0..200)) {
            let (mut registers, memory) = (registers(), memory());
            for (at, value) in writes {
                let value = if at == offset::STATUS { value & 0xff } else { value };
                registers.write(at & !3, value, &memory);
                let _ = registers.read(at & !3);
                let bits = registers.read(offset::STATUS);
                prop_assert!(bits & status::DRIVER_OK == 0 || bits & status::FEATURES_OK != 0);
                prop_assert!(bits & status::FEATURES_OK == 0 || registers.features() & !(COMMON_FEATURES | 1) == 0);
                for ring in &registers.rings {
                    prop_assert!(!ring.queue.ready() || ring.queue.is_valid(&memory));
                }
            }
        }
    }
}
