//! The micro-VM monitor: one process a virtual machine, jailed before the first guest instruction.
//!
//! Everything a guest can reach is in [`bus`] and [`virtio`]; whatever a device reads from guest memory is hostile and
//! leaves through a typed error, never a panic. `docs/vmm.md` has the map of guest addresses, the jail and the threads.

pub mod acpi;
pub mod boot;
pub mod bus;
pub mod bytes;
pub mod config;
pub mod control;
pub mod cpuid;
pub mod descriptors;
pub mod end;
pub mod event_loop;
pub mod jail;
pub mod layout;
pub mod metrics;
pub mod run;
pub mod seccomp;
pub mod serial;
pub mod sys;
pub mod syscalls;
pub mod vcpu;
pub mod virtio;
pub mod vm;

/// Guest memory as the devices see it.
pub type Memory = vm_memory::GuestMemoryMmap<()>;

/// Takes `mutex`; a holder that panicked has already ended the process, so poison cannot be observed.
pub(crate) fn lock<T: ?Sized>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
