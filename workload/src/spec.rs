//! What a contract is to run.

use std::{collections::BTreeSet, fmt};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Longest name of a workload or a volume in bytes: that of a host name's label (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 63;
/// Most variables of the environment, and most arguments.
const MAX_WORDS: usize = 256;
/// Longest mount point in bytes.
const MAX_MOUNT: usize = 255;
/// Most ports.
pub const MAX_PORTS: usize = 32;
/// Most volumes.
pub const MAX_VOLUMES: usize = 8;
/// Smallest volume in bytes: what a file system with a journal needs.
pub const MIN_VOLUME: u64 = 16 << 20;

/// What a contract is to run, beside the image. Holds secrets: shown without values by `Debug`.
///
/// The bounds of every field are checked by [`Workload::check`], which sealing and opening both do: nothing that breaks them
/// travels.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The guest's host name: 1 to 63 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Environment, name and value, over that of the image.
    pub env: Vec<(String, String)>,
    /// Replaces the image's command, if given.
    pub args: Option<Vec<String>>,
    /// TCP ports to which the customer may open tunnels.
    pub ports: Vec<u16>,
    /// Writable disks.
    pub volumes: Vec<Volume>,
}

/// A writable disk that outlives the micro-VM.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Distinct within the workload: 1 to 63 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Bytes, at least [`MIN_VOLUME`].
    pub size: u64,
    /// Absolute path without `.`, `..` or empty parts; not the root.
    pub mount: String,
}

/// A bound that a workload breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bound {
    /// A name of the workload or a volume.
    #[error("name {0:?} must be 1 to {MAX_NAME} of a-z, 0-9 and -, beginning and ending with a letter or digit")]
    Name(String),
    /// A variable of the environment. Its value is not shown.
    #[error("environment variable {0:?} must have a name without = and no zero byte")]
    Variable(String),
    /// An argument.
    #[error("argument {0} has a zero byte")]
    Argument(usize),
    /// Too many of something.
    #[error("{actual} {what}, at most {limit} are allowed")]
    Count {
        /// What there is too much of.
        what: &'static str,
        /// How many were given.
        actual: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The command is given and has no word.
    #[error("args are given and empty")]
    NoCommand,
    /// A port.
    #[error("port {0} is zero or named twice")]
    Port(u16),
    /// A mount point.
    #[error("volume {0:?}: mount {1:?} must be an absolute path, not / and without . and .., that no other volume has")]
    Mount(String, String),
    /// Two volumes have the same name.
    #[error("volume {0:?} is named twice")]
    VolumeTwice(String),
    /// A volume is too small.
    #[error("volume {0:?} has {1} bytes, at least {MIN_VOLUME} are needed")]
    VolumeSize(String, u64),
}

