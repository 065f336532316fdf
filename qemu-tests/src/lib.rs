//! Whole machines in QEMU, for the scenarios in `tests/`, for benches and for the demo.
//!
//! A [`Config`] says what a machine is made of; [`Machine::start`] runs it. What happens inside is seen on its
//! [`Console`]; from outside it is changed through [`Qmp`], its disks and its network. Every wait ends by an event, by
//! the machine's death, or at a deadline.
//!
//! ```text
//! Config ── arguments ──▶ keeper thread ── setpriv ──▶ QEMU ── stdout ──▶ Console ──▶ console.log
//!                                                       └─── socket ────▶ Qmp
//! ```
//!
//! Architecture invariant: nothing reaches into a machine but what reaches a real one: media, cables, power, a serial
//! line. What a real one does not have is a second serial line, to the test image's own agent ([`Faults`]).
#![forbid(unsafe_code)]

mod acceleration;
mod arguments;
mod config;
mod console;
mod emulator;
mod faults;
pub mod grid;
pub mod http;
pub mod journal;
mod keeper;
mod machine;
mod media;
pub mod nbd;
pub mod network;
mod place;
mod ports;
mod qmp;
pub mod workload;

pub use acceleration::Acceleration;
pub use config::{Boot, Bus, Config, Disk, DiskSource, Firmware, Forward, Medium, OnReset, Protocol};
pub use console::{Console, PANIC};
pub use faults::{Faults, Process};
pub use machine::{Cable, Machine};
pub use media::{boot_directly, iso_with_arguments};
pub use place::{demo_image, iso, zos_directory};
pub use ports::{free_tcp_port, free_udp_port};
pub use qmp::Qmp;
