//! The guest kernel: unpacked once into memory that nobody can change, shared by all monitors.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::config_disk::sealed;

/// Largest kernel in bytes.
pub const MAX_KERNEL: u64 = 256 << 20;

/// Why there is no guest kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file of the image cannot be read or unpacked.
    #[error("unpack the guest kernel {}", .0.display())]
    Unpack(PathBuf, #[source] io::Error),
    /// It is longer than [`MAX_KERNEL`].
    #[error("the guest kernel {} is longer than {MAX_KERNEL} bytes", .0.display())]
    TooLong(PathBuf),
    /// There is no memory for it.
    #[error("keep the guest kernel in memory")]
    Memory(#[source] io::Error),
}

/// Unpacks a zstd-compressed kernel.
///
/// # Errors
/// [`KernelError`].
pub fn unpack(path: &Path) -> Result<OwnedFd, KernelError> {
    let failed = |source| KernelError::Unpack(path.to_owned(), source);
    let file = File::open(path).map_err(failed)?;
    let decoder = ruzstd::decoding::StreamingDecoder::new(io::BufReader::new(file));
    let decoder = decoder.map_err(|error| failed(io::Error::other(error.to_string())))?;
    let mut kernel = Vec::new();
    decoder.take(MAX_KERNEL + 1).read_to_end(&mut kernel).map_err(failed)?;
    if u64::try_from(kernel.len()).unwrap_or(u64::MAX) > MAX_KERNEL {
        return Err(KernelError::TooLong(path.to_owned()));
    }
    sealed("zos-guest-kernel", &kernel).map_err(KernelError::Memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Seek;

    #[test]
    fn compressed_kernel_is_unpacked_and_garbage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vmlinux.zst");
        let kernel: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = ruzstd::encoding::compress_to_vec(&kernel[..], ruzstd::encoding::CompressionLevel::Fastest);
        std::fs::write(&path, &packed).unwrap();
        let mut file = File::from(unpack(&path).unwrap());
        let mut found = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut found).unwrap();
        assert!(found == kernel);
        std::fs::write(&path, &packed[..packed.len() / 2]).unwrap();
        assert!(matches!(unpack(&path), Err(KernelError::Unpack(..))));
        std::fs::write(&path, b"no kernel").unwrap();
        assert!(matches!(unpack(&path), Err(KernelError::Unpack(..))));
    }
}