impl Workload {
    /// Checks the bounds of every field.
    ///
    /// # Errors
    /// [`Bound`] names the first that is broken.
    pub fn check(&self) -> Result<(), Bound> {
        check_name(&self.name)?;
        check_count("environment variables", self.env.len(), MAX_WORDS)?;
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(Bound::Variable(name.chars().take(MAX_NAME).collect()));
            }
        }
        if let Some(args) = &self.args {
            check_count("arguments", args.len(), MAX_WORDS)?;
            if args.first().is_none_or(String::is_empty) {
                return Err(Bound::NoCommand);
            }
            if let Some(index) = args.iter().position(|word| word.contains('\0')) {
                return Err(Bound::Argument(index));
            }
        }
        check_count("ports", self.ports.len(), MAX_PORTS)?;
        let mut ports = BTreeSet::new();
        if let Some(port) = self.ports.iter().find(|port| **port == 0 || !ports.insert(**port)) {
            return Err(Bound::Port(*port));
        }
        self.check_volumes()
    }

    fn check_volumes(&self) -> Result<(), Bound> {
        check_count("volumes", self.volumes.len(), MAX_VOLUMES)?;
        let (mut names, mut mounts) = (BTreeSet::new(), BTreeSet::new());
        for volume in &self.volumes {
            check_name(&volume.name)?;
            if !names.insert(&volume.name) {
                return Err(Bound::VolumeTwice(volume.name.clone()));
            }
            if volume.size < MIN_VOLUME {
                return Err(Bound::VolumeSize(volume.name.clone(), volume.size));
            }
            if !is_mount_point(&volume.mount) || !mounts.insert(&volume.mount) {
                let mount = volume.mount.chars().take(MAX_MOUNT).collect();
                return Err(Bound::Mount(volume.name.clone(), mount));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Workload")
            .field("name", &self.name)
            .field("env", &names)
            .field("args", &self.args.as_ref().map(Vec::len))
            .field("ports", &self.ports)
            .field("volumes", &self.volumes)
            .finish()
    }
}

fn check_count(what: &'static str, actual: usize, limit: usize) -> Result<(), Bound> {
    if actual > limit {
        return Err(Bound::Count { what, actual, limit });
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Bound> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let whole = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed);
    if whole && !name.starts_with('-') && !name.ends_with('-') {
        Ok(())
    } else {
        Err(Bound::Name(name.chars().take(MAX_NAME + 1).collect()))
    }
}

fn is_mount_point(path: &str) -> bool {
    let parts = path.strip_prefix('/').unwrap_or_default();
    path.len() <= MAX_MOUNT
        && !path.chars().any(char::is_control)
        && !parts.is_empty()
        && parts.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn workload() -> Workload {
        Workload {
            name: "web".into(),
            env: vec![("TOKEN".into(), "secret=1".into())],
            args: Some(vec!["nginx".into(), "-g".into(), "daemon off;".into()]),
            ports: vec![80],
            volumes: vec![Volume {
                name: "content".into(),
                size: 64 << 20,
                mount: "/var/www".into(),
            }],
        }
    }

    fn broken(change: impl FnOnce(&mut Workload)) -> Bound {
        let mut workload = workload();
        change(&mut workload);
        workload.check().unwrap_err()
    }

    #[test]
    fn a_workload_within_its_bounds_is_accepted() {
        assert_eq!(workload().check(), Ok(()));
    }

    #[test]
    fn every_bound_is_named_when_it_is_broken() {
        for name in ["", "-a", "a-", "Web", "a.b", "a\0", &"a".repeat(64)] {
            assert!(matches!(broken(|w| w.name = name.into()), Bound::Name(_)), "{name:?}");
        }
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
            let bound = broken(|w| w.env.push((name.into(), value.into())));
            assert!(matches!(bound, Bound::Variable(_)), "{name:?}");
        }
        let many = vec![(String::from("A"), String::new()); MAX_WORDS + 1];
        assert!(matches!(broken(|w| w.env = many), Bound::Count { .. }));
        assert_eq!(broken(|w| w.args = Some(vec![])), Bound::NoCommand);
        assert_eq!(
            broken(|w| w.args = Some(vec!["a".into(), "\0".into()])),
            Bound::Argument(1)
        );
        assert_eq!(broken(|w| w.ports = vec![80, 80]), Bound::Port(80));
        assert_eq!(broken(|w| w.ports = vec![0]), Bound::Port(0));
        for mount in ["", "/", "relative", "/a/../b", "/a//b", "/a/", "/a/.", "/a\n"] {
            let bound = broken(|w| w.volumes[0].mount = mount.into());
            assert!(matches!(bound, Bound::Mount(..)), "{mount:?}");
        }
        assert!(matches!(broken(|w| w.volumes[0].size = 1), Bound::VolumeSize(..)));
        let twice = broken(|w| w.volumes.push(w.volumes[0].clone()));
        assert!(matches!(twice, Bound::VolumeTwice(_)));
        let same_mount = |w: &mut Workload| {
            let name = "other".into();
            w.volumes.push(Volume {
                name,
                ..w.volumes[0].clone()
            });
        };
        assert!(matches!(broken(same_mount), Bound::Mount(..)));
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let shown = format!("{:?}", workload());
        assert!(shown.contains("TOKEN") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn json_form_round_trips_and_refuses_unknown_fields() {
        let json = serde_json::to_string(&workload()).unwrap();
        assert_eq!(serde_json::from_str::<Workload>(&json).unwrap(), workload());
        let unknown = json.replacen('{', "{\"color\":1,", 1);
        assert!(serde_json::from_str::<Workload>(&unknown).is_err());
    }
}
