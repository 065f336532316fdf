//! Filling an empty volume with what the image has at its place, safe against a cut of power at any moment.
//!
//! The copy is made in a directory [`PARTIAL`] of the volume, which becomes [`COMPLETE`] once it is on the disk. Then its
//! entries are moved up, one by one, and the directory is removed. Whoever finds [`COMPLETE`] goes on moving; whoever finds
//! [`PARTIAL`] alone begins anew.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink},
    path::Path,
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Where the copy is made.
pub const PARTIAL: &str = ".zos-fill.partial";
/// Where the copy is when it is complete.
pub const COMPLETE: &str = ".zos-fill";
/// What a new ext4 has.
const LOST_AND_FOUND: &str = "lost+found";
/// Deepest directory that is copied.
const MOST_DEPTH: usize = 128;

/// What is to be done with a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// It has data: nothing.
    Nothing,
    /// It is empty, or was left in the midst of a copy: copy.
    Copy,
    /// The copy is complete: move it up.
    MoveUp,
}

/// Decides by the names at the top of the volume.
#[must_use]
pub fn decide<'a>(names: impl IntoIterator<Item = &'a str>) -> Fill {
    let mut fill = Fill::Copy;
    for name in names {
        match name {
            COMPLETE => return Fill::MoveUp,
            PARTIAL | LOST_AND_FOUND => {}
            _ => fill = Fill::Nothing,
        }
    }
    fill
}

/// Fills the volume mounted at `volume` from `source` if it is empty. A source that does not exist fills nothing.
///
/// # Errors
/// The first thing that cannot be copied. Whoever tries again begins where it matters.
pub fn fill(source: &Path, volume: &Path) -> io::Result<()> {
    let names: Vec<String> = fs::read_dir(volume)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    let (partial, complete) = (volume.join(PARTIAL), volume.join(COMPLETE));
    match decide(names.iter().map(String::as_str)) {
        Fill::Nothing => return Ok(()),
        Fill::Copy => {
            if partial.exists() {
                fs::remove_dir_all(&partial)?;
            }
            if !source.is_dir() {
                return Ok(());
            }
            copy(source, &partial, 0)?;
            sync(volume)?;
            fs::rename(&partial, &complete)?;
            sync(volume)?;
        }
        Fill::MoveUp => {}
    }
    for entry in fs::read_dir(&complete)? {
        let entry = entry?;
        fs::rename(entry.path(), volume.join(entry.file_name()))?;
    }
    take_over(&complete, volume)?;
    fs::remove_dir(&complete)?;
    sync(volume)
}

fn sync(volume: &Path) -> io::Result<()> {
    rustix::fs::syncfs(fs::File::open(volume)?).map_err(io::Error::from)
}

/// Gives `to` the owner and the mode of `from`.
fn take_over(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    // After the owner, since a change of owner takes away the set-user-id bits.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

fn copy(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        if depth > MOST_DEPTH {
            return Err(io::Error::other("directories are nested too deeply"));
        }
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), depth + 1)?;
        }
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    } else if kind.is_socket() {
        // A socket is of use to the process alone that made it.
        return Ok(());
    } else {
        let (kind, device) = if kind.is_fifo() {
            (FileType::Fifo, 0)
        } else if kind.is_char_device() {
            (FileType::CharacterDevice, metadata.rdev())
        } else {
            (FileType::BlockDevice, metadata.rdev())
        };
        mknodat(CWD, to, kind, Mode::from_raw_mode(0o600), device)?;
    }
    take_over(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_volume_is_filled() {
        assert_eq!(decide([]), Fill::Copy);
        assert_eq!(decide(["lost+found"]), Fill::Copy);
        assert_eq!(decide(["lost+found", PARTIAL]), Fill::Copy);
        assert_eq!(decide(["data", "lost+found"]), Fill::Nothing);
        assert_eq!(decide(["data", COMPLETE]), Fill::MoveUp);
    }

    fn source() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "text").unwrap();
        fs::set_permissions(dir.path().join("sub/file"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("sub/file", dir.path().join("link")).unwrap();
        dir
    }

    fn check_filled(volume: &Path) {
        assert_eq!(fs::read_to_string(volume.join("link")).unwrap(), "text");
        assert_eq!(fs::metadata(volume.join("sub/file")).unwrap().mode() & 0o7777, 0o4750);
        assert_eq!(fs::metadata(volume).unwrap().mode() & 0o7777, 0o1777);
        assert!(!volume.join(COMPLETE).exists() && !volume.join(PARTIAL).exists());
    }

    #[test]
    fn contents_modes_and_links_are_copied_once() {
        let (source, volume) = (source(), tempfile::tempdir().unwrap());
        fs::create_dir(volume.path().join("lost+found")).unwrap();
        fill(source.path(), volume.path()).unwrap();
        check_filled(volume.path());
        fs::write(volume.path().join("sub/file"), "changed").unwrap();
        fs::remove_file(volume.path().join("link")).unwrap();
        fill(source.path(), volume.path()).unwrap();
        assert!(
            !volume.path().join("link").exists(),
            "a volume with data was filled again"
        );
    }

    #[test]
    fn a_cut_in_the_midst_of_the_copy_begins_anew() {
        let (source, volume) = (source(), tempfile::tempdir().unwrap());
        fs::create_dir_all(volume.path().join(PARTIAL).join("half")).unwrap();
        fill(source.path(), volume.path()).unwrap();
        check_filled(volume.path());
        assert!(!volume.path().join("half").exists());
    }

    #[test]
    fn a_cut_in_the_midst_of_the_move_goes_on() {
        let (source, volume) = (source(), tempfile::tempdir().unwrap());
        copy(source.path(), &volume.path().join(COMPLETE), 0).unwrap();
        fs::rename(volume.path().join(COMPLETE).join("sub"), volume.path().join("sub")).unwrap();
        fill(Path::new("/nowhere"), volume.path()).unwrap();
        check_filled(volume.path());
    }
}
