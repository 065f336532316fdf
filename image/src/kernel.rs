//! The ELF kernel inside a bzImage, which a monitor without firmware boots by its PVH entry.
//!
//! Where the compressed kernel lies is said in the setup header (`Documentation/arch/x86/boot.rst` of the kernel,
//! fields `setup_sects`, `header`, `payload_offset` and `payload_length`).

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};

const SETUP_SECTORS: usize = 0x1f1;
const HEADER_MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const SECTOR: usize = 512;

/// Largest unpacked kernel that is believed, in bytes; Debian's are below 80 MiB.
const MAX_KERNEL: usize = 256 << 20;
/// Blocks of LZ4's legacy format unpack to this many bytes, the last one to fewer.
const LZ4_BLOCK: usize = 8 << 20;

/// Unpacks the ELF kernel of `image`.
///
/// # Errors
/// If `image` is no bzImage, or its kernel is packed in a way that is not known or is damaged.
pub fn extract(image: &[u8]) -> Result<Vec<u8>> {
    ensure!(
        image.get(HEADER_MAGIC..HEADER_MAGIC + 4) == Some(b"HdrS"),
        "not a bzImage: no setup header"
    );
    let setup_sectors = match image[SETUP_SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * SECTOR + word(image, PAYLOAD_OFFSET)?;
    let length = word(image, PAYLOAD_LENGTH)?;
    let payload = start
        .checked_add(length)
        .and_then(|end| image.get(start..end))
        .context("bzImage is cut off")?;
    let kernel = unpack(payload)?;
    ensure!(kernel.starts_with(b"\x7fELF"), "the bzImage's payload is no ELF file");
    Ok(kernel)
}

/// A little-endian 32-bit number at `at`.
fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let field = bytes.get(at..at + 4).context("bzImage is cut off")?;
    Ok(usize::try_from(u32::from_le_bytes(field.try_into()?))?)
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    // The kernel's build appends the unpacked size to every format but gzip, which has it already.
    let (body, size) = payload.split_last_chunk::<4>().context("payload is empty")?;
    let size = usize::try_from(u32::from_le_bytes(*size))?;
    ensure!(size <= MAX_KERNEL, "payload claims to unpack to {size} bytes");
    let kernel = match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => unpack_lz4(&body[4..])?,
        [0x1f, 0x8b, ..] => read(flate2::read::GzDecoder::new(payload)).context("unpack gzip")?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            read(zstd::stream::read::Decoder::new(body)?.single_frame()).context("unpack zstd")?
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => read(lzma_rust2::XzReader::new(body, false)).context("unpack xz")?,
        _ => bail!("kernel is packed in an unknown format"),
    };
    ensure!(
        kernel.len() == size,
        "kernel unpacks to {} bytes, {size} expected",
        kernel.len()
    );
    Ok(kernel)
}

fn read(reader: impl Read) -> Result<Vec<u8>> {
    let mut kernel = Vec::new();
    let limit = u64::try_from(MAX_KERNEL)?;
    reader.take(limit).read_to_end(&mut kernel)?;
    Ok(kernel)
}

/// Unpacks LZ4's legacy frame after its magic: blocks, each with its packed length before it.
fn unpack_lz4(mut blocks: &[u8]) -> Result<Vec<u8>> {
    let mut kernel = Vec::new();
    while !blocks.is_empty() {
        let (length, rest) = blocks.split_first_chunk::<4>().context("LZ4 block without length")?;
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (block, rest) = rest.split_at_checked(length).context("LZ4 block is cut off")?;
        kernel.extend(lz4_flex::block::decompress(block, LZ4_BLOCK).context("unpack LZ4")?);
        ensure!(kernel.len() <= MAX_KERNEL, "kernel is larger than {MAX_KERNEL} bytes");
        blocks = rest;
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf() -> Vec<u8> {
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(100_000, 42);
        elf
    }

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * SECTOR + 64];
        image[SETUP_SECTORS] = 2;
        image[HEADER_MAGIC..HEADER_MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&64_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(b"what follows the payload");
        image
    }

    fn with_size(mut packed: Vec<u8>, size: usize) -> Vec<u8> {
        packed.extend_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        packed
    }

    fn lz4() -> Vec<u8> {
        let block = lz4_flex::block::compress(&elf());
        let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
        packed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
        packed.extend_from_slice(&block);
        packed
    }

    #[test]
    fn kernel_is_found_and_unpacked_from_each_format() {
        let size = elf().len();
        let zstd = zstd::encode_all(&elf()[..], 3).unwrap();
        let mut gzip = Vec::new();
        flate2::read::GzEncoder::new(&elf()[..], flate2::Compression::fast())
            .read_to_end(&mut gzip)
            .unwrap();
        for payload in [with_size(lz4(), size), with_size(zstd, size), gzip] {
            assert!(extract(&bz_image(&payload)).unwrap() == elf());
        }
    }

    #[test]
    fn wrong_size_cut_off_and_foreign_files_are_refused() {
        let size = elf().len();
        assert!(extract(&bz_image(&with_size(lz4(), size + 1))).is_err());
        assert!(extract(&bz_image(b"????????")).is_err());
        assert!(extract(b"#!/bin/sh").is_err());
        let image = bz_image(&with_size(lz4(), size));
        assert!(extract(&image[..image.len() - 100]).is_err());
    }
}
