//! The order in which modules go in: what a module needs first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::normal_name;

/// Deepest chain of dependencies that is followed.
const MOST_DEPTH: usize = 64;

/// Parsed `modules.dep` and `modules.softdep`.
#[derive(Debug, Default)]
pub struct Dependencies {
    modules: BTreeMap<String, Module>,
}

#[derive(Debug, Default)]
struct Module {
    file: String,
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// A module to put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its normalized name.
    pub name: String,
    /// Its file, as `modules.dep` has it.
    pub file: String,
    /// The modules without which the kernel refuses it.
    needs: Vec<String>,
}

/// What is still to be put in. A module is left out when one that it needs is missing; a soft dependency only helps, and
/// is gone without.
#[derive(Debug)]
pub struct Steps {
    rest: VecDeque<Step>,
    missing: BTreeSet<String>,
}

impl Steps {
    /// Says that a module did not go in.
    pub fn without(&mut self, name: String) {
        self.missing.insert(name);
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            let step = self.rest.pop_front()?;
            if step.needs.iter().all(|needed| !self.missing.contains(needed)) {
                return Some(step);
            }
            self.missing.insert(step.name);
        }
    }
}

/// Why there is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// `modules.dep` does not have the module.
    #[error("module {name} is not in the image")]
    Unknown {
        /// The module that is missing.
        name: String,
    },
    /// Dependencies lead back to the module, or are nested too deeply.
    #[error("dependencies of module {name} have no end")]
    Endless {
        /// The module that was asked for.
        name: String,
    },
}

impl Dependencies {
    /// Parses the texts of `modules.dep` (`FILE: FILE…`) and `modules.softdep` (`softdep NAME pre: NAME… post: NAME…`).
    #[must_use]
    pub fn parse(dep: &str, softdep: &str) -> Self {
        let mut modules = BTreeMap::new();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else {
                continue;
            };
            let needs = needs.split_whitespace().map(name_of_file).collect();
            modules.insert(
                name_of_file(file),
                Module {
                    file: file.to_owned(),
                    needs,
                    ..Module::default()
                },
            );
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let Some(module) = modules.get_mut(&normal_name(name)) else {
                continue;
            };
            let mut into_after = false;
            for word in words {
                match word {
                    "pre:" => into_after = false,
                    "post:" => into_after = true,
                    name if into_after => module.after.push(normal_name(name)),
                    name => module.before.push(normal_name(name)),
                }
            }
        }
        Self { modules }
    }

    /// What to put in, first to last, so that module `name` works. Soft dependencies that the image does not have are
    /// left out.
    ///
    /// # Errors
    /// [`OrderError`] when the module or one that it needs is missing, or dependencies form a circle.
    pub fn order(&self, name: &str) -> Result<Steps, OrderError> {
        let name = normal_name(name);
        let mut visit = Visit {
            modules: &self.modules,
            open: Vec::new(),
            seen: BTreeSet::new(),
            steps: Vec::new(),
        };
        visit.module(&name).map_err(|stop| match stop {
            Stop::Unknown(name) => OrderError::Unknown { name },
            Stop::Endless => OrderError::Endless { name: name.clone() },
        })?;
        Ok(Steps {
            rest: visit.steps.into(),
            missing: BTreeSet::new(),
        })
    }

    /// The modules that cannot work without module `name`, itself among them.
    #[must_use]
    pub fn needing(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![normal_name(name)];
        while let Some(name) = open.pop() {
            if found.insert(name.clone()) {
                let direct = self.modules.iter().filter(|(_, module)| module.needs.contains(&name));
                open.extend(direct.map(|(other, _)| other.clone()));
            }
        }
        found
    }

    /// Number of modules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }
}

struct Visit<'a> {
    modules: &'a BTreeMap<String, Module>,
    open: Vec<&'a str>,
    seen: BTreeSet<&'a str>,
    steps: Vec<Step>,
}

enum Stop {
    Unknown(String),
    Endless,
}

impl Visit<'_> {
    fn module(&mut self, name: &str) -> Result<(), Stop> {
        let Some((name, module)) = self.modules.get_key_value(name) else {
            return Err(Stop::Unknown(name.to_owned()));
        };
        if self.open.contains(&name.as_str()) || self.open.len() >= MOST_DEPTH {
            return Err(Stop::Endless);
        }
        if !self.seen.insert(name) {
            return Ok(());
        }
        self.open.push(name);
        self.soft(&module.before);
        for needed in &module.needs {
            self.module(needed)?;
        }
        self.steps.push(Step {
            name: name.clone(),
            file: module.file.clone(),
            needs: module.needs.clone(),
        });
        // One that comes after usually depends on this one, which is no circle.
        self.open.pop();
        self.soft(&module.after);
        Ok(())
    }

    /// A soft dependency helps where it can be had; two modules may name each other.
    fn soft(&mut self, names: &[String]) {
        for name in names {
            let (depth, length, seen) = (self.open.len(), self.steps.len(), self.seen.clone());
            if self.module(name).is_err() {
                self.open.truncate(depth);
                self.steps.truncate(length);
                self.seen = seen;
            }
        }
    }
}

