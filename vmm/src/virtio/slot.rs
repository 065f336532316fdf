//! A virtio device in its window: registers, the device behind them, its doorbell and its interrupt.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use vmm_sys_util::eventfd::EventFd;

use super::{
    chain::Ring,
    registers::{Effect, Registers, offset},
};
use crate::{
    Memory,
    bus::Window,
    bytes,
    end::{Ender, Ending},
    lock,
    metrics::{Counter, Metrics},
};

/// Interrupt cause: chains were given back.
const USED: u32 = 1;
/// Interrupt cause: the configuration or the status changed.
const CHANGED: u32 = 2;
/// The event number of a doorbell; a device numbers its own events from 1.
pub const DOORBELL: u32 = 0;

/// The host's side of a device failed in a way that the guest cannot be asked to bear.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HostFailure(pub String);

/// Whether a device has more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It waits for an event.
    Done,
    /// It stopped so that other devices get their turn.
    More,
}

/// What is behind the registers.
pub trait Device: Send {
    /// Device number (section 5).
    fn kind(&self) -> u32;
    /// Offered features.
    fn features(&self) -> u64;
    /// Most chains of each queue.
    fn queue_sizes(&self) -> &'static [u16];
    /// Configuration space.
    fn config(&self) -> &[u8];
    /// The driver is ready, with the agreed `features`. Runs on a processor's thread: no system call but memory's.
    fn activate(&mut self, features: u64);
    /// Back to power-on.
    fn reset(&mut self);
    /// Event `number` of the device's own descriptors happened, whether or not a driver is there.
    fn event(&mut self, number: u32);
    /// When [`Device::event`] has to be called with [`DOORBELL`] even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        None
    }
    /// Works on the queues.
    ///
    /// # Errors
    /// [`HostFailure`] ends the monitor.
    fn process(&mut self, memory: &Memory, rings: &mut [Ring]) -> Result<Work, HostFailure>;
}

struct Core<D> {
    registers: Registers,
    device: D,
}

/// A device in its window.
pub struct Slot<D> {
    core: Mutex<Core<D>>,
    memory: Memory,
    /// Outside the lock, so that a processor that serves an interrupt never waits for a disk.
    causes: AtomicU32,
    line: Arc<EventFd>,
    doorbell: EventFd,
    ender: Ender,
    refused: Counter,
    interrupts: Counter,
}

impl<D: Device> Slot<D> {
    /// Puts `device` behind registers. It interrupts by `line` and is notified by `doorbell`.
    #[must_use]
    pub fn new(
        device: D,
        memory: Memory,
        line: Arc<EventFd>,
        doorbell: EventFd,
        ender: Ender,
        metrics: &Metrics,
        name: &str,
    ) -> Self {
        let registers = Registers::new(device.kind(), device.features(), device.queue_sizes());
        Self {
            core: Mutex::new(Core { registers, device }),
            memory,
            causes: AtomicU32::new(0),
            line,
            doorbell,
            ender,
            refused: metrics.counter(format!("{name}.refused_writes")),
            interrupts: metrics.counter(format!("{name}.interrupts")),
        }
    }

    /// The event that the guest's notifications signal.
    #[must_use]
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Handles event `number` of this device and works on its queues.
    pub fn handle(&self, number: u32) {
        if number == DOORBELL {
            // Zero when a deadline brought us here instead of the guest.
            let _rings = self.doorbell.read();
        }
        let mut guard = lock(&self.core);
        let core = &mut *guard;
        core.device.event(number);
        if !core.registers.is_live() {
            return;
        }
        match core.device.process(&self.memory, &mut core.registers.rings) {
            Ok(Work::Done) => {}
            Ok(Work::More) => self.ring(),
            Err(failure) => self.ender.end(&Ending::HostIo(failure.to_string())),
        }
        let rings = &mut core.registers.rings;
        let mut returned = false;
        for ring in rings.iter_mut() {
            returned |= ring.take_interrupt(&self.memory);
        }
        if returned {
            self.interrupt(USED);
        }
        if rings.iter().any(Ring::is_broken) && core.registers.fail() {
            self.interrupt(CHANGED);
        }
    }

    /// When [`Self::handle`] has to be called with [`DOORBELL`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        lock(&self.core).device.deadline()
    }

    fn interrupt(&self, cause: u32) {
        self.causes.fetch_or(cause, Ordering::SeqCst);
        self.interrupts.increment();
        // The event's count cannot overflow: KVM consumes it at once.
        let _raised = self.line.write(1);
    }

    fn ring(&self) {
        // A doorbell that is full has been rung.
        let _rung = self.doorbell.write(1);
    }

    fn write_register(&self, at: u64, value: u32) {
        let mut guard = lock(&self.core);
        let core = &mut *guard;
        match core.registers.write(at, value, &self.memory) {
            Effect::None => {}
            Effect::Activate => {
                core.device.activate(core.registers.features());
                self.ring();
            }
            Effect::Reset => {
                core.device.reset();
                self.causes.store(0, Ordering::SeqCst);
            }
            Effect::Refused => self.refused.increment(),
        }
    }
}

impl<D: Device> Window for Slot<D> {
    fn read(&self, at: u64, data: &mut [u8]) {
        data.fill(0);
        if at >= offset::CONFIG {
            let core = lock(&self.core);
            let from = core
                .device
                .config()
                .get(bytes::size(at - offset::CONFIG)..)
                .unwrap_or_default();
            let length = from.len().min(data.len());
            data[..length].copy_from_slice(&from[..length]);
            return;
        }
        if data.len() != 4 || !at.is_multiple_of(4) {
            self.refused.increment();
            return;
        }
        let value = match at {
            offset::INTERRUPT_STATUS => self.causes.load(Ordering::SeqCst),
            at => lock(&self.core).registers.read(at),
        };
        data.copy_from_slice(&value.to_le_bytes());
    }

    fn write(&self, at: u64, data: &[u8]) {
        let Ok(value) = <[u8; 4]>::try_from(data) else {
            self.refused.increment();
            return;
        };
        let value = u32::from_le_bytes(value);
        match at {
            offset::QUEUE_NOTIFY => self.ring(),
            offset::INTERRUPT_ACK => drop(self.causes.fetch_and(!value, Ordering::SeqCst)),
            at if at >= offset::CONFIG || !at.is_multiple_of(4) => self.refused.increment(),
            at => self.write_register(at, value),
        }
    }
}
