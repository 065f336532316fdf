//! The workload's root: the image below, memory above, and nothing of the initramfs left.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use node_api::guest::{Config, Network, ROOT_SERIAL};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};

use super::disks::{self, DiskError};
use crate::mounts::{self, GUEST_EARLY, GUEST_ROOT, MountError};

const LOWER: &str = "/zos-lower";
const OVER: &str = "/zos-over";
const NEW: &str = "/zos-root";

/// Why there is no new root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The image's disk is missing.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file system of the new root cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A step failed.
    #[error("{step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> RootError {
    move |cause| RootError::Step {
        step,
        cause: cause.into(),
    }
}

/// Makes the new root and moves this process into it.
///
/// # Errors
/// [`RootError`] for the first step that failed.
pub fn switch(config: &Config) -> Result<(), RootError> {
    let disk = disks::find(ROOT_SERIAL)?;
    for dir in [LOWER, OVER, NEW] {
        fs::create_dir_all(dir).map_err(step("make mount points"))?;
    }
    mount(&disk, LOWER, "squashfs", MountFlags::RDONLY | MountFlags::NODEV, None)
        .map_err(step("mount the image, a squashfs"))?;
    mount("tmpfs", OVER, "tmpfs", MountFlags::NODEV, None).map_err(step("mount memory above the image"))?;
    overlay().map_err(step("join image and memory"))?;
    mounts::apply(GUEST_ROOT, Path::new(NEW))?;
    write_files(Path::new(NEW), config).map_err(step("write files of the new root"))?;
    link_streams(&Path::new(NEW).join("dev")).map_err(step("link standard streams"))?;
    free_initramfs();
    for old in GUEST_EARLY.iter().rev() {
        // What is still open in the old place, such as the console, stays open.
        let _ = unmount(old.target, UnmountFlags::DETACH);
    }
    std::env::set_current_dir(NEW).map_err(step("enter the new root"))?;
    mount_move(".", "/").map_err(step("move the new root"))?;
    rustix::process::chroot(".").map_err(step("change root"))?;
    std::env::set_current_dir("/").map_err(step("enter the new root"))
}

fn overlay() -> io::Result<()> {
    let (upper, work) = (format!("{OVER}/upper"), format!("{OVER}/work"));
    fs::create_dir(&upper)?;
    fs::create_dir(&work)?;
    // The top directory is the upper layer's: it takes the image's owner and mode.
    let top = fs::metadata(LOWER)?;
    std::os::unix::fs::chown(&upper, Some(top.uid()), Some(top.gid()))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(top.mode() & 0o7777))?;
    let options =
        CString::new(format!("lowerdir={LOWER},upperdir={upper},workdir={work}")).map_err(io::Error::other)?;
    Ok(mount(
        "overlay",
        NEW,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?)
}

fn write_files(root: &Path, config: &Config) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    let files = [
        ("hostname", format!("{}\n", config.hostname)),
        ("hosts", hosts(&config.hostname, config.network.as_ref())),
        ("resolv.conf", resolv_conf(config.network.as_ref())),
    ];
    for (name, text) in files {
        let path = etc.join(name);
        // The image may have a link here that leads nowhere.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::write(&path, text)?,
        }
    }
    Ok(())
}

/// The links that programs expect and devtmpfs does not make.
fn link_streams(dev: &Path) -> io::Result<()> {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        match symlink(target, dev.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn hosts(hostname: &str, network: Option<&Network>) -> String {
    let own = network.map_or_else(|| "127.0.1.1".to_owned(), |network| network.address.to_string());
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own} {hostname}\n")
}

fn resolv_conf(network: Option<&Network>) -> String {
    network
        .into_iter()
        .flat_map(|network| &network.dns)
        .map(|server| format!("nameserver {server}\n"))
        .collect()
}

/// Gives the initramfs' memory back. What cannot be removed stays, which costs memory alone.
fn free_initramfs() {
    let Ok(own) = fs::symlink_metadata("/") else { return };
    for entry in fs::read_dir("/").into_iter().flatten().flatten() {
        let kept = [LOWER, OVER, NEW].iter().any(|dir| Path::new(dir) == entry.path());
        let Ok(metadata) = entry.metadata() else { continue };
        if kept || metadata.dev() != own.dev() {
            continue;
        }
        let _ = if metadata.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use node_api::guest::Process;

    use super::*;

    fn config() -> Config {
        let network = Network {
            address: Ipv4Addr::new(10, 0, 0, 2),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            dns: vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(9, 9, 9, 9)],
            mtu: 1500,
        };
        let process = Process {
            argv: Vec::new(),
            env: Vec::new(),
            cwd: String::new(),
            uid: 0,
            gid: 0,
        };
        Config {
            hostname: "web".to_owned(),
            process,
            network: Some(network),
            volumes: Vec::new(),
        }
    }

    #[test]
    fn names_are_written_even_over_a_dangling_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("/nowhere/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        write_files(dir.path(), &config()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join("etc").join(name)).unwrap();
        assert_eq!(read("resolv.conf"), "nameserver 10.0.0.1\nnameserver 9.9.9.9\n");
        assert_eq!(read("hostname"), "web\n");
        assert!(read("hosts").ends_with("10.0.0.2 web\n"));
    }

    #[test]
    fn standard_streams_are_linked_once() {
        let dir = tempfile::tempdir().unwrap();
        link_streams(dir.path()).unwrap();
        link_streams(dir.path()).unwrap();
        assert_eq!(
            fs::read_link(dir.path().join("stdout")).unwrap(),
            Path::new("/proc/self/fd/1")
        );
    }
}