/// `kernel/drivers/net/virtio-net.ko.zst` is `virtio_net`.
fn name_of_file(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normal_name(base.split_once(".ko").map_or(base, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dep: &str, softdep: &str, name: &str, expected: &str) {
        check_without(dep, softdep, name, &[], expected);
    }

    fn check_without(dep: &str, softdep: &str, name: &str, missing: &[&str], expected: &str) {
        let mut steps = Dependencies::parse(dep, softdep).order(name).unwrap();
        let mut tried = Vec::new();
        while let Some(step) = steps.next() {
            if missing.contains(&step.name.as_str()) {
                steps.without(step.name.clone());
            }
            tried.push(step.name);
        }
        assert_eq!(tried.join(" "), expected);
    }

    const DEP: &str = "kvm-amd.ko.zst: kvm.ko.zst irqbypass.ko.zst ccp.ko.zst\n\
                       kvm.ko.zst: irqbypass.ko.zst\n\
                       irqbypass.ko.zst:\n\
                       kernel/drivers/crypto/ccp.ko.zst: rng-core.ko.zst\n\
                       rng-core.ko.zst:\n\
                       btrfs.ko.zst: xor.ko.zst\n\
                       xor.ko.zst:\n\
                       crc32c_generic.ko.zst:\n";

    #[test]
    fn what_is_needed_comes_first_and_once() {
        check(DEP, "", "kvm-amd", "irqbypass kvm rng_core ccp kvm_amd");
        check(DEP, "", "kvm_amd", "irqbypass kvm rng_core ccp kvm_amd");
        let mut steps = Dependencies::parse(DEP, "").order("ccp").unwrap();
        assert_eq!(steps.nth(1).unwrap().file, "kernel/drivers/crypto/ccp.ko.zst");
    }

    #[test]
    fn soft_dependencies_come_before_and_after_where_they_exist() {
        let soft = "softdep btrfs pre: crc32c-generic missing post: rng-core\n# a comment\nsoftdep unknown pre: kvm\n";
        check(DEP, soft, "btrfs", "crc32c_generic xor btrfs rng_core");
        check(
            DEP,
            "softdep kvm post: kvm-amd",
            "kvm",
            "irqbypass kvm rng_core ccp kvm_amd",
        );
    }

    #[test]
    fn a_missing_module_ends_what_needs_it_and_nothing_else() {
        let soft = "softdep btrfs pre: crc32c-generic kvm post: ccp\n";
        let all = "crc32c_generic irqbypass kvm xor btrfs rng_core ccp";
        check(DEP, soft, "btrfs", all);
        check_without(DEP, soft, "btrfs", &["crc32c_generic", "kvm", "ccp"], all);
        check_without(
            DEP,
            soft,
            "btrfs",
            &["irqbypass"],
            "crc32c_generic irqbypass xor btrfs rng_core ccp",
        );
        check_without(
            DEP,
            soft,
            "btrfs",
            &["xor"],
            "crc32c_generic irqbypass kvm xor rng_core ccp",
        );
        // Missing is handed on from one to the next.
        check_without("c: b\nb: a\na:\n", "", "c", &["a"], "a");
    }

    #[test]
    fn what_needs_a_module_is_found_through_others_and_not_by_what_only_helps() {
        let found = |dep: &str, soft: &str, name: &str| {
            let names = Dependencies::parse(dep, soft).needing(name);
            names.into_iter().collect::<Vec<_>>().join(" ")
        };
        let dep = "sd-mod: scsi-mod\nahci: libata\nlibata: scsi-mod\nscsi-mod: common\ncommon:\nnvme:\n";
        assert_eq!(
            found(dep, "softdep nvme pre: libata", "scsi-mod"),
            "ahci libata scsi_mod sd_mod"
        );
        assert_eq!(found(dep, "", "nvme"), "nvme");
        assert_eq!(found("a: b\nb: a\n", "", "a"), "a b");
    }

    #[test]
    fn soft_circles_are_cut_and_hard_ones_refused() {
        let soft = "softdep kvm post: xor\nsoftdep xor post: kvm\n";
        check(DEP, soft, "kvm", "irqbypass kvm xor");
        let circle = Dependencies::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
        assert_eq!(
            circle.order("a").unwrap_err(),
            OrderError::Endless { name: "a".to_owned() }
        );
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let dependencies = Dependencies::parse("a.ko: b.ko\n", "");
        assert_eq!(
            dependencies.order("a").unwrap_err(),
            OrderError::Unknown { name: "b".to_owned() }
        );
    }
}
