//! A virtual processor: its first state by the PVH protocol, and the loop that runs it.

use std::sync::Arc;

use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::{
    bus::Bus,
    end::{Ender, Ending},
    layout,
    metrics::Counter,
    vm::{VmError, step},
};

/// `IA32_MISC_ENABLE`, of which fast strings (bit 0) are on, as firmware would leave it.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: enabled, write-back, as firmware would leave it.
const MTRR_DEFAULT: (u32, u64) = (0x2ff, (1 << 11) | 6);
/// Offset of the local interrupt controller's first pin, which is masked: no legacy controller is connected to it.
const LINT0: usize = 0x350;
/// Bit 16 of a local vector, in the byte that holds it.
const MASKED: (usize, i8) = (2, 1);

/// Sets the state in which the first processor enters the kernel at `entry`: protected mode, flat segments, paging off,
/// `ebx` at the start info.
///
/// # Errors
/// [`VmError`] when KVM refuses.
pub fn prepare_first(vcpu: &VcpuFd, entry: u64) -> Result<(), VmError> {
    let mut system = vcpu.get_sregs().map_err(step("read system registers"))?;
    system.cs = segment(0xb, 0x10);
    let data = segment(0x3, 0x18);
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    system.tr = kvm_segment {
        type_: 0xb,
        present: 1,
        limit: 0x67,
        selector: 0x20,
        ..kvm_segment::default()
    };
    (system.gdt.base, system.gdt.limit) = (0, 0);
    (system.idt.base, system.idt.limit) = (0, 0);
    // Protection on; caches on, as reset leaves them off.
    system.cr0 = 0x11;
    (system.cr3, system.cr4, system.efer) = (0, 0, 0);
    vcpu.set_sregs(&system).map_err(step("set system registers"))?;
    let general = kvm_regs {
        rbx: layout::START_INFO,
        rip: entry,
        rflags: 2,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&general).map_err(step("set registers"))?;
    mask_legacy_pin(vcpu)?;
    prepare(vcpu)
}

/// Sets what every processor has, started by the kernel or not.
///
/// # Errors
/// [`VmError`] when KVM refuses.
pub fn prepare(vcpu: &VcpuFd) -> Result<(), VmError> {
    for (index, data) in [MISC_ENABLE, MTRR_DEFAULT] {
        let entry = kvm_msr_entry {
            index,
            data,
            ..kvm_msr_entry::default()
        };
        let list = Msrs::from_entries(&[entry]).map_err(|_| VmError::Lacks("room for registers"))?;
        // A KVM without this register does without it: the count of registers set is not looked at.
        let _set = vcpu.set_msrs(&list).map_err(step("set model-specific registers"))?;
    }
    Ok(())
}

fn segment(kind: u8, selector: u16) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

fn mask_legacy_pin(vcpu: &VcpuFd) -> Result<(), VmError> {
    let mut state: kvm_lapic_state = vcpu.get_lapic().map_err(step("read the local interrupt controller"))?;
    state.regs[LINT0 + MASKED.0] |= MASKED.1;
    vcpu.set_lapic(&state)
        .map_err(step("set the local interrupt controller"))
}

/// Runs `vcpu` until something ends the monitor.
pub fn run(mut vcpu: VcpuFd, bus: &Arc<Bus>, ender: &Ender, exits: &Counter) -> ! {
    loop {
        if let Some(ending) = turn(&mut vcpu, bus) {
            ender.end(&ending);
        }
        exits.increment();
    }
}

/// Runs the guest until its next exit and handles that.
fn turn(vcpu: &mut VcpuFd, bus: &Bus) -> Option<Ending> {
    let fault = match vcpu.run() {
        Ok(VcpuExit::IoOut(port, data)) => return bus.port_write(port, data),
        Ok(VcpuExit::IoIn(port, data)) => {
            bus.port_read(port, data);
            return None;
        }
        Ok(VcpuExit::MmioRead(address, data)) => {
            bus.read(address, data);
            return None;
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            bus.write(address, data);
            return None;
        }
        Ok(VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => return None,
        Ok(VcpuExit::Shutdown) => "triple fault".to_owned(),
        Ok(VcpuExit::InternalError) => "an instruction that cannot be emulated".to_owned(),
        Ok(VcpuExit::FailEntry(reason, _)) => format!("a state that the processor refuses to enter, {reason:#x}"),
        Ok(VcpuExit::SystemEvent(kind, _)) => format!("system event {kind}"),
        Ok(other) => format!("unexpected exit {other:?}"),
        Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => return None,
        Err(error) => return Some(Ending::Kvm(format!("run a processor: {error}"))),
    };
    let place = vcpu
        .get_regs()
        .map(|registers| format!(" at {:#x}", registers.rip))
        .unwrap_or_default();
    Some(Ending::GuestFault(fault + &place))
}
