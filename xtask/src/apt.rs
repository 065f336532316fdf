//! Asking apt, and making it install or download.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{Set, Versions};
use crate::process;

/// What apt knows of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    version: String,
    /// Alternatives of each dependency.
    depends: Vec<Vec<String>>,
}

/// Where apt looks for packages that are unpacked only.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// What apt is told before anything else.
    options: Vec<String>,
}

/// Keys of Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Archive {
    /// Another suite of the archive that the system is installed from. apt's files of it are kept in `directory`; the
    /// system's own stay as they are.
    pub(crate) fn of_suite(suite: &str, directory: &Path) -> Result<Self> {
        let targets = [
            "indextargets",
            "--format",
            "$(REPO_URI) $(CODENAME) $(COMPONENT)",
            "Created-By: Packages",
        ];
        let known = process::output(Command::new("apt-get").args(targets).env("LC_ALL", "C"))?;
        let address = main_archive(&known).context("apt has no source with the component main of Debian 12")?;
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let sources = directory.join("sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {address} {suite} main\n"))
            .with_context(|| format!("write {}", sources.display()))?;
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", directory.join("lists").display()),
            format!("Dir::Cache={}", directory.join("cache").display()),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let archive = Self {
            options: options
                .into_iter()
                .flat_map(|option| ["-o".to_owned(), option])
                .collect(),
        };
        process::output(archive.tool("apt-get").args(["update", "-qq"]))
            .with_context(|| format!("fetch the list of {suite}"))?;
        Ok(archive)
    }

    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    /// Packages of a set with their versions.
    pub(crate) fn resolve(&self, set: &Set) -> Result<Versions> {
        let mut todo: Vec<String> = match &set.metapackage {
            Some(name) => vec![self.stands_for(name)?],
            None => set.packages.clone(),
        };
        let mut versions = BTreeMap::new();
        while !todo.is_empty() {
            let found = self.known(&todo)?;
            let mut next = BTreeSet::new();
            for name in &todo {
                let package = found
                    .get(name)
                    .with_context(|| format!("apt knows no package {name}"))?;
                versions.insert(name.clone(), package.version.clone());
                if set.depends {
                    let chosen = package.depends.iter().filter_map(|alternatives| alternatives.first());
                    next.extend(chosen.filter(|name| !set.without.contains(*name)).cloned());
                }
            }
            todo = next.into_iter().filter(|name| !versions.contains_key(name)).collect();
        }
        Ok(versions)
    }

    /// Downloads packages into `directory`.
    pub(crate) fn download(&self, packages: &Versions, directory: &Path) -> Result<()> {
        let mut command = self.tool("apt-get");
        // Downloading needs no rights, but apt complains if it has them and cannot give them up.
        command
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .current_dir(directory);
        command.args(packages.iter().map(|(name, version)| format!("{name}={version}")));
        process::output(&mut command).map(drop).context("download packages")
    }

    /// The package that a metapackage depends on first.
    fn stands_for(&self, metapackage: &str) -> Result<String> {
        let found = self.known(&[metapackage.to_owned()])?;
        let package = found
            .get(metapackage)
            .with_context(|| format!("apt knows no package {metapackage}"))?;
        let first = package.depends.first().and_then(|alternatives| alternatives.first());
        first
            .cloned()
            .with_context(|| format!("{metapackage} depends on nothing"))
    }

    fn known(&self, packages: &[String]) -> Result<BTreeMap<String, Known>> {
        let mut command = self.tool("apt-cache");
        command.args(["show", "--no-all-versions"]).args(packages);
        let text = process::output(&mut command).with_context(|| format!("ask for {}", packages.join(", ")))?;
        Ok(parse(&text))
    }
}

/// The address of Debian 12's component main among the lines that `apt-get indextargets` prints.
fn main_archive(targets: &str) -> Option<&str> {
    targets
        .lines()
        .find_map(|line| line.strip_suffix(" bookworm main"))
        .map(str::trim)
}

/// Fetches the lists of packages anew.
pub(crate) fn update() -> Result<()> {
    process::output(as_root("apt-get").args(["update", "-qq"]))
        .map(drop)
        .context("fetch the lists of packages")
}

/// Installs packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let mut command = as_root("apt-get");
    command.args([
        "install",
        "-qq",
        "--yes",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    process::output(command.args(packages))
        .map(drop)
        .context("install packages")
}

/// Whether apt knows the package.
pub(crate) fn knows(package: &str) -> bool {
    Archive::default()
        .known(&[package.to_owned()])
        .is_ok_and(|known| known.contains_key(package))
}

/// Reads the paragraphs that `apt-cache show` prints.
fn parse(text: &str) -> BTreeMap<String, Known> {
    let mut packages = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let (Some(name), Some(version)) = (field("Package:"), field("Version:")) else {
            continue;
        };
        let depends = [field("Pre-Depends:"), field("Depends:")];
        let depends = depends
            .into_iter()
            .flatten()
            .flat_map(|list| list.split(','))
            .map(alternatives)
            .collect();
        packages.insert(
            name.to_owned(),
            Known {
                version: version.to_owned(),
                depends,
            },
        );
    }
    packages
}

/// Names in `a (>= 1) | b:any`.
fn alternatives(dependency: &str) -> Vec<String> {
    let name = |text: &str| text.trim().split([' ', ':', '(']).next().unwrap_or_default().to_owned();
    dependency.split('|').map(name).collect()
}

fn as_root(program: &str) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", program]);
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

/// Unpacks a downloaded package into `directory`.
pub(crate) fn unpack(debs: &Path, name: &str, version: &str, directory: &Path) -> Result<()> {
    // apt writes the colon of an epoch as %3a.
    let prefix = format!("{name}_{}_", version.replace(':', "%3a"));
    let entries = std::fs::read_dir(debs).with_context(|| format!("list {}", debs.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let mut command = Command::new("dpkg-deb");
            return process::output(command.arg("-x").arg(entry.path()).arg(directory)).map(drop);
        }
    }
    bail!("package {name} {version} was not downloaded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_the_one_that_debian_12_comes_from() {
        let targets = "http://a/security/ bookworm-security main\nhttp://b/debian/ bookworm-updates main\n\
                       http://b/debian/ bookworm contrib\nhttp://b/debian/ bookworm main\nhttp://c/ nodistro main\n";
        assert_eq!(main_archive(targets), Some("http://b/debian/"));
        assert_eq!(main_archive("http://c/ trixie main\n"), None);
    }

    #[test]
    fn paragraph_gives_version_and_first_choices() {
        let text = "Package: nginx\nVersion: 1:2-3\nPre-Depends: libc6 (>= 2.34)\nDepends: python3:any, a (>= 1) | b, c\n\n\
                    Package: a\nVersion: 1\n";
        let packages = parse(text);
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let depends = vec![
            words(&["libc6"]),
            words(&["python3"]),
            words(&["a", "b"]),
            words(&["c"]),
        ];
        assert_eq!(
            packages["nginx"],
            Known {
                version: "1:2-3".into(),
                depends
            }
        );
        assert_eq!(packages["a"].depends, Vec::<Vec<String>>::new());
    }
}
