//! Importing an OCI image layout: verified layers, flattened into one read-only root file system.
//!
//! ```text
//!  layout directory ─ index ─ manifest ─┬─ config ──────────────────────────────► config (JSON, as it is)
//!                    sha256 each        └─ layers ─ decompress ─ tar ─► Tree ───► root (squashfs)
//!                                             diff_id each      whiteouts
//! ```
//!
//! The same layout gives the same root file system, byte for byte. Device nodes and extended attributes are left out and
//! counted: a guest has its own /dev, and squashfs is written without attributes.

mod layer;
mod layout;
mod squash;
mod tree;

pub use layout::Platform;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// Most bytes that an image's layers may unpack to.
const MAX_UNPACKED: u64 = 64 << 30;
/// Most entries of an image's layers.
const MAX_ENTRIES: u64 = 2_000_000;

/// Why a layout cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file of the layout cannot be read.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is no layout.
    #[error("{0} is no OCI image layout: it has no file oci-layout")]
    NoLayout(PathBuf),
    /// The layout does not say what it must.
    #[error("{path}: {reason}")]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Content is not what its digest says.
    #[error("{path}: content is damaged, its digest is {actual}")]
    Digest {
        /// The file.
        path: PathBuf,
        /// Digest of what is there.
        actual: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer}: {reason}")]
    Layer {
        /// Digest of the layer.
        layer: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer is larger than any image may be.
    #[error("the image unpacks to more than {MAX_UNPACKED} bytes or {MAX_ENTRIES} entries")]
    TooLarge,
    /// Space for unpacking, or the root file system, cannot be written.
    #[error("write to {path}")]
    Write {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The root file system cannot be made.
    #[error("make squashfs: {0}")]
    Squash(String),
}

/// An imported image.
#[derive(Debug)]
pub struct Imported {
    /// The root file system, a squashfs, in the file that was named.
    pub root: PathBuf,
    /// Its size in bytes.
    pub root_size: u64,
    /// The image's configuration, JSON.
    pub config: Vec<u8>,
    /// Files, directories and links in it.
    pub entries: usize,
    /// Device nodes that were left out.
    pub devices: u64,
    /// Files whose extended attributes were left out.
    pub attributes: u64,
}

/// Imports the layout in `directory` and writes its root file system to `root`. Scratch space is used beside it.
///
/// # Errors
/// [`ImportError`] names the file or layer.
pub fn import(directory: &Path, platform: Platform, root: &Path) -> Result<Imported, ImportError> {
    let image = layout::open(directory, platform)?;
    let write_error = |source| ImportError::Write {
        path: root.to_owned(),
        source,
    };
    let scratch = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    let scratch = tempfile::tempfile_in(scratch.unwrap_or(Path::new("."))).map_err(write_error)?;
    let mut tree = tree::Tree::default();
    let mut unpacked = layer::Unpacked::new(scratch);
    for layer in &image.layers {
        let changes = unpacked.read(layer)?;
        tree.apply(changes).map_err(|reason| ImportError::Layer {
            layer: layer.digest.clone(),
            reason,
        })?;
    }
    let output = File::create(root).map_err(write_error)?;
    squash::write(&tree, unpacked.content(), &output)?;
    output.sync_all().map_err(write_error)?;
    Ok(Imported {
        root: root.to_owned(),
        root_size: output.metadata().map_err(write_error)?.len(),
        config: image.config,
        entries: tree.len(),
        devices: unpacked.devices,
        attributes: unpacked.attributes,
    })
}

#[cfg(test)]
mod tests;
