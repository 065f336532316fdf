//! Where `cargo xtask` puts what scenarios use.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use image::Flavour;

/// `target/zos`.
#[must_use]
pub fn zos_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("zos"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/zos"),
    }
}

/// The ISO of a flavour.
///
/// # Errors
/// If it has not been built.
pub fn iso(flavour: Flavour) -> Result<PathBuf> {
    let (path, option) = match flavour {
        Flavour::Release => ("zos.iso", ""),
        Flavour::Test => ("test/zos.iso", " --test"),
    };
    let path = zos_directory().join(path);
    ensure!(
        path.is_file(),
        "{} is not there: run `cargo xtask iso{option}`",
        path.display()
    );
    Ok(path)
}

/// The demo workload's OCI image layout.
///
/// # Errors
/// If it has not been built.
pub fn demo_image() -> Result<PathBuf> {
    let path = zos_directory().join("demo-image");
    ensure!(
        path.is_dir(),
        "{} is not there: run `cargo xtask demo-image`",
        path.display()
    );
    Ok(path)
}
