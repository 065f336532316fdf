//! The contracts that this node keeps, over a restart of the agent or the machine.
//!
//! ```text
//! <pool>/contracts/<id>/contract   the newest proven version of the contract's record, Borsh
//! <pool>/contracts/<id>/image      the version of the image's record that was agreed on, Borsh
//! <pool>/contracts/<id>/sealed     the ciphertext that the contract names
//! <pool>/contracts/<id>/config     the image's OCI configuration
//! <pool>/contracts/<id>/uptime     when the workload ran, Borsh
//! <pool>/contracts/<id>/place      the data disk that holds its volumes, text
//! ```
//!
//! Every file is replaced whole and flushed before anything is done by it, so that a node without reach of the chain goes on
//! with what was proven to it last.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use ledger::{
    Id, Record,
    body::{Contract, ContractState, Image},
    encoding::{MAX_RECORD, decode, encode},
    record::BodyOf,
};
use workload::{EncryptionKey, Workload};

use super::{process::process, uptime::Uptime};
use crate::{
    durable,
    layout::DiskId,
    place::History,
    reconcile::{self, Desired, Wanted},
    vm::{Networking, VmId, VmSpec, Volume},
};

const CONTRACT: &str = "contract";
const IMAGE: &str = "image";
const SEALED: &str = "sealed";
const CONFIG: &str = "config";
const UPTIME: &str = "uptime";
const PLACE: &str = "place";

/// One contract and what is here of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The newest proven version.
    pub record: Record,
    /// What it says.
    pub contract: Contract,
    /// The image that was agreed on, once its record is here.
    pub image: Option<Image>,
    /// The image's configuration, once it is here.
    pub config: Option<Vec<u8>>,
    /// What is to run, once the ciphertext is here and opened.
    pub workload: Option<Workload>,
    /// Why it can never run here, in one line.
    pub problem: Option<String>,
    /// When it ran.
    pub uptime: Uptime,
    /// The disk that holds its volumes, once one was chosen.
    pub place: Option<DiskId>,
}

impl Entry {
    fn new(record: Record) -> Option<Self> {
        let contract = Contract::of(&record.body)?.clone();
        let uptime = Uptime::default();
        Some(Self {
            record,
            contract,
            image: None,
            config: None,
            workload: None,
            problem: None,
            uptime,
            place: None,
        })
    }

    /// Whether it can have left data: a contract whose workload ran, and that has volumes.
    #[must_use]
    pub fn history(&self) -> History {
        let ran = matches!(self.contract.state, ContractState::Active { .. });
        let volumes = self
            .workload
            .as_ref()
            .is_none_or(|workload| !workload.volumes.is_empty());
        if ran && volumes {
            History::HasData
        } else {
            History::Blank
        }
    }

    /// Bytes that are to be fetched before it can run: image and configuration.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image
            .as_ref()
            .map_or(0, |image| image.root.size + image.config.size)
    }
}

/// All contracts that this node keeps.
#[derive(Debug)]
pub struct Docket {
    directory: PathBuf,
    key: EncryptionKey,
    entries: BTreeMap<Id, Entry>,
}

