//! Reading files out of an ISO 9660 file system (ECMA-119), as far as our own images need it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::build::Built;
use crate::iso;

const SECTOR: usize = 2048;
/// Sector of the primary volume descriptor.
const DESCRIPTOR: usize = 16;
/// Where the root directory's record is in the descriptor.
const ROOT: usize = 156;
/// Bit of a record's flags that says directory.
const DIRECTORY: u8 = 2;

/// A part of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    start: usize,
    length: usize,
    directory: bool,
}

/// Contents of the file at `path` (such as `/boot/vmlinuz`) in the image `iso`. Case does not matter.
///
/// # Errors
/// If there is no such file, or `iso` is no ISO 9660 image or is cut off.
pub fn file<'a>(iso: &'a [u8], path: &str) -> Result<&'a [u8]> {
    let descriptor = bytes(iso, DESCRIPTOR * SECTOR, SECTOR).context("not an ISO 9660 image")?;
    ensure!(descriptor.starts_with(b"\x01CD001"), "not an ISO 9660 image");
    let mut at = record(&descriptor[ROOT..])?.0;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        ensure!(at.directory, "{path}: not a directory on the way");
        at = find(bytes(iso, at.start, at.length)?, part).with_context(|| format!("find {path} in the image"))?;
    }
    ensure!(!at.directory, "{path} is a directory");
    bytes(iso, at.start, at.length)
}

/// What the ISO at `path` boots.
///
/// # Errors
/// If it cannot be read or is not one of ours.
pub fn built(path: &Path) -> Result<Built> {
    let iso = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let menu = std::str::from_utf8(file(&iso, "/boot/grub/grub.cfg")?).context("the boot loader's menu")?;
    Ok(Built {
        kernel: file(&iso, "/boot/vmlinuz")?.to_vec(),
        initramfs: file(&iso, "/boot/initramfs.img")?.to_vec(),
        command_line: iso::command_line_of(menu)?,
    })
}

fn find(directory: &[u8], wanted: &str) -> Result<Extent> {
    for sector in directory.chunks(SECTOR) {
        let mut rest = sector;
        // A length of zero ends the sector's records.
        while let Some(length) = rest
            .first()
            .map(|length| usize::from(*length))
            .filter(|length| *length > 0)
        {
            let (extent, name) = record(rest)?;
            if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                return Ok(extent);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    bail!("no entry {wanted}")
}

/// A directory record: where its file is, and its name without version.
fn record(bytes: &[u8]) -> Result<(Extent, &[u8])> {
    let header = bytes.get(..33).context("directory record is cut off")?;
    let word =
        |at: usize| -> Result<usize> { Ok(usize::try_from(u32::from_le_bytes(header[at..at + 4].try_into()?))?) };
    let extent = Extent {
        start: word(2)? * SECTOR,
        length: word(10)?,
        directory: header[25] & DIRECTORY != 0,
    };
    let name = bytes
        .get(33..33 + usize::from(header[32]))
        .context("name in a directory is cut off")?;
    let end = name.iter().position(|byte| *byte == b';').unwrap_or(name.len());
    Ok((extent, name[..end].strip_suffix(b".").unwrap_or(&name[..end])))
}

fn bytes(iso: &[u8], start: usize, length: usize) -> Result<&[u8]> {
    start
        .checked_add(length)
        .and_then(|end| iso.get(start..end))
        .context("the image is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(file(b"", "/boot/vmlinuz").is_err());
        let error = file(&vec![0; SECTOR * 20], "/boot/vmlinuz").unwrap_err();
        assert_eq!(error.to_string(), "not an ISO 9660 image");
    }
}
