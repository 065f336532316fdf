//! The contracts that this node keeps, as they are in memory. What is on disk of them is in [`shelf`](super::shelf); the
//! [`keeper`](super::keeper) keeps both together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ledger::{
    Id, Record,
    body::{Blob, Contract, ContractState, Image},
    record::BodyOf,
};
use workload::{EncryptionKey, Workload};

use super::{process::process, uptime::Uptime};
use crate::{
    layout::DiskId,
    place::History,
    reconcile::{self, Desired, Wanted},
    vm::{Networking, Size, VmId, VmSpec, Volume},
};

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
    /// A contract of which only the record is here; `None` for a record of another kind.
    #[must_use]
    pub fn new(record: Record) -> Option<Self> {
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
        let state = &self.contract.state;
        let ran = matches!(state, ContractState::Active { .. } | ContractState::Suspended { .. });
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

    /// When the period begins that is settled next, in the chain's milliseconds; 0 before the first.
    #[must_use]
    pub fn unsettled_from(&self) -> u64 {
        self.contract.open_period().map_or(0, |period| period.began.millis())
    }

    /// Bytes that are to be fetched before it can run: image and configuration.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image
            .as_ref()
            .map_or(0, |image| image.root.size.saturating_add(image.config.size))
    }
}

/// All contracts that this node keeps.
#[derive(Debug)]
pub struct Docket {
    key: EncryptionKey,
    entries: BTreeMap<Id, Entry>,
}

impl Docket {
    /// Without any contract. `key` opens what was sealed for the node.
    #[must_use]
    pub fn new(key: EncryptionKey) -> Self {
        Self {
            key,
            entries: BTreeMap::new(),
        }
    }

