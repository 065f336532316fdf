//! Virtio devices over memory-mapped registers, version 1.2 of the specification.

pub mod block;
pub mod chain;
pub mod net;
pub mod registers;
pub mod rng;
pub mod slot;
pub mod vsock;

use virtio_bindings::{
    virtio_config::VIRTIO_F_VERSION_1,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

/// Feature bit: the device follows version 1 or later (section 6).
pub const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
/// Feature bit: descriptors may lie in a table of their own (section 2.7.5.3).
pub const INDIRECT: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;
/// Feature bit: notifications are suppressed by index (section 2.7.7).
pub const EVENT_INDEX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
/// What every device here offers.
pub const COMMON_FEATURES: u64 = VERSION_1 | INDIRECT | EVENT_INDEX;
