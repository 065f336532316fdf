//! Unpacking layers: what each changes, and the content of its files in one scratch file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use super::{
    ImportError, MAX_ENTRIES, MAX_UNPACKED,
    layout::{Compression, Hashing, Layer, verify},
    tree::{Change, Content, Kind, Meta},
};

/// What was unpacked so far.
pub(super) struct Unpacked {
    scratch: File,
    length: u64,
    entries: u64,
    pub(super) devices: u64,
    pub(super) attributes: u64,
}

impl Unpacked {
    pub(super) fn new(scratch: File) -> Self {
        Self {
            scratch,
            length: 0,
            entries: 0,
            devices: 0,
            attributes: 0,
        }
    }

    /// The scratch file that [`Content`] points into.
    pub(super) fn content(&self) -> &File {
        &self.scratch
    }

    /// Reads one layer: its file is verified first, the tar inside by its own digest at the end.
    pub(super) fn read(&mut self, layer: &Layer) -> Result<Vec<Change>, ImportError> {
        verify(layer)?;
        let bad = |error: io::Error| ImportError::Layer {
            layer: layer.digest.clone(),
            reason: error.to_string(),
        };
        let file = io::BufReader::new(File::open(&layer.path).map_err(bad)?);
        let plain: Box<dyn Read> = match layer.compression {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(bad)?),
        };
        // One byte more than is allowed shows that there is too much.
        let mut hashing = Hashing::new(plain.take(MAX_UNPACKED + 1));
        let changes = self.read_tar(&mut hashing, layer)?;
        io::copy(&mut hashing, &mut io::sink()).map_err(bad)?;
        let actual = hashing.digest();
        if actual != layer.diff_id {
            let path = layer.path.clone();
            return Err(ImportError::Digest { path, actual });
        }
        Ok(changes)
    }

    fn read_tar(&mut self, tar: &mut dyn Read, layer: &Layer) -> Result<Vec<Change>, ImportError> {
        let bad = |reason: String| ImportError::Layer {
            layer: layer.digest.clone(),
            reason,
        };
        let io_bad = |error: io::Error| bad(error.to_string());
        let mut archive = tar::Archive::new(tar);
        let mut changes = Vec::new();
        for entry in archive.entries().map_err(io_bad)? {
            let mut entry = entry.map_err(io_bad)?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ImportError::TooLarge);
            }
            let name = entry.path_bytes().into_owned();
            let path = inside(&name).ok_or_else(|| bad(format!("path {:?} leads out of the image", lossy(&name))))?;
            let meta = meta(entry.header()).map_err(io_bad)?;
            if has_attributes(&mut entry).map_err(io_bad)? {
                self.attributes += 1;
            }
            let kind = match self.kind(&mut entry).map_err(|error| match error {
                KindError::TooLarge => ImportError::TooLarge,
                KindError::Io(error) => bad(format!("{}: {error}", path.display())),
                KindError::Unknown => bad(format!("{}: an entry of this type is not known", path.display())),
                KindError::Link => bad(format!("{}: its link leads out of the image", path.display())),
            })? {
                Some(kind) => kind,
                None => continue,
            };
            changes.push(Change { path, meta, kind });
        }
        Ok(changes)
    }

    /// What an entry is; `None` for what is left out.
    fn kind<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<Option<Kind>, KindError> {
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            return Ok(Some(Kind::Directory));
        }
        if kind.is_symlink() {
            let target = entry.link_name_bytes().ok_or(KindError::Unknown)?;
            return Ok(Some(Kind::Symlink(PathBuf::from(std::ffi::OsStr::from_bytes(&target)))));
        }
        if kind.is_hard_link() {
            let target = entry.link_name_bytes().ok_or(KindError::Unknown)?;
            return Ok(Some(Kind::Hardlink(inside(&target).ok_or(KindError::Link)?)));
        }
        if kind.is_fifo() {
            return Ok(Some(Kind::Fifo));
        }
        if kind.is_character_special() || kind.is_block_special() {
            self.devices += 1;
            return Ok(None);
        }
        if kind.is_pax_global_extensions() {
            return Ok(None);
        }
        if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
            return self.spool(entry).map(|content| Some(Kind::File(content)));
        }
        Err(KindError::Unknown)
    }

    fn spool(&mut self, from: &mut dyn Read) -> Result<Content, KindError> {
        let offset = self.length;
        self.scratch.seek(SeekFrom::Start(offset)).map_err(KindError::Io)?;
        let left = MAX_UNPACKED - self.length;
        let length = io::copy(&mut from.take(left + 1), &mut self.scratch).map_err(KindError::Io)?;
        self.scratch.flush().map_err(KindError::Io)?;
        if length > left {
            return Err(KindError::TooLarge);
        }
        self.length += length;
        Ok(Content { offset, length })
    }
}

enum KindError {
    TooLarge,
    Unknown,
    Link,
    Io(io::Error),
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

/// A path below the image's root, without `.`; `None` if it leads out.
fn inside(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

fn meta(header: &tar::Header) -> io::Result<Meta> {
    let small = |value: u64| u32::try_from(value).map_err(io::Error::other);
    let mode = u16::try_from(header.mode()? & 0o7777).map_err(io::Error::other)?;
    Ok(Meta {
        mode,
        uid: small(header.uid()?)?,
        gid: small(header.gid()?)?,
        // What lies before 1970 or after 2106 is not worth refusing an image for.
        mtime: u32::try_from(header.mtime()?).unwrap_or(0),
    })
}

fn has_attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<bool> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(false);
    };
    for extension in extensions {
        if extension?.key_bytes().starts_with(b"SCHILY.xattr.") {
            return Ok(true);
        }
    }
    Ok(false)
}
