//! Virtio devices over memory-mapped registers, version 1.2 of the specification.

pub mod block;
pub mod chain;
pub mod net;
pub mod registers;
pub mod rng;
pub mod slot;
pub mod vsock;

/// Feature bit: the device follows version 1 or later (section 6).
pub const VERSION_1: u64 = 1 << 32;
/// Feature bit: descriptors may lie in a table of their own (section 2.7.5.3).
pub const INDIRECT: u64 = 1 << 28;
/// Feature bit: notifications are suppressed by index (section 2.7.7).
pub const EVENT_INDEX: u64 = 1 << 29;
/// What every device here offers.
pub const COMMON_FEATURES: u64 = VERSION_1 | INDIRECT | EVENT_INDEX;
