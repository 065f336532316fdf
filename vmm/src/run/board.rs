//! Where devices are plugged in: each gets its window, its doorbell and its interrupt line.

use std::{fs::File, sync::Arc};

use node_api::vmm::{Disk, Network};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{Failure, host};
use crate::{
    bus::Window,
    end::Ender,
    event_loop::{EventLoop, Interest},
    layout,
    metrics::Metrics,
    virtio::{
        block::Block,
        net::{self, Net},
        registers::offset,
        slot::{Device, Slot},
    },
    vm::Vm,
};

/// Who waits for a doorbell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DoorbellKind {
    /// A thread that does nothing else.
    Blocking,
    /// The event loop.
    Polled,
}

/// Gives each device its window, its doorbell and its interrupt line.
pub(super) struct Board<'a> {
    vm: &'a Vm,
    metrics: &'a Metrics,
    ender: &'a Ender,
    lines: Vec<Arc<EventFd>>,
    windows: Vec<Arc<dyn Window>>,
}

impl<'a> Board<'a> {
    pub(super) fn new(vm: &'a Vm, metrics: &'a Metrics, ender: &'a Ender) -> Self {
        Self {
            vm,
            metrics,
            ender,
            lines: Vec::new(),
            windows: Vec::new(),
        }
    }

    /// Each disk has a thread of its own, which waits for its doorbell.
    pub(super) fn plug_disks(&mut self, disks: &[Disk], files: Vec<File>) -> Result<Vec<Arc<Slot<Block>>>, Failure> {
        let mut slots = Vec::new();
        for (index, (disk, file)) in disks.iter().zip(files).enumerate() {
            let name = format!("block.{index}");
            let block =
                Block::new(file, disk.access, &disk.serial, &name, self.metrics).map_err(host("open a disk"))?;
            slots.push(self.plug(block, &name, DoorbellKind::Blocking)?);
        }
        Ok(slots)
    }

    /// All networks share the event loop.
    pub(super) fn plug_networks(
        &mut self,
        events: &mut EventLoop,
        networks: &[Network],
        taps: Vec<File>,
    ) -> Result<(), Failure> {
        for (index, (network, tap)) in networks.iter().zip(taps).enumerate() {
            let name = format!("net.{index}");
            events
                .registrar()
                .add(&tap, net::TAP, Interest::Changes)
                .map_err(host("wait for a tap queue"))?;
            let device = Net::new(tap, network.mac, &name, self.metrics);
            self.plug_polled(device, &name, events)?;
        }
        Ok(())
    }

    /// Plugs in a device whose doorbell the event loop waits for.
    pub(super) fn plug_polled<D: Device + 'static>(
        &mut self,
        device: D,
        name: &str,
        events: &mut EventLoop,
    ) -> Result<(), Failure> {
        let slot = self.plug(device, name, DoorbellKind::Polled)?;
        events.add_device(slot).map_err(host("wait for a doorbell"))
    }

    fn plug<D: Device + 'static>(
        &mut self,
        device: D,
        name: &str,
        kind: DoorbellKind,
    ) -> Result<Arc<Slot<D>>, Failure> {
        let index = self.windows.len();
        let line = layout::device_line(index);
        let place = crate::bytes::size(u64::from(line - layout::FIRST_DEVICE_LINE));
        if place == self.lines.len() {
            self.lines.push(self.vm.line(line)?);
        }
        let flags = if kind == DoorbellKind::Polled { EFD_NONBLOCK } else { 0 };
        let doorbell = EventFd::new(flags).map_err(host("make a doorbell"))?;
        self.vm
            .doorbell(layout::device_window(index) + offset::QUEUE_NOTIFY, &doorbell)?;
        let line = self.lines[place].clone();
        let memory = self.vm.memory().clone();
        let slot = Arc::new(Slot::new(
            device,
            memory,
            line,
            doorbell,
            self.ender.clone(),
            self.metrics,
            name,
        ));
        self.windows.push(slot.clone());
        Ok(slot)
    }

    /// The windows of all devices, for the bus.
    pub(super) fn into_windows(self) -> Vec<Arc<dyn Window>> {
        self.windows
    }
}
