//! Kernel modules: which one a device wants, in which order they go in, and putting them in.

pub mod alias;
pub mod bytes;
pub mod hotplug;
pub mod load;
pub mod order;
pub mod urgency;

/// The name under which the kernel knows a module: `-` and `_` are the same to it.
#[must_use]
pub fn normal_name(name: &str) -> String {
    name.replace('-', "_")
}
