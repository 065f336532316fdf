//! The kernel's own wish for a module, such as a file system that is mounted for the first time.
//!
//! The kernel starts the program that `kernel.modprobe` names, with `-q -- NAME`, where NAME is a module or an alias of
//! one. That program is this one: there is no other in the image that could load a module.

use std::{collections::BTreeSet, path::Path, process::ExitCode, sync::Arc};

use crate::{
    modules::{load::Loader, normal_name},
    verify::Image,
};

/// Where the kernel keeps the program's path.
const SETTING: &str = "/proc/sys/kernel/modprobe";

/// Tells the kernel to ask this program.
///
/// # Errors
/// When the program's own path or the setting cannot be reached.
pub fn offer() -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    std::fs::write(SETTING, program.as_os_str().as_encoded_bytes())
}

/// Loads what the arguments name and ends with 0 if the image has it, with 1 if not.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let names: BTreeSet<String> = arguments.filter(|argument| !argument.starts_with('-')).collect();
    let Ok(image) = Image::open(Path::new("/")) else {
        return ExitCode::FAILURE;
    };
    let Ok(loader) = Loader::open(Arc::new(image), &super::command_line()) else {
        return ExitCode::FAILURE;
    };
    let mut wanted = loader.wanted(&names);
    if wanted.is_empty() {
        wanted = names.iter().map(|name| normal_name(name)).collect();
    }
    let outcome = loader.load(wanted, BTreeSet::new);
    if outcome.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
