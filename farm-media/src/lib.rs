//! What makes a plain image a farm's own: the farm slot.
//!
//! The ISO carries a file of exactly [`SLOT_BYTES`] that the boot loader hands to the kernel as a second initramfs.
//! It begins with a marker, so that it is found in a finished image without reading its file system, and is
//! overwritten in place:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 110 | newc header of an entry `TRAILER!!!` with a body of 16 bytes |
//! | 110 | 14 | the name, padded to four bytes |
//! | 124 | 16 | `ZOS-FARM-SLOT-01` |
//! | 140 | … | nothing, or a newc archive with the one file [`node_api::image::FARM_MEDIA`] |
//! | … | … | zeros up to [`SLOT_BYTES`] |
//!
//! The kernel takes the marker for the end of an archive, skips its body and the zeros, and goes on with what follows
//! (`init/initramfs.c`), so an empty slot adds nothing and a filled one adds one file.
//!
//! Architecture invariant: nothing here knows how an image is built; a bot that prepares media needs no builder.
#![forbid(unsafe_code)]

mod install;
mod slot;

pub use install::{InstallError, check, install};
pub use slot::{MARKER_BYTES, SLOT_BYTES, SlotError, empty_slot, is_slot, slot};
