//! Checks of the configuration, before any descriptor in it is touched.

use std::collections::BTreeMap;

use node_api::vmm::{Config, MAX_DEVICES, MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB};

/// Most bytes of a configuration.
pub const MAX_CONFIG: u64 = 64 * 1024;
/// Most bytes of a kernel command line.
pub const MAX_COMMAND_LINE: usize = 2047;
/// Most bytes of a disk's serial.
pub const MAX_SERIAL: usize = 20;
/// Least and most bytes of the serial log.
pub const SERIAL_LIMITS: std::ops::RangeInclusive<u64> = 4096..=64 * 1024 * 1024;
/// First descriptor number that a configuration may name; below are the standard ones.
pub const FIRST_DESCRIPTOR: i32 = 3;

/// What is wrong with a configuration: which field, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct ConfigError {
    /// The field, as a path such as `disks[0].fd`.
    pub field: String,
    /// What is right.
    pub rule: String,
}

impl ConfigError {
    /// An error of `field` that breaks `rule`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

/// Reads a configuration from its JSON text and checks it.
///
/// # Errors
/// [`ConfigError`] of the first field that is wrong.
pub fn parse(text: &[u8]) -> Result<Config, ConfigError> {
    let config: Config =
        serde_json::from_slice(text).map_err(|error| ConfigError::new("configuration", error.to_string()))?;
    check(&config)?;
    Ok(config)
}

/// Checks every field against its rule.
///
/// # Errors
/// [`ConfigError`] of the first field that is wrong.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let id_is_good = (1..=64).contains(&config.id.len())
        && config
            .id
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    rule(id_is_good, "id", "1 to 64 of a-z, 0-9 and -")?;
    rule(
        (1..=MAX_VCPUS).contains(&config.vcpus),
        "vcpus",
        format!("1 to {MAX_VCPUS}"),
    )?;
    rule(
        (MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&config.memory_mib),
        "memory_mib",
        format!("{MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}"),
    )?;
    rule(
        config.command_line.len() <= MAX_COMMAND_LINE && printable(&config.command_line),
        "command_line",
        format!("printable ASCII, at most {MAX_COMMAND_LINE} bytes"),
    )?;
    rule(
        config.disks.len() <= MAX_DEVICES,
        "disks",
        format!("at most {MAX_DEVICES}"),
    )?;
    for (index, disk) in config.disks.iter().enumerate() {
        rule(
            disk.serial.len() <= MAX_SERIAL && printable(&disk.serial),
            format!("disks[{index}].serial"),
            format!("printable ASCII, at most {MAX_SERIAL} bytes"),
        )?;
    }
    rule(
        config.networks.len() <= MAX_DEVICES,
        "networks",
        format!("at most {MAX_DEVICES}"),
    )?;
    for (index, network) in config.networks.iter().enumerate() {
        let unicast = network.mac[0] & 1 == 0 && network.mac != [0; 6];
        rule(
            unicast,
            format!("networks[{index}].mac"),
            "a unicast address that is not all zeros",
        )?;
    }
    if let Some(vsock) = &config.vsock {
        rule((3..u32::MAX).contains(&vsock.cid), "vsock.cid", "3 to 4294967294")?;
    }
    rule(
        SERIAL_LIMITS.contains(&config.serial.limit),
        "serial.limit",
        format!("{} to {} bytes", SERIAL_LIMITS.start(), SERIAL_LIMITS.end()),
    )?;
    if let Some(jail) = &config.jail {
        rule(
            jail.uid != 0 && jail.uid != u32::MAX,
            "jail.uid",
            "a user of this monitor alone, not 0",
        )?;
        rule(
            jail.gid != 0 && jail.gid != u32::MAX,
            "jail.gid",
            "a group of this monitor alone, not 0",
        )?;
    }
    check_descriptors(config)
}

/// Every descriptor of `config` with the path of its field.
#[must_use]
pub fn descriptors(config: &Config) -> Vec<(String, i32)> {
    let mut all = vec![
        ("kernel_fd".to_owned(), config.kernel_fd),
        ("kvm_fd".to_owned(), config.kvm_fd),
    ];
    all.extend(config.initrd_fd.map(|fd| ("initrd_fd".to_owned(), fd)));
    all.extend(
        config
            .disks
            .iter()
            .enumerate()
            .map(|(index, disk)| (format!("disks[{index}].fd"), disk.fd)),
    );
    all.extend(
        config
            .networks
            .iter()
            .enumerate()
            .map(|(index, net)| (format!("networks[{index}].fd"), net.fd)),
    );
    all.extend(
        config
            .vsock
            .iter()
            .map(|vsock| ("vsock.listener_fd".to_owned(), vsock.listener_fd)),
    );
    all.push(("serial.fd".to_owned(), config.serial.fd));
    all.push(("control_fd".to_owned(), config.control_fd));
    let cgroup = config.jail.as_ref().and_then(|jail| jail.cgroup_procs_fd);
    all.extend(cgroup.map(|fd| ("jail.cgroup_procs_fd".to_owned(), fd)));
    all
}

