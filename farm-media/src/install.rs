//! Writing a farm's media into a finished ISO.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use node_api::image::FarmMedia;

use crate::slot::{SLOT_BYTES, SlotError, is_slot, slot};

/// A sector of an ISO 9660 file system; every file begins on one.
const SECTOR: usize = 2048;
/// Where the primary volume descriptor begins, whose bytes 80 to 83 say how many sectors there are (ECMA-119 8.4.8).
const DESCRIPTOR: u64 = 16 * 2048;
/// Sectors read at a time.
const CHUNK_SECTORS: usize = 512;

/// Why media were not written.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The image cannot be opened for writing.
    #[error("open {}", path.display())]
    Open {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image cannot be searched.
    #[error("read {}", path.display())]
    Read {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image cannot be changed.
    #[error("write farm media to {}", path.display())]
    Write {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is shorter than it says.
    #[error("{} is cut off; copy it again", path.display())]
    CutOff {
        /// The image.
        path: PathBuf,
    },
    /// There is not exactly one slot.
    #[error("{} has {found} farm slots, expected one: is it an image of this project?", path.display())]
    Slots {
        /// The image.
        path: PathBuf,
        /// How many were found.
        found: usize,
    },
    /// The media cannot be put into a slot.
    #[error("make the farm slot")]
    Slot(#[source] SlotError),
}

/// Writes `media` into the farm slot of the ISO at `path`, in place, over what was there.
///
/// # Errors
/// If the image cannot be read or written, has not exactly one slot, or the media do not fit. Nothing is written then,
/// but for an error of the disk itself.
pub fn install(path: &Path, media: &FarmMedia) -> Result<(), InstallError> {
    let bytes = slot(media).map_err(InstallError::Slot)?;
    let (mut image, offset) = open(path)?;
    overwrite(&mut image, offset, &bytes).map_err(|source| InstallError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Whether media can be written into the ISO at `path`, as far as that can be said before.
///
/// # Errors
/// If the image cannot be read or opened for writing, is cut off, or has not exactly one slot.
pub fn check(path: &Path) -> Result<(), InstallError> {
    open(path).map(drop)
}

/// Opens an image and finds its slot.
fn open(path: &Path) -> Result<(File, u64), InstallError> {
    let path = || path.to_owned();
    let opened = OpenOptions::new().read(true).write(true).open(path());
    let mut image = opened.map_err(|source| InstallError::Open { path: path(), source })?;
    let read = |source| InstallError::Read { path: path(), source };
    if is_cut_off(&mut image).map_err(read)? {
        return Err(InstallError::CutOff { path: path() });
    }
    match find(&mut image).map_err(read)?[..] {
        [offset] => Ok((image, offset)),
        ref slots => Err(InstallError::Slots {
            path: path(),
            found: slots.len(),
        }),
    }
}

/// Whether an ISO 9660 file system says that it is longer than the image. Other images are as long as they are.
fn is_cut_off(image: &mut File) -> io::Result<bool> {
    let length = image.seek(SeekFrom::End(0))?;
    let mut descriptor = [0; 84];
    image.seek(SeekFrom::Start(DESCRIPTOR))?;
    let read = read_full(image, &mut descriptor)?;
    image.rewind()?;
    if read < descriptor.len() || !descriptor.starts_with(b"\x01CD001") {
        return Ok(false);
    }
    let [.., a, b, c, d] = descriptor;
    let sectors = u64::from(u32::from_le_bytes([a, b, c, d]));
    let sector_bytes = u64::try_from(SECTOR).map_err(io::Error::other)?;
    Ok(sectors * sector_bytes > length)
}

fn overwrite(image: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    image.seek(SeekFrom::Start(offset))?;
    image.write_all(bytes)?;
    image.sync_all()
}

/// Offsets of all slots that lie wholly inside the image.
fn find(image: &mut File) -> io::Result<Vec<u64>> {
    let length = image.seek(SeekFrom::End(0))?;
    image.rewind()?;
    let slot_bytes = u64::try_from(SLOT_BYTES).map_err(io::Error::other)?;
    let sector_bytes = u64::try_from(SECTOR).map_err(io::Error::other)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; SECTOR * CHUNK_SECTORS];
    let mut offset = 0;
    while offset < length {
        let read = read_full(image, &mut buffer)?;
        if read == 0 {
            break;
        }
        for sector in buffer[..read].chunks(SECTOR) {
            if is_slot(sector) && offset + slot_bytes <= length {
                found.push(offset);
            }
            offset += sector_bytes;
        }
    }
    Ok(found)
}

/// Fills `buffer` unless the file ends first; returns the bytes read.
fn read_full(image: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match image.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::empty_slot;

    fn media() -> FarmMedia {
        FarmMedia {
            genesis: "1".into(),
            peers: vec!["2".into()],
            farm: "3".into(),
            enrolment_seed: "4".into(),
        }
    }

    fn image(parts: &[Vec<u8>]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for part in parts {
            file.write_all(part).unwrap();
        }
        file
    }

    #[test]
    fn media_replace_the_slot_and_nothing_else() {
        let before = vec![7; SECTOR * 700];
        let after = vec![9; SECTOR * 3];
        let file = image(&[before.clone(), empty_slot(), after.clone()]);
        install(file.path(), &media()).unwrap();
        let first = std::fs::read(file.path()).unwrap();
        assert_eq!(first, [before, slot(&media()).unwrap(), after].concat());
        // A second farm's media replace the first one's.
        let other = FarmMedia {
            farm: "5".into(),
            ..media()
        };
        install(file.path(), &other).unwrap();
        assert_ne!(std::fs::read(file.path()).unwrap(), first);
    }

    #[test]
    fn image_without_exactly_one_slot_is_refused_and_left_alone() {
        for (parts, count) in [(vec![vec![0; SECTOR * 40]], 0), (vec![empty_slot(), empty_slot()], 2)] {
            let file = image(&parts);
            let error = install(file.path(), &media()).unwrap_err();
            assert!(
                matches!(error, InstallError::Slots { found, .. } if found == count),
                "{error}"
            );
            assert_eq!(std::fs::read(file.path()).unwrap(), parts.concat());
        }
    }

    #[test]
    fn slot_cut_off_by_the_end_of_the_image_does_not_count() {
        let file = image(&[vec![0; SECTOR], empty_slot()[..SECTOR].to_vec()]);
        assert!(matches!(
            install(file.path(), &media()),
            Err(InstallError::Slots { found: 0, .. })
        ));
    }

    #[test]
    fn image_that_is_shorter_than_it_says_is_refused_and_left_alone() {
        let mut descriptor = vec![0; SECTOR];
        descriptor[..6].copy_from_slice(b"\x01CD001");
        let slot = empty_slot();
        let sectors = u32::try_from(17 + slot.len().div_ceil(SECTOR)).unwrap();
        for (said, whole) in [(sectors, true), (sectors + 1, false)] {
            descriptor[80..84].copy_from_slice(&said.to_le_bytes());
            let file = image(&[vec![0; SECTOR * 16], descriptor.clone(), slot.clone()]);
            let before = std::fs::read(file.path()).unwrap();
            assert_eq!(check(file.path()).is_ok(), whole, "{said}");
            let installed = install(file.path(), &media());
            assert_eq!(installed.is_ok(), whole, "{installed:?}");
            assert_eq!(std::fs::read(file.path()).unwrap() == before, !whole);
        }
    }

    #[test]
    fn missing_image_is_named() {
        let error = install(Path::new("/nonexistent/zos.iso"), &media()).unwrap_err();
        assert_eq!(error.to_string(), "open /nonexistent/zos.iso");
    }
}
