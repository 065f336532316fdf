//! Where things are in the guest's physical addresses, ports and interrupt lines.

/// Size of the page that every region is aligned to.
pub const PAGE: u64 = 0x1000;
/// PVH start info, module list and memory map: see [`crate::boot`].
pub const START_INFO: u64 = 0x6000;
/// The module list of the start info.
pub const MODULE_LIST: u64 = 0x6100;
/// The memory map of the start info.
pub const MEMORY_MAP: u64 = 0x7000;
/// The kernel's command line, zero-terminated.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// End of the low RAM that the memory map offers (the classical 639 KiB).
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// ACPI tables, in the region that kernels scan for them.
pub const ACPI: u64 = 0xe_0000;
/// Bytes kept for ACPI tables.
pub const ACPI_SIZE: u64 = 0x2_0000;
/// Start of the memory that the kernel is loaded to.
pub const HIGH_RAM: u64 = 0x10_0000;
/// End of the memory below the hole for devices.
pub const HOLE: u64 = 0xc000_0000;
/// First virtio device window; the others follow, [`DEVICE_WINDOW`] each.
pub const DEVICES: u64 = 0xd000_0000;
/// Bytes of address space of one virtio device.
pub const DEVICE_WINDOW: u64 = 0x1000;
/// The I/O interrupt controller.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The local interrupt controllers.
pub const LAPIC: u32 = 0xfee0_0000;
/// One page that KVM needs on Intel processors for the identity map; above it three pages for a task state segment.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM needs on Intel processors.
pub const KVM_TSS: u64 = 0xfffb_d000;
/// End of the hole; memory above [`HOLE`] continues here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// First port of the first serial port, eight in all.
pub const SERIAL_PORT: u16 = 0x3f8;
/// ACPI sleep control register (the guest writes 0x34 here to power off: sleep type 5, enable).
pub const SLEEP_CONTROL_PORT: u16 = 0x600;
/// ACPI sleep status register.
pub const SLEEP_STATUS_PORT: u16 = 0x601;
/// ACPI reset register.
pub const RESET_PORT: u16 = 0x602;
/// Value that resets when written to [`RESET_PORT`].
pub const RESET_VALUE: u8 = 1;
/// Command port of the keyboard controller, of which only the reset command is there.
pub const KEYBOARD_PORT: u16 = 0x64;
/// What [`KEYBOARD_PORT`] reads as. Output that never ends (bit 0) tells a driver at once that no keyboard is there, where
/// silence costs it half a second; a command is always taken (bit 1 clear), so that a reset need not wait.
pub const KEYBOARD_STATUS: u8 = 0xfd;
/// Command that pulses the reset line of a keyboard controller.
pub const KEYBOARD_RESET: u8 = 0xfe;

/// Interrupt line of the serial port.
pub const SERIAL_LINE: u32 = 4;
/// Interrupt line of the generic event device that carries the power button.
pub const EVENT_LINE: u32 = 5;
/// First interrupt line of virtio devices.
pub const FIRST_DEVICE_LINE: u32 = 6;
/// Number of pins of KVM's I/O interrupt controller.
pub const LINES: u32 = 24;

/// The window of virtio device `index`.
#[must_use]
pub fn device_window(index: usize) -> u64 {
    DEVICES + crate::bytes::wide(index) * DEVICE_WINDOW
}

/// The interrupt line of virtio device `index`; devices share lines when there are more of them than lines.
#[must_use]
pub fn device_line(index: usize) -> u32 {
    let lines = LINES - FIRST_DEVICE_LINE;
    FIRST_DEVICE_LINE + u32::try_from(index % crate::bytes::size(lines.into())).expect("less than the number of lines")
}

/// Start and length of the memory regions of a guest with `bytes` of memory: one below the hole and, when it does not
/// fit, one above.
#[must_use]
pub fn regions(bytes: u64) -> Vec<(u64, u64)> {
    if bytes <= HOLE {
        vec![(0, bytes)]
    } else {
        vec![(0, HOLE), (HOLE_END, bytes - HOLE)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_split_around_the_hole_and_none_is_lost() {
        assert_eq!(regions(128 << 20), [(0, 128 << 20)]);
        assert_eq!(regions(3 << 30), [(0, 3 << 30)]);
        assert_eq!(regions((3 << 30) + (1 << 20)), [(0, 3 << 30), (4 << 30, 1 << 20)]);
    }

    #[test]
    fn as_many_devices_as_a_configuration_allows_fit_into_hole_and_lines() {
        let most = 2 * node_api::vmm::MAX_DEVICES + 2;
        assert!(device_window(most) < u64::from(IOAPIC));
        assert!((0..most).all(|index| (FIRST_DEVICE_LINE..LINES).contains(&device_line(index))));
    }
}
