//! Whether a finished image is what its manifest says.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use node_api::image::FARM_MEDIA;

use crate::cpio::Tree;
use crate::{executables, iso_read, manifest};

/// Largest unpacked initial root that is believed, in bytes.
const MAX_ARCHIVE: u64 = 2 << 30;

/// What was found in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Paths in its initial root.
    pub paths: usize,
    /// Programs in it.
    pub programs: Vec<String>,
    /// Whether a farm's media are installed; never looked for in a bare initial root.
    pub farm: bool,
    /// What is wrong, a line each that begins with the path; empty for a sound image.
    pub problems: Vec<String>,
}

/// Checks the image at `path`: an ISO, or an initial root as PXE serves it.
///
/// # Errors
/// If it cannot be read far enough to compare it with its manifest.
pub fn image(path: &Path) -> Result<Report> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    examine(&bytes).with_context(|| {
        format!(
            "{} is damaged or no image of ours; make it or copy it again",
            path.display()
        )
    })
}

fn examine(bytes: &[u8]) -> Result<Report> {
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return root(bytes);
    }
    let mut report = root(iso_read::file(bytes, "/boot/initramfs.img")?)?;
    let added = slot_tree(iso_read::file(bytes, "/boot/farm.img")?)?;
    for path in added.nodes().keys() {
        match path.as_str() {
            FARM_MEDIA => report.farm = true,
            "/etc" | "/etc/zos" => {}
            other => report.problems.push(format!(
                "{other}: added by the farm slot, which may hold {FARM_MEDIA} alone"
            )),
        }
    }
    Ok(report)
}

/// Checks an initial root as it is booted.
///
/// # Errors
/// If it is no archive in a zstd frame, or has no sound manifest.
pub fn root(initramfs: &[u8]) -> Result<Report> {
    let tree = unpack(initramfs)?;
    Ok(Report {
        paths: tree.nodes().len(),
        programs: executables::present(&tree).into_iter().map(str::to_owned).collect(),
        farm: false,
        problems: manifest::differences(&tree)?,
    })
}

/// Unpacks an initial root as it is booted.
///
/// # Errors
/// If it is no archive in a zstd frame.
pub fn unpack(initramfs: &[u8]) -> Result<Tree> {
    let mut archive = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(initramfs).context("start zstd")?;
    decoder
        .take(MAX_ARCHIVE)
        .read_to_end(&mut archive)
        .context("unpack the initial root")?;
    Tree::from_cpio(&archive).context("read the initial root")
}

/// What a farm slot adds: the archive after its marker, if any.
fn slot_tree(slot: &[u8]) -> Result<Tree> {
    ensure!(
        slot.len() == farm_media::SLOT_BYTES && farm_media::is_slot(slot),
        "the farm slot is damaged"
    );
    let added = &slot[farm_media::MARKER_BYTES..];
    if added.iter().all(|byte| *byte == 0) {
        return Ok(Tree::new());
    }
    Tree::from_cpio(added).context("read the farm slot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_api::image::FarmMedia;

    #[test]
    fn slot_adds_nothing_or_the_media() {
        assert_eq!(slot_tree(&farm_media::empty_slot()).unwrap(), Tree::new());
        let media = FarmMedia {
            genesis: "1".into(),
            peers: Vec::new(),
            farm: "2".into(),
            enrolment_seed: "3".into(),
        };
        let tree = slot_tree(&farm_media::slot(&media).unwrap()).unwrap();
        assert_eq!(tree.file(FARM_MEDIA).unwrap(), serde_json::to_vec(&media).unwrap());
        assert!(slot_tree(&vec![0; farm_media::SLOT_BYTES]).is_err());
    }
}