fn check_descriptors(config: &Config) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (field, fd) in descriptors(config) {
        rule(
            fd >= FIRST_DESCRIPTOR,
            field.as_str(),
            format!("a descriptor number, {FIRST_DESCRIPTOR} or more"),
        )?;
        if let Some(other) = seen.insert(fd, field.clone()) {
            return Err(ConfigError::new(
                field,
                format!("a descriptor of its own; {fd} is {other} already"),
            ));
        }
    }
    Ok(())
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn rule(holds: bool, field: impl Into<String>, rule: impl Into<String>) -> Result<(), ConfigError> {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::new(field, rule))
    }
}

#[cfg(test)]
mod tests {
    use node_api::vmm::{Access, Disk, Jail, Network, Serial, Vsock};

    use super::*;

    fn good() -> Config {
        Config {
            id: "vm-1".into(),
            vcpus: 2,
            memory_mib: 128,
            kernel_fd: 3,
            initrd_fd: Some(4),
            command_line: "console=ttyS0".into(),
            kvm_fd: 5,
            disks: vec![Disk {
                fd: 6,
                access: Access::ReadOnly,
                serial: "root".into(),
            }],
            networks: vec![Network {
                fd: 7,
                mac: [2, 0, 0, 0, 0, 1],
            }],
            vsock: Some(Vsock { cid: 3, listener_fd: 8 }),
            serial: Serial { fd: 9, limit: 65536 },
            control_fd: 10,
            jail: Some(Jail {
                uid: 100_000,
                gid: 100_000,
                cgroup_procs_fd: Some(11),
            }),
        }
    }

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = good();
        change(&mut config);
        check(&config).expect_err("the change breaks a rule").field
    }

    #[test]
    fn good_configuration_survives_its_json_form() {
        let text = serde_json::to_vec(&good()).unwrap();
        assert_eq!(parse(&text), Ok(good()));
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        assert_eq!(refused(|config| config.id = String::new()), "id");
        assert_eq!(refused(|config| config.id = "A b".into()), "id");
        assert_eq!(refused(|config| config.vcpus = 0), "vcpus");
        assert_eq!(refused(|config| config.vcpus = MAX_VCPUS + 1), "vcpus");
        assert_eq!(refused(|config| config.memory_mib = MIN_MEMORY_MIB - 1), "memory_mib");
        assert_eq!(refused(|config| config.command_line = "a\nb".into()), "command_line");
        assert_eq!(refused(|config| config.command_line = "a".repeat(2048)), "command_line");
        assert_eq!(
            refused(|config| config.disks[0].serial = "x".repeat(21)),
            "disks[0].serial"
        );
        assert_eq!(
            refused(|config| config.networks[0].mac = [1, 0, 0, 0, 0, 0]),
            "networks[0].mac"
        );
        assert_eq!(refused(|config| config.vsock.as_mut().unwrap().cid = 2), "vsock.cid");
        assert_eq!(refused(|config| config.serial.limit = 1), "serial.limit");
        assert_eq!(refused(|config| config.jail.as_mut().unwrap().uid = 0), "jail.uid");
        assert_eq!(refused(|config| config.jail.as_mut().unwrap().gid = 0), "jail.gid");
        let disk = good().disks[0].clone();
        assert_eq!(refused(|config| config.disks = vec![disk; 17]), "disks");
    }

    #[test]
    fn descriptors_are_above_the_standard_ones_and_never_named_twice() {
        assert_eq!(refused(|config| config.kernel_fd = 2), "kernel_fd");
        assert_eq!(refused(|config| config.control_fd = -1), "control_fd");
        assert_eq!(
            refused(|config| config.vsock.as_mut().unwrap().listener_fd = 6),
            "vsock.listener_fd"
        );
    }

    #[test]
    fn unknown_field_and_missing_field_are_refused() {
        let mut value = serde_json::to_value(good()).unwrap();
        value["colour"] = 1.into();
        let error = parse(value.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        let mut value = serde_json::to_value(good()).unwrap();
        value.as_object_mut().unwrap().remove("kvm_fd");
        let error = parse(value.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("kvm_fd"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_an_answer(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512)) {
            assert!(parse(&text).is_err());
        }
    }
}
