//! Putting modules into the kernel: verified, unpacked, dependencies first, each once, several at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::CString,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use node_api::image::MODULES;

use super::{
    alias::Aliases,
    bytes, normal_name,
    order::{Dependencies, OrderError, Step},
};
use crate::{
    background, console,
    monotonic::Monotonic,
    verify::{Damage, Image},
};

/// Most modules that are loaded at the same time, on a single processor as well: most of a driver's start is waiting for
/// its device.
const MOST_THREADS: usize = 8;

/// What every driver of a disk behind a controller needs.
const SLOW: &str = "scsi_mod";

/// The word on the kernel's command line that makes the console say how long each module took.
const DEBUG: &str = "zos.debug";

/// Why a module is not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no order in which it can go in.
    #[error("order modules")]
    Order(#[from] OrderError),
    /// Its file is not as listed.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Its file cannot be unpacked.
    #[error("unpack module {name}")]
    Unpack {
        /// The module.
        name: String,
        /// What the decompressor said.
        #[source]
        cause: io::Error,
    },
    /// The kernel refused it.
    #[error("load module {name}")]
    Refused {
        /// The module.
        name: String,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

impl LoadError {
    /// Whether the kernel said that the machine has no such device, which is no fault.
    #[must_use]
    pub fn is_no_device(&self) -> bool {
        let no_device = Some(libc::ENODEV);
        matches!(self, Self::Refused { cause, .. } if cause.raw_os_error() == no_device || cause.raw_os_error() == Some(libc::EOPNOTSUPP))
    }
}

/// How far a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Loading,
    Loaded,
    Refused,
}

/// What a thread finds that wants to load a module.
enum Claim {
    /// It is to load it.
    Ours,
    /// It is in.
    Loaded,
    /// It was tried in vain.
    Refused,
}

/// What came of loading a set of modules.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Number of modules that went in, dependencies included.
    pub loaded: usize,
    /// What went wrong.
    pub errors: Vec<LoadError>,
}

/// Modules that are still to be loaded.
#[derive(Debug, Default)]
struct Work {
    queue: VecDeque<String>,
    /// What was ever in the queue: nothing is tried twice.
    asked: BTreeSet<String>,
    /// Threads that are loading, after which there may be more to do.
    busy: usize,
    outcome: Outcome,
}

impl Work {
    fn add(&mut self, names: BTreeSet<String>, slow: &BTreeSet<String>) {
        for name in names {
            if !self.asked.insert(name.clone()) {
                continue;
            }
            if slow.contains(&name) {
                self.queue.push_front(name);
            } else {
                self.queue.push_back(name);
            }
        }
    }

