//! Volumes: raw files on the pool, formatted once. The node never mounts one: a guest may have written anything to it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::Volume;
use crate::{durable, text::size};

/// The program that formats a volume, in the image.
pub const MKE2FS: &str = "/sbin/mke2fs";

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The pool has no room for it.
    #[error("no room for the volume {name} of {}", size(*bytes))]
    NoRoom {
        /// Name of the volume.
        name: String,
        /// Its size.
        bytes: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A step failed.
    #[error("{step} the volume {}", path.display())]
    Step {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// mke2fs did not succeed.
    #[error("{MKE2FS}: {0}")]
    Format(String),
    /// Volumes that are not named any more take the room.
    #[error(
        "the volumes take {} with those that are not named any more, {} are agreed: name them again, or agree on more storage",
        size(*taken),
        size(*room)
    )]
    Unnamed {
        /// What all of them take.
        taken: u64,
        /// What they may take.
        room: u64,
    },
    /// A volume of another size is there.
    #[error("the volume {} has {} instead of {}", path.display(), size(*found), size(*wanted))]
    OtherSize {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// What the contract says.
        wanted: u64,
    },
}

/// Checks that the named volumes have room in `directory` beside those that are there and not named any more: no volume goes
/// before its contract has ended.
///
/// # Errors
/// [`VolumeError::Unnamed`], or [`VolumeError::Step`] when the directory cannot be read.
pub fn check_room(directory: &Path, named: &[Volume], room: u64) -> Result<(), VolumeError> {
    let step = |source| VolumeError::Step {
        step: "look for",
        path: directory.to_owned(),
        source,
    };
    let mut taken = named.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.bytes));
    for entry in fs::read_dir(directory).map_err(step)? {
        let entry = entry.map_err(step)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".raw")) else {
            continue;
        };
        if named.iter().all(|volume| volume.name != name) {
            taken = taken.saturating_add(entry.metadata().map_err(step)?.len());
        }
    }
    if taken > room {
        return Err(VolumeError::Unnamed { taken, room });
    }
    Ok(())
}

/// Opens a volume in `directory`; makes it if it is not there. A volume that is there is never formatted again.
///
/// # Errors
/// [`VolumeError`].
pub fn open(directory: &Path, volume: &Volume, mke2fs: &Path) -> Result<File, VolumeError> {
    let path = directory.join(format!("{}.raw", volume.name));
    let step = |step: &'static str| {
        let path = path.clone();
        move |source| VolumeError::Step { step, path, source }
    };
    if !path.try_exists().map_err(step("look for"))? {
        make(directory, &path, volume, mke2fs)?;
    }
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(step("open"))?;
    let found = file.metadata().map_err(step("measure"))?.len();
    if found != volume.bytes {
        return Err(VolumeError::OtherSize {
            path,
            found,
            wanted: volume.bytes,
        });
    }
    Ok(file)
}

/// Space is reserved in full, so that a guest's flushed write never fails for want of it. The name appears only when the file
/// system in it is complete.
fn make(directory: &Path, path: &Path, volume: &Volume, mke2fs: &Path) -> Result<(), VolumeError> {
    let beside = directory.join(format!("{}.new", volume.name));
    let step = |step: &'static str| {
        let path = path.to_owned();
        move |source| VolumeError::Step { step, path, source }
    };
    durable::remove_if_there(&beside).map_err(step("remove a remainder of"))?;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(step("make"))?;
    if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, volume.bytes) {
        _ = fs::remove_file(&beside);
        return Err(VolumeError::NoRoom {
            name: volume.name.clone(),
            bytes: volume.bytes,
            source: error.into(),
        });
    }
    format(&beside, mke2fs)?;
    file.sync_all().map_err(step("flush"))?;
    durable::rename(&beside, path).map_err(step("name"))
}

/// No discard: it would give the reserved space back.
fn format(path: &Path, mke2fs: &Path) -> Result<(), VolumeError> {
    let output = Command::new(mke2fs)
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-m",
            "0",
            "-E",
            "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        ])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| VolumeError::Format(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    Err(VolumeError::Format(format!("{} ({})", last.trim(), output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn volume() -> Volume {
        Volume {
            name: "data".to_owned(),
            bytes: 32 << 20,
            mount: "/srv".to_owned(),
        }
    }

    #[test]
    fn volumes_that_are_named_no_more_take_their_room() {
        let directory = tempfile::tempdir().unwrap();
        let check = |named: &[Volume], room| check_room(directory.path(), named, room);
        check(&[volume()], volume().bytes).unwrap();
        assert!(check(&[volume()], volume().bytes - 1).is_err());
        let other = File::create(directory.path().join("other.raw")).unwrap();
        other.set_len(1_000).unwrap();
        File::create(directory.path().join("monitor.log"))
            .unwrap()
            .set_len(1_000)
            .unwrap();
        check(&[volume()], volume().bytes + 1_000).unwrap();
        let full = check(&[volume()], volume().bytes + 999).unwrap_err();
        assert!(matches!(full, VolumeError::Unnamed { .. }), "{full}");
        File::create(directory.path().join("data.raw")).unwrap();
        check(&[volume()], volume().bytes + 1_000).unwrap();
    }

    #[test]
    fn volume_is_made_once_and_kept_ever_after() {
        let directory = tempfile::tempdir().unwrap();
        let mke2fs = Path::new(MKE2FS);
        // A remainder of an interrupted start.
        fs::write(directory.path().join("data.new"), "half").unwrap();
        let file = open(directory.path(), &volume(), mke2fs).unwrap();
        let mut magic = [0; 2];
        file.read_exact_at(&mut magic, 1080).unwrap();
        assert_eq!(magic, [0x53, 0xef]);
        assert!(
            file.metadata().unwrap().blocks() * 512 >= volume().bytes,
            "space is reserved"
        );
        file.write_all_at(b"mine", 20 << 20).unwrap();
        let again = open(directory.path(), &volume(), Path::new("/nonexistent")).unwrap();
        let mut found = [0; 4];
        again.read_exact_at(&mut found, 20 << 20).unwrap();
        assert_eq!(&found, b"mine");
        let larger = Volume {
            bytes: 64 << 20,
            ..volume()
        };
        assert!(matches!(
            open(directory.path(), &larger, mke2fs),
            Err(VolumeError::OtherSize { .. })
        ));
    }

    #[test]
    fn failed_format_leaves_no_volume() {
        let directory = tempfile::tempdir().unwrap();
        let error = open(directory.path(), &volume(), Path::new("/bin/false")).unwrap_err();
        assert!(matches!(error, VolumeError::Format(_)), "{error}");
        assert!(!directory.path().join("data.raw").exists());
    }
}
