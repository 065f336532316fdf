//! Makes a permitted disk a data disk. The only code that writes to a bare disk.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{Places, partition_node};
use crate::{
    disks::{Content, DiskFacts, FormatReason, signature},
    layout::{self, DATA_LABEL, DataPartition, LayoutError, MARK_BYTES, MARK_OFFSET, MarkState, OurTable},
};

/// Bytes at each end that are zeroed before an erased disk is laid out: tables, superblocks and RAID metadata live there.
const WIPE_BYTES: u64 = 4 << 20;

/// Why a disk could not be made a data disk.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The disk's size or block size is not supported.
    #[error("lay out {0}")]
    Layout(String, #[source] LayoutError),
    /// The disk is not any more what the decision was made on.
    #[error("{0} has changed since it was looked at; not touched")]
    Changed(String),
    /// Reading or writing the bare disk failed.
    #[error("{step} {disk}")]
    Disk {
        /// What was tried.
        step: &'static str,
        /// Kernel name.
        disk: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The kernel does not show the new partition.
    #[error("the kernel shows no partition on {0} after its table was written")]
    NoPartition(String),
    /// Init has not said that the image's programs are as they should be.
    #[error("{} is not verified after {} s", .0.display(), VERIFIED_PATIENCE.as_secs())]
    Unverified(PathBuf),
    /// mkfs.xfs could not be run or did not succeed.
    #[error("{}: {said}", program.display())]
    Mkfs {
        /// The program.
        program: PathBuf,
        /// Its first line of standard error, or why it could not be run.
        said: String,
    },
    /// The system gave no random bytes.
    #[error("make a partition identifier")]
    Random(#[source] io::Error),
}

/// How long init may take to verify the image's programs, which it does beside the agent's start.
const VERIFIED_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

fn wait_until_there(path: &Path, patience: Duration) -> bool {
    let began = Instant::now();
    while !path.exists() {
        if began.elapsed() >= patience {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

/// Formats a disk for which [`crate::disks::decide()`] said so. Blocks for as long as mkfs takes, about a second.
///
/// # Errors
/// [`FormatError`]; the disk then carries a mark that says it is half made, or is as it was.
pub fn format(
    places: &Places,
    facts: &DiskFacts,
    reason: FormatReason,
    index: u8,
) -> Result<DataPartition, FormatError> {
    if !wait_until_there(&places.verified, VERIFIED_PATIENCE) {
        return Err(FormatError::Unverified(places.mkfs.clone()));
    }
    let name = &facts.name;
    let disk_error = |step| {
        move |source| FormatError::Disk {
            step,
            disk: name.clone(),
            source,
        }
    };
    let (partition_guid, disk_guid) = (random_guid()?, random_guid()?);
    let partition = layout::choose(facts.bytes, facts.block, partition_guid, index)
        .map_err(|source| FormatError::Layout(name.clone(), source))?;
    // Exclusive: the kernel refuses while anything of the disk is mounted or part of an array.
    let disk = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(places.dev.join(name))
        .map_err(disk_error("open"))?;
    let now = signature::probe(&disk, facts.bytes, facts.block).map_err(disk_error("read"))?;
    if !still_permitted(&now, reason) {
        return Err(FormatError::Changed(name.clone()));
    }
    match reason {
        FormatReason::Zeros => {}
        FormatReason::HalfMade => clear(&disk, facts.bytes).map_err(disk_error("clear"))?,
        FormatReason::Erase => wipe(&disk, facts.bytes).map_err(disk_error("erase"))?,
    }
    lay_out(&disk, facts, &partition, disk_guid).map_err(disk_error("write the partition table of"))?;
    crate::sys::reread_partitions(&disk).map_err(disk_error("read the new partition table of"))?;
    let node = partition_node(places, name, partition.first_byte);
    let node = node.ok_or_else(|| FormatError::NoPartition(name.clone()))?;
    // mkfs claims the partition for itself, which the kernel grants nobody while the whole disk is claimed.
    drop(disk);
    make_file_system(&places.mkfs, &node)?;
    sync(&node).map_err(disk_error("flush"))?;
    let disk = File::options()
        .write(true)
        .open(places.dev.join(name))
        .map_err(disk_error("open"))?;
    write(&disk, &layout::mark(&partition, MarkState::Made)).map_err(disk_error("mark"))?;
    disk.sync_all().map_err(disk_error("flush"))?;
    Ok(partition)
}

/// Whether what is on the disk now still allows what was decided on.
fn still_permitted(now: &Content, reason: FormatReason) -> bool {
    match reason {
        FormatReason::Zeros => matches!(now, Content::BlankEnds),
        FormatReason::HalfMade => matches!(now, Content::Ours(OurTable::HalfMade)),
        FormatReason::Erase => {
            matches!(
                now,
                Content::Foreign(_) | Content::BlankEnds | Content::Ours(OurTable::Damaged | OurTable::HalfMade)
            )
        }
    }
}

fn wipe(disk: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(WIPE_BYTES).map_err(io::Error::other)?];
    disk.write_all_at(&zeros, 0)?;
    disk.write_all_at(&zeros, bytes - WIPE_BYTES)?;
    disk.sync_all()
}

/// Zeroes what a cut format left, but for its mark: at every moment the disk is known to be half made, and the next mark finds
/// no table that is not its own.
fn clear(disk: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(WIPE_BYTES).map_err(io::Error::other)?];
    let behind_mark = MARK_OFFSET + MARK_BYTES;
    let length = |bytes: u64| usize::try_from(bytes).map_err(io::Error::other);
    disk.write_all_at(&zeros[..length(MARK_OFFSET)?], 0)?;
    disk.write_all_at(&zeros[..length(WIPE_BYTES - behind_mark)?], behind_mark)?;
    disk.write_all_at(&zeros, bytes - WIPE_BYTES)?;
    disk.sync_all()
}

/// The mark goes first and is flushed, so that whatever is interrupted after it is known to be ours.
fn lay_out(disk: &File, facts: &DiskFacts, partition: &DataPartition, disk_guid: [u8; 16]) -> io::Result<()> {
    write(disk, &layout::mark(partition, MarkState::Making))?;
    disk.sync_all()?;
    for step in layout::table(partition, facts.bytes, facts.block, disk_guid) {
        write(disk, &step)?;
    }
    disk.sync_all()
}

fn write(disk: &File, write: &layout::Write) -> io::Result<()> {
    disk.write_all_at(&write.bytes, write.offset)
}

fn sync(node: &Path) -> io::Result<()> {
    File::options().write(true).open(node)?.sync_all()
}

/// Reflink gives snapshots of volumes. No discard (`-K`): on some disks it takes minutes. Forced (`-f`), for the decision
/// whether the disk may be written was made before.
fn make_file_system(mkfs: &Path, node: &Path) -> Result<(), FormatError> {
    let failed = |said: String| FormatError::Mkfs {
        program: mkfs.to_owned(),
        said,
    };
    let output = Command::new(mkfs)
        .args(["-q", "-f", "-K", "-L", DATA_LABEL, "-m", "crc=1,reflink=1,bigtime=1"])
        .arg(node)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let first = stderr
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no reason given");
    Err(failed(format!("{} ({})", first.trim(), output.status)))
}

/// A random GUID of version 4, variant 1, in the mixed-endian form that tables store.
fn random_guid() -> Result<[u8; 16], FormatError> {
    let mut guid = [0; 16];
    getrandom::fill(&mut guid).map_err(|error| FormatError::Random(error.into()))?;
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    Ok(guid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::HEAD_BYTES;

    const BYTES: u64 = 2 << 30;

    /// Formats a sparse file as `format` does a disk: the partition is formatted apart and copied in, since a file has none.
    fn made(stop_before_mark: bool) -> (tempfile::NamedTempFile, DataPartition) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(BYTES).unwrap();
        let facts = DiskFacts {
            name: "vdb".to_owned(),
            serial: None,
            serial_shared: false,
            model: None,
            transport: "virtio",
            bytes: BYTES,
            block: 512,
            medium: crate::disks::Medium::Flash,
            removable: false,
            read_only: false,
            held: false,
            content: Content::Zeros,
        };
        let partition = layout::choose(BYTES, 512, random_guid().unwrap(), 0).unwrap();
        lay_out(file.as_file(), &facts, &partition, random_guid().unwrap()).unwrap();
        let part = tempfile::NamedTempFile::new().unwrap();
        part.as_file().set_len(partition.bytes).unwrap();
        make_file_system(Path::new("/sbin/mkfs.xfs"), part.path()).unwrap();
        let mut start = vec![0; 1 << 20];
        part.as_file().read_exact_at(&mut start, 0).unwrap();
        file.as_file().write_all_at(&start, partition.first_byte).unwrap();
        if !stop_before_mark {
            write(file.as_file(), &layout::mark(&partition, MarkState::Made)).unwrap();
        }
        (file, partition)
    }

    #[test]
    fn formatted_disk_is_found_again_and_is_never_formatted_twice() {
        let (disk, partition) = made(false);
        let found = signature::probe(disk.as_file(), BYTES, 512).unwrap();
        assert_eq!(found, Content::Ours(OurTable::Whole(partition)));
        for reason in [FormatReason::Zeros, FormatReason::HalfMade, FormatReason::Erase] {
            assert!(!still_permitted(&found, reason), "{reason:?}");
        }
    }

    #[test]
    fn format_that_was_cut_off_before_its_end_may_be_repeated() {
        let (disk, _) = made(true);
        let found = signature::probe(disk.as_file(), BYTES, 512).unwrap();
        assert_eq!(found, Content::Ours(OurTable::HalfMade));
        assert!(still_permitted(&found, FormatReason::HalfMade));
    }

    #[test]
    fn format_that_was_cut_anywhere_within_mkfs_may_be_repeated() {
        let (disk, _) = made(true);
        for at in (1 << 20..2 << 20).step_by(512) {
            let mut sector = [0; 512];
            disk.as_file().read_exact_at(&mut sector, at).unwrap();
            disk.as_file().write_all_at(&[0; 512], at).unwrap();
            let found = signature::probe(disk.as_file(), BYTES, 512).unwrap();
            assert_eq!(found, Content::Ours(OurTable::HalfMade), "sector at {at}");
            // Every second one stays lost, so that ever more of it is missing.
            if at % 1024 == 0 {
                disk.as_file().write_all_at(&sector, at).unwrap();
            }
        }
    }

    #[test]
    fn disk_that_was_put_to_other_use_after_a_cut_format_is_foreign() {
        let (disk, partition) = made(true);
        let part = tempfile::NamedTempFile::new().unwrap();
        part.as_file().set_len(partition.bytes).unwrap();
        let mkfs = Command::new("mkfs.ext4")
            .args(["-q", "-F", "-L", "photos"])
            .arg(part.path())
            .env("PATH", "/sbin:/usr/sbin")
            .status();
        assert!(mkfs.unwrap().success());
        let mut start = vec![0; 1 << 20];
        part.as_file().read_exact_at(&mut start, 0).unwrap();
        disk.as_file().write_all_at(&start, partition.first_byte).unwrap();
        let found = signature::probe(disk.as_file(), BYTES, 512).unwrap();
        assert!(matches!(found, Content::Foreign(_)), "{found:?}");
        assert!(!still_permitted(&found, FormatReason::HalfMade));
    }

    #[test]
    fn cleared_disk_keeps_its_mark_and_nothing_else() {
        let (disk, partition) = made(true);
        clear(disk.as_file(), BYTES).unwrap();
        assert_eq!(
            signature::probe(disk.as_file(), BYTES, 512).unwrap(),
            Content::Ours(OurTable::HalfMade)
        );
        let again = DataPartition {
            guid: random_guid().unwrap(),
            ..partition
        };
        // As cut after the next mark.
        write(disk.as_file(), &layout::mark(&again, MarkState::Making)).unwrap();
        assert_eq!(
            signature::probe(disk.as_file(), BYTES, 512).unwrap(),
            Content::Ours(OurTable::HalfMade)
        );
    }

    #[test]
    fn disk_that_changed_after_the_decision_is_left_alone() {
        assert!(!still_permitted(&Content::Foreign("x".to_owned()), FormatReason::Zeros));
        assert!(!still_permitted(&Content::BootMedium, FormatReason::Erase));
        assert!(still_permitted(&Content::BlankEnds, FormatReason::Zeros));
    }

    #[test]
    fn erased_ends_hold_zeros_only() {
        let file = tempfile::tempfile().unwrap();
        let noise = vec![0xa5; HEAD_BYTES];
        file.set_len(BYTES).unwrap();
        file.write_all_at(&noise, 0).unwrap();
        file.write_all_at(&noise, BYTES - (2 << 20)).unwrap();
        wipe(&file, BYTES).unwrap();
        assert_eq!(signature::probe(&file, BYTES, 512).unwrap(), Content::BlankEnds);
    }

    #[test]
    fn reason_of_a_failing_mkfs_is_kept() {
        let error = make_file_system(Path::new("/sbin/mkfs.xfs"), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
    }
}
