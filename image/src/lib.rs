//! What goes into the node's image, and how it is put together.
//!
//! Pure parts decide what an image holds ([`cpio`], [`modules`], [`manifest`], [`oci`]), thin ones read the unpacked
//! Debian packages ([`Sources`]) and write files ([`iso`], [`pxe`], [`demo`]). The same inputs give the same bytes.
//!
//! ```text
//! Debian's kernel ─ modules ─┐
//! Debian's tools ── elf ─────┤
//! our binaries ──────────────┼─ node ── manifest ── cpio, zstd ──┬─ iso (with an empty farm slot)
//! guest kernel ── kernel ────┤                                   └─ pxe
//! guest initramfs ── guest ──┘
//! ```
//!
//! Architecture invariant: this crate is for the builder alone; no program of a node or a bot links it.
#![forbid(unsafe_code)]

pub mod build;
pub mod cpio;
pub mod damage;
pub mod demo;
pub mod drivers;
pub mod elf;
pub mod executables;
pub mod guest;
pub mod iso;
pub mod iso_read;
pub mod kernel;
pub mod manifest;
pub mod modules;
pub mod node;
pub mod oci;
pub mod pxe;
mod sources;
pub mod verify;

pub use build::{Binaries, Built, Flavour, Options, Profile};
pub use sources::{KernelTree, Sources};