    /// The contracts, by id.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Id, Entry> {
        &self.entries
    }

    /// Whether a version is newer than what is known.
    #[must_use]
    pub fn is_news(&self, record: &Record) -> bool {
        self.entries
            .get(&record.id)
            .is_none_or(|known| known.record.version < record.version)
    }

    /// Takes over a version; what is here of the contract besides stays, but for what an amendment put something else in the
    /// place of.
    pub fn learn(&mut self, fresh: Entry) {
        let id = fresh.record.id;
        let entry = match self.entries.remove(&id) {
            Some(mut known) => {
                let (before, after) = (&known.contract.signed.agreement, &fresh.contract.signed.agreement);
                if before.image != after.image {
                    (known.image, known.config) = (None, None);
                }
                if before.sealed != after.sealed {
                    known.workload = None;
                }
                if before != after {
                    known.problem = None;
                }
                Entry {
                    record: fresh.record,
                    contract: fresh.contract,
                    ..known
                }
            }
            None => fresh,
        };
        self.entries.insert(id, entry);
    }

    /// Takes over the image's record, if it is the version that was agreed on.
    pub fn learn_image(&mut self, id: Id, record: &Record) {
        let version = record.hash();
        self.change(id, |entry| {
            if entry.contract.signed.agreement.image.1 == version {
                entry.image = Image::of(&record.body).cloned();
            }
        });
    }

    /// Takes over the image's configuration, if it is that of the image that was agreed on.
    pub fn learn_config(&mut self, id: Id, config: Vec<u8>) {
        let blob = Blob::of(&config);
        self.change(id, |entry| {
            if entry.image.as_ref().is_some_and(|image| image.config == blob) {
                entry.config = Some(config);
            }
        });
    }

    /// Takes over the ciphertext, if it is the one that was agreed on, and opens it.
    pub fn learn_sealed(&mut self, id: Id, sealed: &[u8]) {
        let (opened, blob) = (workload::open(sealed, &self.key), Blob::of(sealed));
        self.change(id, |entry| {
            if entry.contract.signed.agreement.sealed != blob {
                return;
            }
            match opened {
                Ok(workload) => entry.workload = Some(workload),
                Err(error) => entry.problem = Some(format!("sealed workload: {error}")),
            }
        });
    }

    /// Takes over which disk holds the volumes.
    pub fn place(&mut self, id: Id, disk: DiskId) {
        self.change(id, |entry| entry.place = Some(disk));
    }

    /// Takes over when the workload ran.
    pub fn set_uptime(&mut self, id: Id, uptime: Uptime) {
        self.change(id, |entry| entry.uptime = uptime);
    }

    /// Notes that a contract can never be kept here.
    pub fn refuse(&mut self, id: Id, problem: String) {
        self.change(id, |entry| _ = entry.problem.get_or_insert(problem));
    }

    /// Forgets a contract.
    pub fn forget(&mut self, id: Id) {
        self.entries.remove(&id);
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&id) {
            change(entry);
        }
    }

    /// Content that this contract needs of its image and no other does.
    #[must_use]
    pub fn sole_content(&self, id: Id) -> Vec<Blob> {
        let image = self.entries.get(&id).and_then(|entry| entry.image.as_ref());
        let of_others = |blob: &Blob| {
            let mut others = self.entries.iter().filter(|(other, _)| **other != id);
            others.any(|(_, entry)| {
                entry.contract.ended().is_none() && entry.image.as_ref().is_some_and(|image| image.root == *blob)
            })
        };
        let image = image.filter(|image| !of_others(&image.root));
        image.into_iter().flat_map(|image| [image.root, image.config]).collect()
    }

    /// Images that a contract still needs: one that has not ended, or one whose VM still runs.
    #[must_use]
    pub fn images(&self, running: &BTreeSet<VmId>) -> BTreeSet<reconcile::ImageHash> {
        let needs = |(id, entry): &(&Id, &Entry)| {
            entry.contract.ended().is_none() || vm_id(**id).is_some_and(|vm| running.contains(&vm))
        };
        let image = |(_, entry): (&Id, &Entry)| Some(*entry.image.as_ref()?.root.hash.as_bytes());
        self.entries.iter().filter(needs).filter_map(image).collect()
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
    // It ends then, or goes on when more is paid in.
    let is_over = entry.contract.runs_until().is_some_and(|end| now_ms >= end.millis());
    if is_over || matches!(entry.contract.state, ContractState::Suspended { .. }) {
        return Some(Wanted::Stop);
    }
    // An agreement is acknowledged before anything is prepared for it.
    if matches!(entry.contract.state, ContractState::Agreed { .. }) {
        return None;
    }
    if entry.problem.is_some() {
        return Some(Wanted::Stop);
    }
    let known = entry
        .image
        .as_ref()
        .zip(entry.config.as_ref())
        .zip(entry.workload.as_ref());
    let Some(((image, config), workload)) = known else {
        // What ran before an amendment goes on until it is here, within what is paid for now.
        let resources = &entry.contract.signed.agreement.resources;
        return entry.contract.replaces.map(|_| Wanted::Keep(Size::within(resources)));
    };
    let root = *image.root.hash.as_bytes();
    Some(match spec(entry, vm, config, workload, image_path(&root)) {
        Ok(spec) => Wanted::Run(Box::new(reconcile::Workload { image: root, spec })),
        Err(_) => Wanted::Stop,
    })
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
    let image = entry.image.as_ref().map_or(0, |image| image.root.size);
    let reserved = resources.sru.saturating_add(resources.hru);
    let volume_room = reserved.saturating_sub(image);
    let spec = VmSpec {
        id,
        vcpus: u8::try_from(resources.cru).map_err(|_| format!("{} processors are too many", resources.cru))?,
        memory_mib: u32::try_from(resources.mru >> 20)
            .map_err(|_| format!("{} bytes of memory are too many", resources.mru))?,
        root,
        process: process(config, workload).map_err(|error| error.to_string())?,
        volumes: volumes.collect(),
        volume_room,
        networking: Networking::Internet,
    };
    spec.check().map_err(|error| error.to_string())?;
    let wanted = spec
        .volumes
        .iter()
        .fold(image, |sum, volume| sum.saturating_add(volume.bytes));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::fixture;

    #[test]
    fn image_is_needed_until_its_contract_has_ended_and_its_vm_has_stopped() {
        let mut docket = Docket::new(EncryptionKey::from_seed(&[1; 32]));
        let live = fixture::contract(1, fixture::active());
        let ended = fixture::contract(2, ContractState::Expired { at: Default::default() });
        for (record, image) in [(&live, 1), (&ended, 2)] {
            docket.learn(Entry::new(record.clone()).unwrap());
            docket.learn_image(record.id, &fixture::image(image));
        }
        let vm = vm_id(ended.id).unwrap();
        assert_eq!(docket.images(&BTreeSet::new()), [[1; 32]].into());
        assert_eq!(docket.images(&[vm].into()), [[1; 32], [2; 32]].into());
    }

    #[test]
    fn contract_that_ran_has_data_somewhere_and_one_that_did_not_has_none() {
        let entry = |state| Entry::new(fixture::contract(1, state)).unwrap();
        assert_eq!(entry(fixture::active()).history(), History::HasData);
        let deploying = ContractState::Deploying {
            run_by: Default::default(),
        };
        assert_eq!(entry(deploying).history(), History::Blank);
        assert_eq!(entry(fixture::suspended()).history(), History::HasData);
    }

    #[test]
    fn amendment_leaves_what_it_does_not_change_and_nothing_else_is_taken_for_what_it_names() {
        let mut docket = Docket::new(EncryptionKey::from_seed(&[1; 32]));
        let first = fixture::contract(1, fixture::active());
        let id = first.id;
        fixture::fill(&mut docket, first.clone());
        let parts = |docket: &Docket| {
            let entry = &docket.entries()[&id];
            (entry.image.is_some(), entry.config.is_some(), entry.workload.is_some())
        };
        assert_eq!(parts(&docket), (true, true, true));
        let longer = fixture::amended(&first, |agreement| agreement.periods += 1);
        docket.learn(Entry::new(longer.clone()).unwrap());
        assert_eq!(parts(&docket), (true, true, true));
        let renewed = fixture::amended(&longer, |agreement| agreement.image.1 = fixture::image(9).hash());
        docket.learn(Entry::new(renewed.clone()).unwrap());
        assert_eq!(parts(&docket), (false, false, true));
        docket.learn_image(id, &fixture::image(1));
        docket.learn_config(id, fixture::CONFIG.to_vec());
        assert_eq!(parts(&docket), (false, false, true), "these are the old ones");
        docket.learn_image(id, &fixture::image(9));
        docket.learn_config(id, b"{}".to_vec());
        assert_eq!(parts(&docket), (true, false, true));
        let resealed = fixture::amended(&renewed, |agreement| agreement.sealed.size += 1);
        docket.refuse(id, "too large".into());
        docket.learn(Entry::new(resealed).unwrap());
        assert_eq!(parts(&docket), (true, false, false));
        assert_eq!(docket.entries()[&id].problem, None, "what was wrong may be right now");
        docket.learn_sealed(id, &fixture::sealed());
        assert_eq!(parts(&docket), (true, false, false));
        let wanted = docket.desired(0, |_| "/root".into()).workloads.into_values().next();
        assert!(matches!(wanted, Some(Wanted::Keep(_))), "{wanted:?}");
    }

    #[test]
    fn what_an_amendment_makes_impossible_is_stopped() {
        let mut docket = Docket::new(EncryptionKey::from_seed(&[1; 32]));
        let first = fixture::contract(1, fixture::active());
        let id = first.id;
        fixture::fill(&mut docket, first.clone());
        let wanted = |docket: &Docket| docket.desired(0, |_| "/root".into()).workloads.into_values().next();
        assert!(matches!(wanted(&docket), Some(Wanted::Run(_))));
        let tiny = fixture::amended(&first, |agreement| agreement.resources.mru = 1);
        docket.learn(Entry::new(tiny).unwrap());
        assert_eq!(wanted(&docket), Some(Wanted::Stop));
        docket.refuse(id, "it has no memory".into());
        assert_eq!(wanted(&docket), Some(Wanted::Stop));
    }

    #[test]
    fn workload_stops_when_what_is_paid_in_is_used_up_and_stays_so_while_it_is_suspended() {
        let entry = |state| {
            let record = fixture::contract(1, state);
            let mut docket = Docket::new(EncryptionKey::from_seed(&[1; 32]));
            fixture::fill(&mut docket, record);
            move |now_ms| {
                docket
                    .desired(now_ms, |_| "/root".into())
                    .workloads
                    .into_values()
                    .next()
            }
        };
        let active = entry(fixture::active());
        let paid_until = u64::from(fixture::FUNDED) * 10_000;
        assert!(matches!(active(paid_until - 1), Some(Wanted::Run(_))));
        assert_eq!(active(paid_until), Some(Wanted::Stop));
        let suspended = entry(fixture::suspended());
        assert_eq!(suspended(paid_until), Some(Wanted::Stop));
        assert_eq!(
            suspended(0),
            Some(Wanted::Stop),
            "also before the chain's time is known"
        );
    }
}
