//! What the guest's processors reach outside memory: a few ports, and the windows of virtio devices.

use std::sync::{Arc, Mutex};

use crate::{acpi, bytes, end::Ending, layout, lock, metrics::Counter, serial::SerialPort};

/// Sleep enable in the ACPI sleep control register; the sleep type is in bits 2 to 4.
const SLEEP_ENABLE: u8 = 1 << 5;
/// What a port or an address without a device reads as.
const NOTHING: u8 = 0xff;

/// A device in a window of guest addresses. Offsets are less than [`layout::DEVICE_WINDOW`].
pub trait Window: Send + Sync {
    /// The guest reads `data.len()` bytes at `offset`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// The guest writes `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// All devices of a guest.
pub struct Bus {
    serial: Mutex<SerialPort>,
    windows: Vec<Arc<dyn Window>>,
    unknown: Counter,
}

impl Bus {
    /// A bus with `serial` and one window for each of `windows`, in order; accesses to nothing count in `unknown`.
    #[must_use]
    pub fn new(serial: SerialPort, windows: Vec<Arc<dyn Window>>, unknown: Counter) -> Self {
        Self {
            serial: Mutex::new(serial),
            windows,
            unknown,
        }
    }

    /// The guest writes `data` to `port`. Some writes end the machine.
    pub fn port_write(&self, port: u16, data: &[u8]) -> Option<Ending> {
        let (Some(first), Some(offset)) = (data.first().copied(), serial_register(port)) else {
            return ending(port, data.first().copied()?);
        };
        // The log takes every byte and the interrupt is an event that cannot be full: there is no error to handle.
        let _written = lock(&self.serial).write(offset, first);
        None
    }

    /// The guest reads `data.len()` bytes from `port`.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(NOTHING);
        let Some(first) = data.first_mut() else { return };
        match (serial_register(port), port) {
            (Some(offset), _) => *first = lock(&self.serial).read(offset),
            (_, layout::KEYBOARD_PORT) => *first = layout::KEYBOARD_STATUS,
            // Nothing is asleep.
            (_, layout::SLEEP_CONTROL_PORT | layout::SLEEP_STATUS_PORT) => *first = 0,
            _ => self.unknown.increment(),
        }
    }

    /// The guest reads `data.len()` bytes at `address`.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(NOTHING);
        match self.window(address) {
            Some((window, offset)) => window.read(offset, data),
            None => self.unknown.increment(),
        }
    }

    /// The guest writes `data` at `address`.
    pub fn write(&self, address: u64, data: &[u8]) {
        match self.window(address) {
            Some((window, offset)) => window.write(offset, data),
            None => self.unknown.increment(),
        }
    }

    fn window(&self, address: u64) -> Option<(&dyn Window, u64)> {
        let distance = address.checked_sub(layout::DEVICES)?;
        let window = self.windows.get(bytes::size(distance / layout::DEVICE_WINDOW))?;
        Some((window.as_ref(), distance % layout::DEVICE_WINDOW))
    }
}

fn serial_register(port: u16) -> Option<u8> {
    u8::try_from(port.checked_sub(layout::SERIAL_PORT)?)
        .ok()
        .filter(|register| *register < 8)
}

/// What writing `value` to `port` ends the machine with.
fn ending(port: u16, value: u8) -> Option<Ending> {
    match (port, value) {
        (layout::RESET_PORT, layout::RESET_VALUE) | (layout::KEYBOARD_PORT, layout::KEYBOARD_RESET) => {
            Some(Ending::Reset)
        }
        (layout::SLEEP_CONTROL_PORT, value) if value & SLEEP_ENABLE != 0 && (value >> 2) & 7 == acpi::SOFT_OFF => {
            Some(Ending::PoweredOff)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::{metrics::Metrics, serial, serial::SerialLog};

    struct Echo;
    impl Window for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset & 0xff).unwrap());
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }

    fn bus(metrics: &Metrics) -> (Bus, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = Arc::new(SerialLog::new(file.reopen().unwrap(), 4096, metrics).unwrap());
        let port = serial::port(log, EventFd::new(0).unwrap());
        (
            Bus::new(port, vec![Arc::new(Echo)], metrics.counter("bus.unknown")),
            file,
        )
    }

    #[test]
    fn power_and_reset_ports_end_the_machine_and_others_do_not() {
        let (bus, _file) = bus(&Metrics::default());
        assert_eq!(
            bus.port_write(layout::SLEEP_CONTROL_PORT, &[0x34]),
            Some(Ending::PoweredOff)
        );
        assert_eq!(bus.port_write(layout::SLEEP_CONTROL_PORT, &[0x14]), None);
        assert_eq!(bus.port_write(layout::RESET_PORT, &[1]), Some(Ending::Reset));
        assert_eq!(bus.port_write(layout::KEYBOARD_PORT, &[0xfe]), Some(Ending::Reset));
        assert_eq!(bus.port_write(0x80, &[0]), None);
    }

    #[test]
    fn keyboard_controller_is_absent_but_takes_its_reset_command_at_once() {
        let (bus, _file) = bus(&Metrics::default());
        let mut status = [0];
        bus.port_read(layout::KEYBOARD_PORT, &mut status);
        assert_eq!(status[0] & 0b11, 0b01);
    }

    #[test]
    fn line_written_to_the_serial_port_is_in_the_log() {
        let (bus, file) = bus(&Metrics::default());
        for byte in b"hello\n" {
            assert_eq!(bus.port_write(layout::SERIAL_PORT, &[*byte]), None);
        }
        assert_eq!(std::fs::read(file.path()).unwrap(), b"hello\n");
    }

    #[test]
    fn addresses_without_a_device_read_as_ones_and_are_counted() {
        let metrics = Metrics::default();
        let (bus, _file) = bus(&metrics);
        let mut data = [0; 4];
        for address in [0, layout::DEVICES - 1, layout::device_window(1), u64::MAX] {
            bus.read(address, &mut data);
            assert_eq!(data, [0xff; 4]);
        }
        bus.read(layout::DEVICES + 7, &mut data);
        assert_eq!((data, metrics.snapshot()["bus.unknown"]), ([7; 4], 4));
    }
}
