//! Typed messages between the programs of one machine.
//!
//! The programs of a node never link each other. What they say to one another is written down here, once:
//!
//! | module | who speaks | over |
//! |---|---|---|
//! | [`init`] | `zos-agent` → `init` | unix socket [`init::SOCKET`], a JSON object a line |
//! | [`vmm`] | `zos-agent` → `vmm` | JSON configuration on an inherited descriptor, control socket, a JSON object a line |
//! | [`guest`] | `zos-agent` → `guest-init` | configuration disk, vsock port [`guest::PORT`], a JSON object a line |
//! | [`image`] | the image builder → `init`, `zos-agent` | files of the image |
//! | [`mountinfo`] | the kernel → `init`, `vmm` | `/proc/self/mountinfo` |
//!
//! Architecture invariant: this crate does no IO and knows no program; it holds shapes, units and bounds only.
#![forbid(unsafe_code)]

pub mod guest;
pub mod image;
pub mod init;
pub mod line;
pub mod manifest;
pub mod milestone;
pub mod mountinfo;
pub mod vmm;
