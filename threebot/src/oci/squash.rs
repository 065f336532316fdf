//! Writing a tree as a squashfs.

use std::{
    fs::File,
    io::{self, BufWriter, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use backhand::{
    BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Gzip},
};

use super::{
    ImportError,
    tree::{Content, Kind, Meta, Tree},
};

/// Bytes compressed at a time. Larger blocks pack better and cost more memory and time for a read of a few bytes.
const BLOCK: u32 = 128 * 1024;
/// zlib's level: levels above cost several times the time for about a hundredth of the size.
const LEVEL: u32 = 6;
/// zlib's window is 2^15 bytes, all that the kernel's decoder takes.
const WINDOW: u8 = 15;

/// Part of the scratch file.
struct Slice<'a> {
    file: &'a File,
    content: Content,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.content.length)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.content.offset)?;
        let advanced = u64::try_from(read).map_err(io::Error::other)?;
        self.content.offset += advanced;
        self.content.length -= advanced;
        Ok(read)
    }
}

/// Writes the squashfs of a tree. Equal trees with equal contents give equal bytes: nothing of the machine or the time of
/// writing goes in.
pub(super) fn write(tree: &Tree, content: &File, output: &File) -> Result<(), ImportError> {
    let failed = |error: BackhandError| ImportError::Squash(error.to_string());
    let mut writer = FilesystemWriter::default();
    let options = CompressionOptions::Gzip(Gzip {
        compression_level: LEVEL,
        window_size: WINDOW,
        strategies: 0,
    });
    let compressor = FilesystemCompressor::new(Compressor::Gzip, Some(options)).map_err(failed)?;
    writer.set_compressor(compressor);
    // The options are for the compressor alone; the kernel's decoder needs none.
    writer.set_emit_compression_options(false);
    writer.set_block_size(BLOCK);
    writer.set_time(0);
    let root = tree.root.unwrap_or(Meta {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: 0,
    });
    writer.set_root_mode(root.mode);
    writer.set_root_uid(root.uid);
    writer.set_root_gid(root.gid);
    for (path, (meta, kind)) in &tree.entries {
        push(&mut writer, path, meta, kind, content).map_err(failed)?;
    }
    let mut buffered = BufWriter::new(output);
    writer.write(&mut buffered).map_err(failed)?;
    buffered
        .into_inner()
        .map(drop)
        .map_err(|error| ImportError::Squash(error.to_string()))
}

fn push<'c>(
    writer: &mut FilesystemWriter<'_, '_, 'c>,
    path: &Path,
    meta: &Meta,
    kind: &Kind,
    file: &'c File,
) -> Result<(), BackhandError> {
    let header = NodeHeader::new(meta.mode, meta.uid, meta.gid, meta.mtime);
    match kind {
        Kind::Directory => writer.push_dir(path, header),
        Kind::File(content) => {
            let content = *content;
            writer.push_file(Slice { file, content }, path, header)
        }
        Kind::Symlink(target) => writer.push_symlink(target, path, header),
        Kind::Fifo => writer.push_fifo(path, header),
        // A finished tree has none: each became the file that it names.
        Kind::Hardlink(_) => Ok(()),
    }
}
