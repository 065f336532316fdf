//! The writable disks of a workload.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use node_api::guest::Volume;
use rustix::mount::{MountFlags, mount, mount_move};

use super::{
    disks::{self, DiskError},
    fill,
};

/// Where a volume is mounted while it is filled.
const STAGE: &str = "/run/zos-volume";

/// Why a volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Its disk is missing.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its place is not an absolute path below the root.
    #[error("volume {serial}: {mount} is not a place for a volume")]
    Place {
        /// Serial of its disk.
        serial: String,
        /// The place.
        mount: String,
    },
    /// A step failed.
    #[error("volume {serial}: {step}")]
    Step {
        /// Serial of its disk.
        serial: String,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

/// Mounts all volumes, outer ones first.
///
/// # Errors
/// [`VolumeError`] of the first that cannot be used: a workload never runs without its data.
pub fn mount_all(volumes: &[Volume]) -> Result<(), VolumeError> {
    for volume in in_order(volumes) {
        mount_one(volume)?;
    }
    Ok(())
}

fn in_order(volumes: &[Volume]) -> Vec<&Volume> {
    let mut ordered: Vec<&Volume> = volumes.iter().collect();
    ordered.sort_by_key(|volume| Path::new(&volume.mount).components().count());
    ordered
}

fn mount_one(volume: &Volume) -> Result<(), VolumeError> {
    let step = |step| {
        move |cause: io::Error| VolumeError::Step {
            serial: volume.serial.clone(),
            step,
            cause,
        }
    };
    let place = place(volume)?;
    let disk = disks::find(&volume.serial)?;
    fs::create_dir_all(STAGE).map_err(step("make its first mount point"))?;
    fs::create_dir_all(&place).map_err(step("make its mount point"))?;
    mount(&disk, STAGE, "ext4", MountFlags::NOSUID | MountFlags::NODEV, None)
        .map_err(io::Error::from)
        .map_err(step("mount its ext4"))?;
    fill::fill(&place, Path::new(STAGE)).map_err(step("copy what the image has at its place"))?;
    mount_move(STAGE, &place)
        .map_err(io::Error::from)
        .map_err(step("move it to its place"))?;
    fs::remove_dir(STAGE).map_err(step("remove its first mount point"))
}

fn place(volume: &Volume) -> Result<PathBuf, VolumeError> {
    let path = Path::new(&volume.mount);
    let mut components = path.components();
    let absolute = components.next() == Some(Component::RootDir);
    let rest: Vec<_> = components.collect();
    if absolute && !rest.is_empty() && rest.iter().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path.to_owned())
    } else {
        Err(VolumeError::Place {
            serial: volume.serial.clone(),
            mount: volume.mount.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(mount: &str) -> Volume {
        Volume {
            serial: "v".to_owned(),
            mount: mount.to_owned(),
        }
    }

    #[test]
    fn outer_volumes_come_first() {
        let volumes = [volume("/data/inner/most"), volume("/data"), volume("/data/inner")];
        let order: Vec<&str> = in_order(&volumes).iter().map(|volume| volume.mount.as_str()).collect();
        assert_eq!(order, ["/data", "/data/inner", "/data/inner/most"]);
    }

    #[test]
    fn only_absolute_normal_places_are_taken() {
        assert!(place(&volume("/var/lib/x")).is_ok());
        for bad in ["", "/", "data", "/data/../etc"] {
            assert!(place(&volume(bad)).is_err(), "{bad}");
        }
    }
}
