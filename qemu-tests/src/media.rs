//! Variants of a finished image, for a scenario's own settings.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image::{Built, iso, iso_read};
use node_api::image::FarmMedia;

use crate::config::Boot;

/// Makes at `out` a copy of the ISO `source` whose kernel gets `arguments` after those that it has.
///
/// # Errors
/// If the image cannot be read, or the copy cannot be made.
pub fn iso_with_arguments(source: &Path, arguments: &[&str], out: &Path) -> Result<()> {
    let built = iso_read::built(source)?;
    iso::write(
        &Built {
            command_line: extended(&built.command_line, arguments),
            ..built
        },
        out,
    )
}

/// Takes kernel and initial root out of the ISO `source`, into `directory`, to be booted without firmware and boot
/// loader, with a farm's media if there are any.
///
/// # Errors
/// If the image cannot be read, the files cannot be written, or the media do not fit.
pub fn boot_directly(source: &Path, arguments: &[&str], media: Option<&FarmMedia>, directory: &Path) -> Result<Boot> {
    let mut built = iso_read::built(source)?;
    let slot = match media {
        Some(media) => farm_media::slot(media)?,
        None => farm_media::empty_slot(),
    };
    // The boot loader aligns each initramfs to four bytes, as the kernel wants it.
    built.initramfs.resize(built.initramfs.len().next_multiple_of(4), 0);
    built.initramfs.extend(slot);
    let (kernel, initramfs) = (directory.join("vmlinuz"), directory.join("initramfs.img"));
    for (path, bytes) in [(&kernel, &built.kernel), (&initramfs, &built.initramfs)] {
        fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(Boot::Direct {
        kernel,
        initramfs,
        command_line: extended(&built.command_line, arguments),
    })
}

fn extended(command_line: &str, arguments: &[&str]) -> String {
    arguments
        .iter()
        .fold(command_line.to_owned(), |line, argument| line + " " + argument)
}
