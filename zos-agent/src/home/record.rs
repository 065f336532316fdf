//! The record of the home, as it is on each data disk. Its format is in `docs/format/node.md`.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use crate::{disks::inventory::MAX_DISKS, durable, layout::DiskId};

/// Where the record is on each data disk.
pub const FILE: &str = "identity/home";
/// First word of the record.
const MAGIC: &str = "zos-home-2";
/// First word of a record that names neither the machine nor the disks.
const MAGIC_1: &str = "zos-home-1";

/// Names the home.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Rises with every change; the highest holds.
    pub generation: u64,
    /// The disk.
    pub home: DiskId,
    /// The machine that the disks were in.
    pub machine: Machine,
    /// The node's data disks, the home among them. Empty where it is not known.
    pub disks: BTreeSet<DiskId>,
}

/// Tells a machine from others, as far as its firmware does: blake3 over what is written on its board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine([u8; 16]);

impl Machine {
    /// No machine: that of a record which does not name one.
    pub const UNKNOWN: Self = Self([0; 16]);
    const CONTEXT: &str = "ZOS 2026 machine by its firmware's identifiers";

    /// The machine whose `/sys` is below `root`, which is `/` but in tests. Machines whose firmware says nothing are one.
    #[must_use]
    pub fn observe(root: &Path) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(Self::CONTEXT);
        for file in ["product_uuid", "product_serial", "board_serial"] {
            let text = fs::read_to_string(root.join("sys/class/dmi/id").join(file)).unwrap_or_default();
            hasher.update(text.trim().as_bytes());
            hasher.update(&[0]);
        }
        let hash = hasher.finalize();
        Self(std::array::from_fn(|at| hash.as_bytes()[at]))
    }

    #[cfg(test)]
    pub(super) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.strip_suffix('\n')?.split(' ');
        let magic = words.next()?;
        let (generation, home) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        if magic == MAGIC_1 && words.next().is_none() {
            return Some(Self {
                generation,
                home,
                machine: Machine::UNKNOWN,
                disks: BTreeSet::new(),
            });
        }
        let machine = data_encoding::HEXLOWER.decode(words.next()?.as_bytes()).ok()?;
        let disks: BTreeSet<DiskId> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let holds = magic == MAGIC && disks.contains(&home) && disks.len() <= MAX_DISKS;
        holds.then_some(Self {
            generation,
            home,
            machine: Machine(machine.try_into().ok()?),
            disks,
        })
    }

    /// Whether a disk is one of the node's, as far as the record says which are.
    #[must_use]
    pub fn knows(&self, disk: DiskId) -> bool {
        self.disks.is_empty() || self.disks.contains(&disk)
    }

    /// The record that holds when the node has `disks` in `machine`: this one, or one of the next generation.
    #[must_use]
    pub fn updated(&self, home: DiskId, machine: Machine, disks: BTreeSet<DiskId>) -> Self {
        if self.home == home && self.machine == machine && self.disks == disks {
            return self.clone();
        }
        Self {
            generation: self.generation.saturating_add(1),
            home,
            machine,
            disks,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = data_encoding::HEXLOWER.encode(&self.machine.0);
        write!(f, "{MAGIC} {} {} {machine}", self.generation, self.home)?;
        self.disks.iter().try_for_each(|disk| write!(f, " {disk}"))?;
        writeln!(f)
    }
}

/// Why the record is not on every disk.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A disk has a newer one; nothing was written.
    #[error("{} is of generation {found}, newer than the {ours} that this node runs by", path.display())]
    Newer {
        /// The newer record.
        path: PathBuf,
        /// Its generation.
        found: u64,
        /// The generation that was to be written.
        ours: u64,
    },
    /// The disk could not be written; the ones behind it were not tried.
    #[error("write {}", .0.display())]
    Disk(PathBuf, #[source] io::Error),
}

pub(super) fn read(disk: &Path) -> Option<Record> {
    Record::parse(&fs::read_to_string(disk.join(FILE)).ok()?)
}

