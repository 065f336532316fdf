//! `cargo xtask setup`: what the other commands need of Debian. Quick when all is there.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::Archive;
use crate::packages::{Packages, Record, Set, Versions};
use crate::workspace::Workspace;
use crate::{apt, console, process};

/// Options of the command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Take the newest packages even if older ones are here.
    #[arg(long)]
    update: bool,
}

/// Sets up, and says what is where.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    prepare(workspace, arguments.update)?;
    console::result(&format!("ready: packages are in {}", workspace.zos("root").display()));
    Ok(())
}

/// Sets up what is missing; in silence if nothing is.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    prepare(workspace, false)
}

fn prepare(workspace: &Workspace, update: bool) -> Result<()> {
    let directory = workspace.zos("");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let lock = directory.join("setup.lock");
    let lock = File::create(&lock).with_context(|| format!("open {}", lock.display()))?;
    lock.lock().context("wait for another set-up")?;

    let packages = Packages::read()?;
    let record_path = directory.join("packages.json");
    let record = Record::read(&record_path);
    let complete = |(name, _): &(&String, &Set)| {
        record.list == Packages::hash() && record.sets.contains_key(*name) && directory.join("root").join(name).is_dir()
    };
    let missing = packages.missing();
    let stale: Vec<_> = packages.set.iter().filter(|set| update || !complete(set)).collect();
    if missing.is_empty() && stale.is_empty() {
        return Ok(());
    }
    if !is_debian_12(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        bail!(elsewhere(&packages));
    }
    refresh_lists(&packages, update || !missing.is_empty())?;
    if !missing.is_empty() {
        for install in &missing {
            console::step(&format!("installing {}: {}", install.package, install.why));
        }
        let names: Vec<_> = missing.iter().map(|install| install.package.as_str()).collect();
        apt::install(&names)?;
    }
    let mut record = record;
    record.sets.retain(|name, _| packages.set.contains_key(name));
    for (name, set) in stale {
        console::step(&format!("unpacking {name}: {}", set.why));
        match fetch(&directory, name, set).with_context(|| format!("unpack {name}")) {
            Ok(versions) => drop(record.sets.insert(name.clone(), versions)),
            Err(error) if set.suite.is_some() => console::step(&format!("going on without {name}: {error:#}")),
            Err(error) => return Err(error),
        }
    }
    record.list = Packages::hash();
    record.write(&record_path)
}

/// Fetches apt's lists if something is to be installed, or if there are none.
fn refresh_lists(packages: &Packages, wanted: bool) -> Result<()> {
    let first = packages
        .install
        .first()
        .map(|install| install.package.as_str())
        .unwrap_or_default();
    if wanted || !apt::knows(first) {
        console::step("fetching Debian's lists of packages");
        if let Err(error) = apt::update() {
            // One source that does not answer does not matter if the others know all that is wanted.
            if !apt::knows(first) {
                return Err(error);
            }
            console::step(&format!("going on with the lists that are here: {error:#}"));
        }
    }
    Ok(())
}

/// Downloads and unpacks a set beside its place and then puts it there.
fn fetch(directory: &Path, name: &str, set: &Set) -> Result<Versions> {
    let debs = directory.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("make {}", debs.display()))?;
    let versions = match &set.suite {
        Some(suite) => download(
            &Archive::of_suite(suite, &directory.join("apt").join(suite))?,
            set,
            &debs,
        )?,
        None => download(&Archive::default(), set, &debs).or_else(|_| {
            // Lists that are too old name packages that the archive has no more.
            apt::update()?;
            download(&Archive::default(), set, &debs)
        })?,
    };
    let partial = directory.join("root").join(format!(".{name}"));
    let place = directory.join("root").join(name);
    for path in [&partial, &place] {
        if path.exists() {
            fs::remove_dir_all(path).with_context(|| format!("clear {}", path.display()))?;
        }
    }
    fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
    for (package, version) in &versions {
        apt::unpack(&debs, package, version, &partial)?;
    }
    if set.depmod {
        list_modules(&partial)?;
    }
    fs::rename(&partial, &place).with_context(|| format!("move {name} to {}", place.display()))?;
    fs::remove_dir_all(&debs).with_context(|| format!("clear {}", debs.display()))?;
    Ok(versions)
}

/// Downloads a set's packages and returns their versions.
fn download(archive: &Archive, set: &Set, debs: &Path) -> Result<Versions> {
    let versions = archive.resolve(set)?;
    archive.download(&versions, debs)?;
    Ok(versions)
}

fn list_modules(root: &Path) -> Result<()> {
    let modules = root.join("lib/modules");
    for entry in fs::read_dir(&modules).with_context(|| format!("list {}", modules.display()))? {
        let release = entry?.file_name();
        // A user's PATH on Debian lacks /sbin.
        process::output(Command::new("/sbin/depmod").arg("-b").arg(root).arg(release))?;
    }
    Ok(())
}

fn is_debian_12(os_release: &str) -> bool {
    let has = |wanted: &str| os_release.lines().any(|line| line.replace('"', "") == wanted);
    has("ID=debian") && has("VERSION_ID=12")
}

/// What to do on another system.
fn elsewhere(packages: &Packages) -> String {
    let mut text = "this is not Debian 12, so nothing was installed. Needed are:\n".to_owned();
    for install in &packages.install {
        text += &format!(
            "  {} (Debian's {}): {}\n",
            install.has.display(),
            install.package,
            install.why
        );
    }
    text += "and, unpacked from Debian 12 below target/zos/root:\n";
    for (name, set) in &packages.set {
        let names = set
            .metapackage
            .iter()
            .chain(&set.packages)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        text += &format!("  {name} ({names}): {}\n", set.why);
    }
    text + "The easiest way is a container or a virtual machine with Debian 12."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_alone_is_set_up() {
        assert!(is_debian_12(
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"
        ));
        assert!(!is_debian_12("VERSION_ID=\"13\"\nID=debian\n"));
        assert!(!is_debian_12("VERSION_ID=\"12\"\nID=ubuntu\n"));
    }

    #[test]
    fn advice_for_other_systems_names_every_package() {
        let packages = Packages::read().unwrap();
        let text = elsewhere(&packages);
        for install in &packages.install {
            assert!(text.contains(&install.package) && text.contains(&install.why), "{text}");
        }
        assert!(text.contains("linux-image-cloud-amd64"));
    }
}
