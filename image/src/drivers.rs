//! The list of kernel modules in drivers.toml.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The list itself.
const LIST: &str = include_str!("../drivers.toml");

/// Kernel modules of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drivers {
    /// Loaded at every boot, beside the devices' own.
    pub node: Group,
    /// Loaded at every boot once the node is ready.
    pub guests: Group,
    /// Loaded when a device asks for them.
    pub group: BTreeMap<String, Group>,
}

/// Modules with one purpose.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What they are for.
    pub why: String,
    /// Names of modules.
    pub modules: Vec<String>,
}

impl Drivers {
    /// Reads drivers.toml.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read() -> Result<Self> {
        toml::from_str(LIST).context("read drivers.toml")
    }

    /// All names, those that are loaded at every boot first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let groups = self.group.values().flat_map(|group| &group.modules);
        let always = self.node.modules.iter().chain(&self.guests.modules);
        always.chain(groups).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn list_is_well_formed_and_names_a_module_once_a_group() {
        let drivers = Drivers::read().unwrap();
        for group in drivers.group.values().chain([&drivers.node, &drivers.guests]) {
            let unique: BTreeSet<_> = group.modules.iter().collect();
            assert_eq!(unique.len(), group.modules.len(), "{}", group.why);
        }
        assert!(drivers.names().any(|name| name == "nvme"));
    }
}