/// Whether no disk has a newer record than this one.
///
/// # Errors
/// [`WriteError::Newer`].
pub fn check(record: &Record, disks: &[PathBuf]) -> Result<(), WriteError> {
    let ours = record.generation;
    let newer = disks
        .iter()
        .find_map(|disk| Some((disk.join(FILE), read(disk)?.generation)).filter(|(_, found)| *found > ours));
    match newer {
        Some((path, found)) => Err(WriteError::Newer { path, found, ours }),
        None => Ok(()),
    }
}

/// Writes the record to each of the data disks that has another, unless one of them has a newer one.
///
/// # Errors
/// [`WriteError`].
pub fn write(record: &Record, disks: &[PathBuf]) -> Result<(), WriteError> {
    check(record, disks)?;
    for disk in disks.iter().filter(|disk| read(disk).as_ref() != Some(record)) {
        let path = disk.join(FILE);
        durable::write(&path, record.to_string().as_bytes(), 0o600).map_err(|error| WriteError::Disk(path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(generation: u64) -> Record {
        Record {
            generation,
            home: DiskId::new([9; 16]),
            machine: Machine::new([3; 16]),
            disks: [1, 9].map(|n| DiskId::new([n; 16])).into(),
        }
    }

    fn disks(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let disks: Vec<PathBuf> = (0..count).map(|n| root.path().join(n.to_string())).collect();
        for disk in &disks {
            fs::create_dir_all(disk.join("identity")).unwrap();
        }
        (root, disks)
    }

    #[test]
    fn record_is_kept_on_every_disk_and_a_torn_one_is_none() {
        let (_root, disks) = disks(2);
        write(&record(7), &disks).unwrap();
        assert_eq!(read(&disks[1]), Some(record(7)));
        let text = record(7).to_string();
        let [one, three, nine] = ["01", "03", "09"].map(|byte| byte.repeat(16));
        assert_eq!(text, format!("zos-home-2 7 {nine} {three} {one} {nine}\n"));
        for cut in 0..text.len() {
            assert_eq!(Record::parse(&text[..cut]), None, "{cut}");
        }
        assert_eq!(
            Record::parse(&format!("zos-home-2 7 {nine} {three} {one}\n")),
            None,
            "home is a disk"
        );
        assert_eq!(Record::parse(&text.replace("home-2", "home-3")), None);
    }

    #[test]
    fn record_of_the_first_version_is_read() {
        let first = Record {
            machine: Machine::UNKNOWN,
            disks: BTreeSet::new(),
            ..record(7)
        };
        assert_eq!(
            Record::parse(&format!("zos-home-1 7 {}\n", "09".repeat(16))),
            Some(first)
        );
    }

    #[test]
    fn newer_record_is_never_overwritten() {
        let (_root, disks) = disks(3);
        write(&record(1), &disks[..1]).unwrap();
        write(&record(2), &disks[1..2]).unwrap();
        let error = write(&record(1), &disks).unwrap_err();
        assert!(matches!(error, WriteError::Newer { found: 2, ours: 1, .. }), "{error}");
        assert_eq!(read(&disks[1]), Some(record(2)));
        assert_eq!(read(&disks[2]), None, "nothing was written");
        write(&record(2), &disks).unwrap();
        assert_eq!(read(&disks[0]), Some(record(2)));
    }

    #[test]
    fn machine_is_told_by_what_its_firmware_says() {
        let root = tempfile::tempdir().unwrap();
        let silent = Machine::observe(root.path());
        let dmi = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&dmi).unwrap();
        fs::write(dmi.join("product_uuid"), "4c4c4544-0042\n").unwrap();
        let machine = Machine::observe(root.path());
        assert_ne!(machine, silent);
        assert_eq!(machine, Machine::observe(root.path()));
        fs::write(dmi.join("board_serial"), "B1").unwrap();
        assert_ne!(machine, Machine::observe(root.path()));
    }
}
