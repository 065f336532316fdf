//! The bytes of a farm slot.

use node_api::image::{FARM_MEDIA, FarmMedia};

/// Size of the slot in bytes. Fixed for good: media are changed in place.
pub const SLOT_BYTES: usize = 64 * 1024;

/// Size of the marker at the slot's beginning; what it adds to the image follows.
pub const MARKER_BYTES: usize = 140;

/// Names the slot's format; at offset 124, where the marker's body begins.
const MAGIC: &[u8; 16] = b"ZOS-FARM-SLOT-01";
/// Mode of a regular file. The kernel reads an entry's name only if it is regular or has no body.
const REGULAR: u32 = 0o100_000;
/// Only the agent, which runs as root, reads the enrolment key.
const MEDIA_MODE: u32 = REGULAR | 0o400;
/// Name of the entry that ends a newc archive.
const TRAILER: &str = "TRAILER!!!";

/// Why a slot cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The media have too many peers for the slot.
    #[error("farm media need {needed} bytes, the slot has {SLOT_BYTES}")]
    TooLong {
        /// Bytes that the filled slot would take.
        needed: usize,
    },
    /// The media cannot be written as JSON.
    #[error("encode farm media")]
    Encode(#[source] serde_json::Error),
}

/// A slot that adds nothing to the image.
#[must_use]
pub fn empty_slot() -> Vec<u8> {
    let mut bytes = marker();
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

/// A slot that adds [`FARM_MEDIA`] to the image. It may also be served by PXE, as one more initramfs.
///
/// # Errors
/// If the media do not fit into [`SLOT_BYTES`].
pub fn slot(media: &FarmMedia) -> Result<Vec<u8>, SlotError> {
    let body = serde_json::to_vec(media).map_err(SlotError::Encode)?;
    let mut bytes = marker();
    entry(&mut bytes, FARM_MEDIA.trim_start_matches('/'), MEDIA_MODE, &body);
    entry(&mut bytes, TRAILER, 0, &[]);
    if bytes.len() > SLOT_BYTES {
        return Err(SlotError::TooLong { needed: bytes.len() });
    }
    bytes.resize(SLOT_BYTES, 0);
    Ok(bytes)
}

/// Whether `bytes` begin with a slot's marker.
#[must_use]
pub fn is_slot(bytes: &[u8]) -> bool {
    bytes.starts_with(&marker())
}

fn marker() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    entry(&mut bytes, TRAILER, REGULAR, MAGIC);
    bytes
}

/// Appends one newc entry (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).
fn entry(out: &mut Vec<u8>, name: &str, mode: u32, body: &[u8]) {
    let namesize = name.len() + 1;
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let header = format!(
        "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{namesize:08X}{:08X}",
        0,
        0,
        0,
        1,
        0,
        body.len(),
        0,
        0,
        0,
        0,
        0
    );
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(body);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn media() -> FarmMedia {
        FarmMedia {
            genesis: "11".repeat(32),
            peers: vec![format!("{}@10.0.2.2:7000", "22".repeat(32))],
            farm: "33".repeat(32),
            enrolment_seed: "44".repeat(32),
        }
    }

    #[test]
    fn marker_has_its_magic_where_the_table_says() {
        let slot = empty_slot();
        assert_eq!(slot.len(), SLOT_BYTES);
        assert_eq!(&slot[124..MARKER_BYTES], MAGIC);
        assert!(slot[140..].iter().all(|byte| *byte == 0));
        assert!(is_slot(&slot));
    }

    #[test]
    fn filled_slot_keeps_size_and_marker_and_holds_the_media() {
        let slot = slot(&media()).unwrap();
        assert_eq!(slot.len(), SLOT_BYTES);
        assert!(is_slot(&slot));
        let json = serde_json::to_vec(&media()).unwrap();
        assert!(slot.windows(json.len()).any(|window| window == json));
    }

    #[test]
    fn media_that_do_not_fit_are_refused() {
        let mut long = media();
        long.peers = vec!["x".repeat(100); 1000];
        assert!(matches!(slot(&long), Err(SlotError::TooLong { needed }) if needed > SLOT_BYTES));
    }
}
