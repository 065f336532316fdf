//! Which kernel modules an image ships, and the lists that say how to load them.
//!
//! The lists of depmod for a whole kernel are cut down to what is shipped, and every path in them becomes a bare
//! file name. Names of modules are written with underscores throughout, as the kernel reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What depmod knows about the modules of a kernel.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Path below the directory of modules, and names of direct and indirect dependencies, by name.
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    /// Pattern and name of a module, in the order of the file.
    aliases: Vec<(String, String)>,
    /// Name and the rest of the line, in the order of the file.
    softdeps: Vec<(String, String)>,
}

/// Text of the files that depmod makes.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    /// modules.dep.
    pub dep: &'a str,
    /// modules.builtin.
    pub builtin: &'a str,
    /// modules.alias.
    pub alias: &'a str,
    /// modules.softdep.
    pub softdep: &'a str,
}

/// Modules in an order in which each comes after all that it depends on.
pub type Selection = Vec<String>;

impl Index {
    /// Reads the lists in the directory `lib/modules/RELEASE`.
    ///
    /// # Errors
    /// If one is missing or malformed.
    pub fn load(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let (dep, builtin) = (read("modules.dep")?, read("modules.builtin")?);
        let (alias, softdep) = (read("modules.alias")?, read("modules.softdep")?);
        Self::parse(Lists {
            dep: &dep,
            builtin: &builtin,
            alias: &alias,
            softdep: &softdep,
        })
    }

    /// Reads lists.
    ///
    /// # Errors
    /// If modules.dep is malformed.
    pub fn parse(lists: Lists<'_>) -> Result<Self> {
        let mut index = Self::default();
        for line in lists.dep.lines() {
            let (path, needs) = line.split_once(':').with_context(|| format!("modules.dep: {line}"))?;
            let needs = needs.split_whitespace().map(name_of).collect();
            index.modules.insert(name_of(path), (path.to_owned(), needs));
        }
        index.builtin = lists.builtin.lines().map(name_of).collect();
        for line in lists.alias.lines() {
            if let Some((pattern, name)) = line.strip_prefix("alias ").and_then(|rest| rest.rsplit_once(' ')) {
                index.aliases.push((pattern.to_owned(), name_of(name)));
            }
        }
        for line in lists.softdep.lines() {
            if let Some((name, rest)) = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' ')) {
                index.softdeps.push((name_of(name), rest.to_owned()));
            }
        }
        Ok(index)
    }

    /// Path of the module `name` below the directory that the index was loaded from.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.modules.get(name).map(|(path, _)| PathBuf::from(path))
    }

    /// The modules `wanted` with all that they depend on, hard or soft. What is built in is left out.
    ///
    /// # Errors
    /// If the kernel does not know a wanted name.
    pub fn select<'a>(&self, wanted: impl Iterator<Item = &'a str>) -> Result<Selection> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            let name = name_of(name);
            ensure!(
                self.modules.contains_key(&name) || self.builtin.contains(&name),
                "the kernel has no module {name}"
            );
            self.visit(&name, &mut seen, &mut order);
        }
        Ok(order)
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Selection) {
        let Some((_, needs)) = self.modules.get(name) else {
            return;
        };
        if !seen.insert(name.to_owned()) {
            return;
        }
        for need in self.soft_needs(name).iter().chain(needs) {
            self.visit(need, seen, order);
        }
        order.push(name.to_owned());
    }

    /// Modules that `name` works better with.
    fn soft_needs(&self, name: &str) -> Vec<String> {
        let of_module = self.softdeps.iter().filter(|(module, _)| module == name);
        let words = of_module.flat_map(|(_, rest)| rest.split_whitespace().filter(|word| !is_heading(word)));
        words.flat_map(|word| self.named(word)).collect()
    }

    /// The modules that an entry of modules.softdep may mean: it is a name, or an alias of several, such as `crc32c`.
    fn named(&self, word: &str) -> Vec<String> {
        let aliased = self.aliases.iter().filter(|(pattern, _)| pattern == word);
        let mut modules: Vec<String> = aliased.map(|(_, module)| module.clone()).collect();
        modules.push(name_of(word));
        modules
    }

    /// modules.dep for `selection`; a line is `NAME.SUFFIX: NAME.SUFFIX …`.
    #[must_use]
    pub fn dep_list(&self, selection: &Selection, suffix: &str) -> String {
        let mut lines = Vec::new();
        for name in selection {
            let mut line = format!("{name}.{suffix}:");
            for need in self.modules.get(name).into_iter().flat_map(|(_, needs)| needs) {
                line.push_str(&format!(" {need}.{suffix}"));
            }
            lines.push(line);
        }
        sorted(lines)
    }

    /// modules.alias for `selection`.
    #[must_use]
    pub fn alias_list(&self, selection: &Selection) -> String {
        let shipped: BTreeSet<&String> = selection.iter().collect();
        let kept = self.aliases.iter().filter(|(_, name)| shipped.contains(name));
        sorted(kept.map(|(pattern, name)| format!("alias {pattern} {name}")).collect())
    }

    /// modules.softdep for `selection`, with the modules that are shipped in place of their aliases.
    #[must_use]
    pub fn softdep_list(&self, selection: &Selection) -> String {
        let shipped: BTreeSet<&String> = selection.iter().collect();
        let mut lines = Vec::new();
        for (name, rest) in self.softdeps.iter().filter(|(name, _)| shipped.contains(name)) {
            let mut line = format!("softdep {name}");
            for word in rest.split_whitespace() {
                if is_heading(word) {
                    line.push_str(&format!(" {word}"));
                } else {
                    let modules = self.named(word).into_iter().filter(|module| shipped.contains(module));
                    line.extend(modules.map(|module| format!(" {module}")));
                }
            }
            lines.push(line);
        }
        sorted(lines)
    }
}