    /// The next module, waiting for one while another thread may add some; `None` when all is done.
    fn next(work: &Mutex<Self>, changed: &Condvar) -> Option<String> {
        let mut work = locked(work);
        loop {
            if let Some(name) = work.queue.pop_front() {
                work.busy += 1;
                return Some(name);
            }
            if work.busy == 0 {
                return None;
            }
            work = changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The image's modules and which of them are in the kernel.
#[derive(Debug)]
pub struct Loader {
    image: Arc<Image>,
    aliases: Aliases,
    dependencies: Dependencies,
    /// Drivers of disks behind a controller, which take a good part of a second to answer and some of them half a minute:
    /// they had better begin early, and are loaded when the disks have answered.
    slow: BTreeSet<String>,
    parameters: BTreeMap<String, String>,
    /// Whether the kernel takes signed modules alone.
    signatures_needed: bool,
    /// Whether the command line has [`DEBUG`].
    debug: bool,
    progress: Mutex<BTreeMap<String, Progress>>,
    changed: Condvar,
}

impl Loader {
    /// Reads the image's module indexes. An image without modules has an empty loader.
    ///
    /// # Errors
    /// [`Damage`] when an index is not as listed.
    pub fn open(image: Arc<Image>, command_line: &str) -> Result<Self, Damage> {
        let index = |name: &str| {
            let path = format!("{MODULES}/{name}");
            if !image.lists(&path) {
                return Ok(String::new());
            }
            image
                .read(&path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let aliases = Aliases::parse(&index("modules.alias")?);
        let dependencies = Dependencies::parse(&index("modules.dep")?, &index("modules.softdep")?);
        Ok(Self {
            aliases,
            slow: dependencies.needing(SLOW),
            dependencies,
            parameters: parameters(command_line),
            signatures_needed: are_signatures_needed(),
            debug: command_line.split_whitespace().any(|word| word == DEBUG),
            progress: Mutex::new(BTreeMap::new()),
            changed: Condvar::new(),
            image,
        })
    }

    /// The modules that a list of the image names; none if the image has no such list.
    ///
    /// # Errors
    /// [`Damage`] when the list is not as listed in the manifest.
    pub fn listed(&self, list: &str) -> Result<BTreeSet<String>, Damage> {
        if !self.image.lists(list) {
            return Ok(BTreeSet::new());
        }
        let text = self.image.read(list)?;
        Ok(parse_list(&String::from_utf8_lossy(&text)))
    }

    /// The modules that devices with these modaliases want.
    #[must_use]
    pub fn wanted(&self, modaliases: &BTreeSet<String>) -> BTreeSet<String> {
        modaliases
            .iter()
            .flat_map(|modalias| self.aliases.lookup(modalias))
            .collect()
    }

    /// Loads modules and what they need, several at a time, and then those that `more` wants because of devices that
    /// appeared meanwhile, until it wants no further ones.
    #[must_use]
    pub fn load(&self, names: BTreeSet<String>, more: impl Fn() -> BTreeSet<String> + Sync) -> Outcome {
        let work = Mutex::new(Work::default());
        locked(&work).add(names, &self.slow);
        let changed = Condvar::new();
        let worker = || {
            while let Some(name) = Work::next(&work, &changed) {
                let outcome = self.load_one(&name);
                let wanted = more();
                let mut work = locked(&work);
                work.add(wanted, &self.slow);
                work.busy -= 1;
                work.outcome.loaded += outcome.loaded;
                work.outcome.errors.extend(outcome.errors);
                drop(work);
                changed.notify_all();
            }
        };
        thread::scope(|scope| {
            background::helpers(scope, MOST_THREADS - 1, worker);
            worker();
        });
        work.into_inner().unwrap_or_else(PoisonError::into_inner).outcome
    }

    /// Loads a module and what it needs.
    fn load_one(&self, name: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let mut steps = match self.dependencies.order(name) {
            Ok(steps) => steps,
            Err(error) => {
                outcome.errors.push(error.into());
                return outcome;
            }
        };
        while let Some(step) = steps.next() {
            let is_in = match self.claim(&step.name) {
                Claim::Loaded => true,
                // Whoever tried says why, if it is a fault. The kernel may have asked for it by itself since then.
                Claim::Refused => is_in_kernel(&step.name),
                Claim::Ours => self.insert_claimed(&step, &mut outcome),
            };
            if !is_in {
                steps.without(step.name);
            }
        }
        outcome
    }

    /// Puts in a module that this thread has claimed. Returns whether it is in.
    fn insert_claimed(&self, step: &Step, outcome: &mut Outcome) -> bool {
        let began = Monotonic::now();
        let result = self.insert(step);
        if self.debug {
            let took = Monotonic::now().since(began).as_millis();
            console::say(&format!("module {} took {took} ms", step.name));
        }
        let progress = if result.is_ok() {
            Progress::Loaded
        } else {
            Progress::Refused
        };
        locked(&self.progress).insert(step.name.clone(), progress);
        self.changed.notify_all();
        match result {
            Ok(()) => outcome.loaded += 1,
            Err(error) => outcome.errors.push(error),
        }
        progress == Progress::Loaded
    }

    /// Claims a module for the caller if nobody has tried it. Waits while another thread does; that one waits for nobody
    /// before it is done with it, so the wait ends.
    fn claim(&self, name: &str) -> Claim {
        let mut progress = locked(&self.progress);
        loop {
            match progress.get(name) {
                None => {
                    progress.insert(name.to_owned(), Progress::Loading);
                    return Claim::Ours;
                }
                Some(Progress::Loaded) => return Claim::Loaded,
                Some(Progress::Refused) => return Claim::Refused,
                Some(Progress::Loading) => {
                    progress = self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn insert(&self, step: &Step) -> Result<(), LoadError> {
        let packed = self.image.read(&format!("{MODULES}/{}", step.file))?;
        let mut module = bytes::unpack(&packed).map_err(|cause| LoadError::Unpack {
            name: step.name.clone(),
            cause,
        })?;
        drop(packed);
        let mut parameters = self.parameters.get(&step.name).cloned().unwrap_or_default();
        // Otherwise the kernel would end the loading of this one, too, only when disks have answered that are slow to.
        if !self.slow.contains(&step.name) {
            parameters.push_str(" async_probe");
        }
        let parameters = CString::new(parameters).unwrap_or_default();
        if !self.signatures_needed {
            bytes::lighten(&mut module);
        }
        match rustix::system::init_module(&module, &parameters) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(cause) => Err(LoadError::Refused {
                name: step.name.clone(),
                cause: cause.into(),
            }),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a module works, whoever has loaded it.
fn is_in_kernel(name: &str) -> bool {
    let state = std::fs::read_to_string(format!("/sys/module/{name}/initstate"));
    state.is_ok_and(|state| state.trim() == "live")
}

/// Whether the kernel refuses modules without a signature: by its setting, or because it is locked down.
fn are_signatures_needed() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let lockdown = read("/sys/kernel/security/lockdown");
    read("/sys/module/module/parameters/sig_enforce").trim() == "Y"
        || (!lockdown.is_empty() && !lockdown.contains("[none]"))
}

/// One name a line; `#` begins a comment.
#[must_use]
pub fn parse_list(text: &str) -> BTreeSet<String> {
    let names = text
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(before, _)| before).trim());
    names.filter(|name| !name.is_empty()).map(normal_name).collect()
}

/// Module parameters on the kernel's command line, `MODULE.PARAMETER=VALUE`, by module. The kernel itself applies
/// those of built-in modules only.
#[must_use]
pub fn parameters(command_line: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for word in command_line.split_whitespace() {
        let name = word.split('=').next().unwrap_or(word);
        if let Some((module, _)) = name.split_once('.')
            && let Some(setting) = word.get(module.len() + 1..)
        {
            let all = parameters.entry(normal_name(module)).or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(setting);
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_module() {
        let found = parameters("console=ttyS0 kvm-amd.nested=1 kvm_amd.npt=0 zos.peer=k@1.2.3.4:5 quiet root=a.b");
        assert_eq!(found["kvm_amd"], "nested=1 npt=0");
        assert_eq!(found["zos"], "peer=k@1.2.3.4:5");
        assert!(!found.contains_key("root"));
    }

    #[test]
    fn lists_have_comments_and_blank_lines() {
        let names: Vec<String> = parse_list("# always\nkvm-amd # both\n\n tun\n").into_iter().collect();
        assert_eq!(names, ["kvm_amd", "tun"]);
    }

    #[test]
    fn slow_ones_begin_first_nothing_twice_and_waiting_ends() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let mut work = Work::default();
        work.add(set(&["a", "slow", "z"]), &set(&["slow"]));
        work.add(set(&["a"]), &BTreeSet::new());
        let (work, changed) = (Mutex::new(work), Condvar::new());
        let mut order = Vec::new();
        thread::scope(|scope| {
            while let Some(name) = Work::next(&work, &changed) {
                let (work, changed) = (&work, &changed);
                // The last of the first ones makes another appear, while a second thread waits for it.
                if name == "z" {
                    scope.spawn(move || {
                        thread::sleep(std::time::Duration::from_millis(20));
                        let mut work = locked(work);
                        work.add([String::from("late")].into(), &BTreeSet::new());
                        work.busy -= 1;
                        drop(work);
                        changed.notify_all();
                    });
                } else {
                    locked(work).busy -= 1;
                }
                order.push(name);
            }
        });
        assert_eq!(order, ["slow", "a", "z", "late"]);
    }
}