impl Docket {
    /// Reads what the node kept before. What is damaged is left out and asked for again.
    ///
    /// # Errors
    /// The error of reading the directory.
    pub fn open(directory: PathBuf, key: EncryptionKey) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut docket = Self {
            directory,
            key,
            entries: BTreeMap::new(),
        };
        for folder in fs::read_dir(&docket.directory)? {
            let folder = folder?.path();
            let record = fs::read(folder.join(CONTRACT))
                .ok()
                .and_then(|bytes| decode(&bytes, MAX_RECORD).ok());
            let Some(mut entry) = record.and_then(Entry::new) else {
                continue;
            };
            let read = |name: &str| fs::read(folder.join(name)).ok();
            entry.uptime = read(UPTIME)
                .and_then(|bytes| decode(&bytes, MAX_RECORD).ok())
                .unwrap_or_default();
            entry.config = read(CONFIG);
            entry.place = read(PLACE).and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim_end().parse().ok());
            let (image, sealed) = (read(IMAGE), read(SEALED));
            let image = image.and_then(|bytes| decode::<Record>(&bytes, MAX_RECORD).ok());
            entry.image = image.and_then(|record| Image::of(&record.body).cloned());
            if let Some(sealed) = sealed {
                docket.open_sealed(&mut entry, &sealed);
            }
            docket.entries.insert(entry.record.id, entry);
        }
        Ok(docket)
    }

    /// The contracts, by id.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Id, Entry> {
        &self.entries
    }

    fn folder(&self, id: Id) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn keep(&self, id: Id, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder(id);
        fs::create_dir_all(&folder)?;
        durable::write(&folder.join(name), bytes, 0o600)
    }

    /// Takes over a proven version. An older one than is known changes nothing.
    ///
    /// # Errors
    /// The error of keeping it; it is not known then.
    pub fn learn(&mut self, record: Record) -> io::Result<()> {
        let Some(fresh) = Entry::new(record) else {
            return Ok(());
        };
        let id = fresh.record.id;
        if self
            .entries
            .get(&id)
            .is_some_and(|known| known.record.version >= fresh.record.version)
        {
            return Ok(());
        }
        self.keep(id, CONTRACT, &encode(&fresh.record))?;
        let known = self.entries.remove(&id);
        let entry = match known {
            Some(known) => Entry {
                record: fresh.record,
                contract: fresh.contract,
                ..known
            },
            None => fresh,
        };
        self.entries.insert(id, entry);
        Ok(())
    }

    /// Takes over the image's record that the contract names.
    ///
    /// # Errors
    /// The error of keeping it.
    pub fn learn_image(&mut self, id: Id, record: &Record) -> io::Result<()> {
        self.keep(id, IMAGE, &encode(record))?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.image = Image::of(&record.body).cloned();
        }
        Ok(())
    }

    /// Takes over the image's configuration.
    ///
    /// # Errors
    /// The error of keeping it.
    pub fn learn_config(&mut self, id: Id, config: Vec<u8>) -> io::Result<()> {
        self.keep(id, CONFIG, &config)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.config = Some(config);
        }
        Ok(())
    }

    /// Takes over the ciphertext that the contract names and opens it.
    ///
    /// # Errors
    /// The error of keeping it.
    pub fn learn_sealed(&mut self, id: Id, sealed: &[u8]) -> io::Result<()> {
        self.keep(id, SEALED, sealed)?;
        if let Some(mut entry) = self.entries.remove(&id) {
            self.open_sealed(&mut entry, sealed);
            self.entries.insert(id, entry);
        }
        Ok(())
    }

    fn open_sealed(&self, entry: &mut Entry, sealed: &[u8]) {
        match workload::open(sealed, &self.key) {
            Ok(workload) => entry.workload = Some(workload),
            Err(error) => entry.problem = Some(format!("sealed workload: {error}")),
        }
    }

    /// Says that the workload ran from `start` to `end`, in the chain's milliseconds.
    ///
    /// # Errors
    /// The error of keeping it.
    pub fn ran(&mut self, id: Id, start: u64, end: u64) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut(&id) else {
            return Ok(());
        };
        entry.uptime.add(start, end);
        let bytes = encode(&entry.uptime);
        self.keep(id, UPTIME, &bytes)
    }

    /// Says which disk holds the volumes, before the first of them is made.
    ///
    /// # Errors
    /// The error of keeping it; no volume may be made then.
    pub fn place(&mut self, id: Id, disk: DiskId) -> io::Result<()> {
        let Some(entry) = self.entries.get(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if entry.place == Some(disk) {
            return Ok(());
        }
        self.keep(id, PLACE, format!("{disk}\n").as_bytes())?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Some(disk);
        }
        Ok(())
    }

    /// Notes that a contract can never be kept here.
    pub fn refuse(&mut self, id: Id, problem: String) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.problem.get_or_insert(problem);
        }
    }

    /// Forgets a contract that has ended and whose data is gone.
    ///
    /// # Errors
    /// The error of removing its files.
    pub fn forget(&mut self, id: Id) -> io::Result<()> {
        fs::remove_dir_all(self.folder(id))?;
        self.entries.remove(&id);
        Ok(())
    }

    /// What is to run. `image_path` says where an image's root file system is or will be; `now_ms` is the chain's time.
    #[must_use]
    pub fn desired(&self, now_ms: u64, image_path: impl Fn(&reconcile::ImageHash) -> PathBuf) -> Desired {
        let wanted = |(id, entry): (&Id, &Entry)| {
            let vm = vm_id(*id)?;
            Some((vm.clone(), want(entry, vm, now_ms, &image_path)?))
        };
        Desired {
            chain_time_ms: now_ms,
            workloads: self.entries.iter().filter_map(wanted).collect(),
        }
    }
}