/// Whether a word of modules.softdep says when the modules behind it are loaded: `pre:` or `post:`.
fn is_heading(word: &str) -> bool {
    word.ends_with(':')
}

/// The name of a module from its path, file name or name.
fn name_of(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn sorted(mut lines: Vec<String>) -> String {
    lines.sort_unstable();
    lines.dedup();
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index::parse(Lists {
            dep: "kernel/a/nvme.ko: kernel/a/nvme-core.ko kernel/a/base.ko\nkernel/a/nvme-core.ko: kernel/a/base.ko\n\
                  kernel/a/base.ko:\nkernel/b/crc32c-intel.ko:\nkernel/b/xfs.ko:\nkernel/c/other.ko:\n",
            builtin: "kernel/drivers/char/tpm/tpm_tis.ko\n",
            alias: "# comment\nalias pci:v*d*c01 nvme\nalias crypto-crc32c crc32c_intel\nalias pci:x other\n",
            softdep: "softdep xfs pre: crypto-crc32c\nsoftdep other post: xfs\n",
        })
        .unwrap()
    }

    #[test]
    fn dependencies_come_first_and_soft_ones_count() {
        let selection = index().select(["nvme", "xfs", "tpm_tis"].into_iter()).unwrap();
        assert_eq!(selection, ["base", "nvme_core", "nvme", "crc32c_intel", "xfs"]);
    }

    #[test]
    fn unknown_module_stops_the_build() {
        let error = index().select(["nvmee"].into_iter()).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module nvmee");
    }

    #[test]
    fn lists_speak_of_what_is_shipped_alone() {
        let index = index();
        let selection = index.select(["nvme", "xfs"].into_iter()).unwrap();
        let dep = index.dep_list(&selection, "ko.zst");
        assert_eq!(
            dep,
            "base.ko.zst:\ncrc32c_intel.ko.zst:\nnvme.ko.zst: nvme_core.ko.zst base.ko.zst\n\
             nvme_core.ko.zst: base.ko.zst\nxfs.ko.zst:\n"
        );
        assert_eq!(
            index.alias_list(&selection),
            "alias crypto-crc32c crc32c_intel\nalias pci:v*d*c01 nvme\n"
        );
        assert_eq!(index.softdep_list(&selection), "softdep xfs pre: crc32c_intel\n");
    }
}
