//! What a machine needs to boot from a network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::build::Built;

/// Writes kernel, initial root, an empty farm slot, the command line, and a script for iPXE, into `directory`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(built: &Built, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let command_line = format!("{}\n", built.command_line);
    let script = script(&built.command_line);
    let files: [(&str, &[u8]); 5] = [
        ("vmlinuz", &built.kernel),
        ("initramfs.img", &built.initramfs),
        ("farm.img", &farm_media::empty_slot()),
        ("cmdline", command_line.as_bytes()),
        ("zos.ipxe", script.as_bytes()),
    ];
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn script(command_line: &str) -> String {
    format!(
        "#!ipxe\nkernel vmlinuz initrd=initramfs.img initrd=farm.img {command_line}\ninitrd initramfs.img\n\
         initrd farm.img\nboot\n"
    )
}
