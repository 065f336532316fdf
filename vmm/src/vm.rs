//! The virtual machine in KVM: memory, interrupt controllers and interrupt lines.

use std::{io, sync::Arc};

use kvm_bindings::{
    CpuId, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_MAX_CPUID_ENTRIES, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::{
    Memory, bytes,
    cpuid::{self, DeadlineTimer},
    layout,
};

/// What KVM refused.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// KVM lacks something that the monitor needs.
    #[error("kvm lacks {0}")]
    Lacks(&'static str),
    /// A request to KVM failed.
    #[error("{step}")]
    Kvm {
        /// What was tried.
        step: &'static str,
        /// KVM's answer.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Guest memory cannot be mapped.
    #[error("map guest memory")]
    Memory(#[source] vm_memory::mmap::FromRangesError),
    /// An event descriptor cannot be made.
    #[error("make an event descriptor")]
    Event(#[source] io::Error),
}

/// Names the step in an error of KVM.
pub(crate) fn step(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VmError {
    move |source| VmError::Kvm { step, source }
}

/// A virtual machine without processors.
#[derive(Debug)]
pub struct Vm {
    fd: VmFd,
    memory: Memory,
    supported: CpuId,
    deadline: DeadlineTimer,
}

impl Vm {
    /// A machine with `bytes` of memory.
    ///
    /// # Errors
    /// [`VmError`] that names the step.
    pub fn new(kvm: &Kvm, bytes: u64) -> Result<Self, VmError> {
        for (capability, name) in [
            (Cap::Irqchip, "in-kernel interrupt controllers"),
            (Cap::Irqfd, "irqfd"),
            (Cap::Ioeventfd, "ioeventfd"),
            (Cap::UserMemory, "user memory"),
            (Cap::IrqRouting, "interrupt routing"),
            (Cap::ImmediateExit, "immediate exit"),
        ] {
            if !kvm.check_extension(capability) {
                return Err(VmError::Lacks(name));
            }
        }
        let deadline = if kvm.check_extension(Cap::TscDeadlineTimer) {
            DeadlineTimer::Offered
        } else {
            DeadlineTimer::Absent
        };
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(step("read the supported cpuid"))?;
        let fd = kvm.create_vm().map_err(step("create a virtual machine"))?;
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(step("place the identity map"))?;
        fd.set_tss_address(bytes::size(layout::KVM_TSS))
            .map_err(step("place the task state segment"))?;
        // No interval timer: guests take time from kvm-clock and the deadline timer, and skip its slow calibration.
        fd.create_irq_chip().map_err(step("create the interrupt controllers"))?;
        fd.set_gsi_routing(&routing())
            .map_err(step("route the interrupt lines"))?;
        let memory = map(&fd, bytes)?;
        Ok(Self {
            fd,
            memory,
            supported,
            deadline,
        })
    }

    /// The guest's memory.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// An event that pulses interrupt line `line` each time it is written. Devices on one line share one event, so that
    /// pulses never overlap: KVM would merge them and lose one.
    ///
    /// # Errors
    /// [`VmError`] when KVM refuses.
    pub fn line(&self, line: u32) -> Result<Arc<EventFd>, VmError> {
        let event = EventFd::new(EFD_NONBLOCK).map_err(VmError::Event)?;
        self.fd
            .register_irqfd(&event, line)
            .map_err(step("connect an interrupt line"))?;
        Ok(Arc::new(event))
    }

    /// Lets writes of any size to guest address `address` signal `event` instead of stopping the processor.
    ///
    /// # Errors
    /// [`VmError`] when KVM refuses.
    pub fn doorbell(&self, address: u64, event: &EventFd) -> Result<(), VmError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(step("connect a doorbell"))
    }

    /// Processor `index` of `count`, which knows its place but has no registers set.
    ///
    /// # Errors
    /// [`VmError`] when KVM refuses.
    pub fn vcpu(&self, index: u8, count: u8) -> Result<VcpuFd, VmError> {
        let vcpu = self.fd.create_vcpu(index.into()).map_err(step("create a processor"))?;
        let entries = cpuid::entries(self.supported.as_slice(), index, count, self.deadline);
        let entries = CpuId::from_entries(&entries).map_err(|_| VmError::Lacks("room for cpuid entries"))?;
        vcpu.set_cpuid2(&entries).map_err(step("set cpuid"))?;
        Ok(vcpu)
    }
}

/// All lines lead to the I/O interrupt controller and none to the legacy one, which no guest sets up.
fn routing() -> KvmIrqRouting {
    let entries: Vec<_> = (0..layout::LINES)
        .map(|line| {
            let mut entry = kvm_irq_routing_entry {
                gsi: line,
                type_: KVM_IRQ_ROUTING_IRQCHIP,
                ..kvm_irq_routing_entry::default()
            };
            entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
            entry.u.irqchip.pin = line;
            entry
        })
        .collect();
    KvmIrqRouting::from_entries(&entries).expect("fewer lines than a routing table holds")
}

fn map(fd: &VmFd, bytes: u64) -> Result<Memory, VmError> {
    let ranges: Vec<_> = layout::regions(bytes)
        .into_iter()
        .map(|(start, length)| (GuestAddress(start), bytes::size(length)))
        .collect();
    let memory = Memory::from_ranges(&ranges).map_err(VmError::Memory)?;
    for (slot, region) in (0..).zip(memory.iter()) {
        crate::sys::map_memory(fd, slot, region.start_addr().0, region.len(), region.as_ptr())
            .map_err(step("give the guest its memory"))?;
    }
    Ok(memory)
}