/// A contract's VM has the contract's id for a name.
#[must_use]
pub fn vm_id(id: Id) -> Option<VmId> {
    VmId::new(&id.to_string())
}

fn want(
    entry: &Entry,
    vm: VmId,
    now_ms: u64,
    image_path: &impl Fn(&reconcile::ImageHash) -> PathBuf,
) -> Option<Wanted> {
    if let Some(at) = entry.contract.ended() {
        return Some(Wanted::Terminal { since_ms: at.millis() });
    }
    if entry.contract.runs_until().is_some_and(|end| now_ms >= end.millis()) {
        return Some(Wanted::Stop);
    }
    // An agreement is acknowledged before anything is prepared for it.
    if matches!(entry.contract.state, ContractState::Agreed { .. }) || entry.problem.is_some() {
        return None;
    }
    let (image, config, workload) = (entry.image.as_ref()?, entry.config.as_ref()?, entry.workload.as_ref()?);
    let root = *image.root.hash.as_bytes();
    let spec = spec(entry, vm, config, workload, image_path(&root)).ok()?;
    Some(Wanted::Run(Box::new(reconcile::Workload { image: root, spec })))
}

/// The VM that a contract asks for.
///
/// # Errors
/// One line that says why it can never run.
pub fn spec(entry: &Entry, id: VmId, config: &[u8], workload: &Workload, root: PathBuf) -> Result<VmSpec, String> {
    let resources = &entry.contract.signed.agreement.resources;
    let volumes = workload.volumes.iter().map(|volume| Volume {
        name: volume.name.clone(),
        bytes: volume.size,
        mount: volume.mount.clone(),
    });
    let spec = VmSpec {
        id,
        vcpus: u8::try_from(resources.cru).map_err(|_| format!("{} processors are too many", resources.cru))?,
        memory_mib: u32::try_from(resources.mru >> 20)
            .map_err(|_| format!("{} bytes of memory are too many", resources.mru))?,
        root,
        process: process(config, workload).map_err(|error| error.to_string())?,
        volumes: volumes.collect(),
        networking: Networking::Internet,
    };
    spec.check().map_err(|error| error.to_string())?;
    let image = entry.image.as_ref().map_or(0, |image| image.root.size);
    let wanted = spec
        .volumes
        .iter()
        .fold(image, |sum, volume| sum.saturating_add(volume.bytes));
    let reserved = resources.sru.saturating_add(resources.hru);
    if wanted > reserved {
        return Err(format!(
            "image and volumes need {wanted} bytes of storage, {reserved} are agreed"
        ));
    }
    Ok(spec)
}

/// Where an image's root file system is kept on a data disk.
#[must_use]
pub fn image_file(directory: &Path, hash: &reconcile::ImageHash) -> PathBuf {
    directory.join("images").join(data_encoding::HEXLOWER.encode(hash))
}
