//! The cgroup v2 tree of a node.
//!
//! ```text
//! /sys/fs/cgroup
//! ├── system        services, one leaf each: system/agent, …
//! └── vms           micro-VM monitors, one leaf each, made by the agent
//! ```

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Where the tree is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Controllers that are handed down to `system` and `vms`.
pub const CONTROLLERS: &[&str] = &["cpu", "memory", "pids", "io", "cpuset"];
/// The inner groups.
pub const GROUPS: &[&str] = &["system", "vms"];

/// Makes the inner groups and enables the controllers in them.
///
/// # Errors
/// When a group cannot be made. A controller that the kernel lacks is left out.
pub fn make_tree(root: &Path) -> io::Result<()> {
    enable(root)?;
    for group in GROUPS {
        let path = root.join(group);
        fs::create_dir_all(&path)?;
        enable(&path)?;
    }
    Ok(())
}

/// Makes the leaf of a service and opens its `cgroup.procs`, through which a process enters it.
///
/// # Errors
/// When the leaf cannot be made or opened.
pub fn service_leaf(root: &Path, name: &str) -> io::Result<fs::File> {
    let path: PathBuf = root.join("system").join(name);
    fs::create_dir_all(&path)?;
    fs::OpenOptions::new().write(true).open(path.join("cgroup.procs"))
}

fn enable(group: &Path) -> io::Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    let mut control = fs::OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.subtree_control"))?;
    for controller in CONTROLLERS {
        if available.split_whitespace().any(|name| name == *controller) {
            // One a write, so that one which is busy does not keep the others out.
            let _ = control.write_all(format!("+{controller}").as_bytes());
        }
    }
    Ok(())
}
