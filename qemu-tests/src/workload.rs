//! Workloads of the scenarios' own: an image with nothing in it but one static program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use image::cpio::Tree;
use image::oci::{self, Image};

/// Where the program is in the image.
const PROGRAM: &str = "/bin/workload";
/// Where a guest mounts its own file systems, with their modes.
const DIRECTORIES: [(&str, u32); 5] = [
    ("/dev", 0o755),
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/run", 0o755),
    ("/tmp", 0o1777),
];

/// Writes to the directory `layout`, which must be empty or absent, an OCI image layout that runs the static `program`
/// with `arguments` as root and says that it listens on the TCP `ports`.
///
/// # Errors
/// If the program cannot be read or the layout cannot be written.
pub fn write_layout(program: &Path, arguments: &[&str], ports: &[u16], layout: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let mut root = Tree::new();
    root.add_file(PROGRAM, 0o755, bytes)?;
    for (path, mode) in DIRECTORIES {
        root.directory(path, mode)?;
    }
    let image = Image {
        root,
        owners: BTreeMap::new(),
        entrypoint: [PROGRAM].iter().chain(arguments).map(ToString::to_string).collect(),
        environment: Vec::new(),
        ports: ports.iter().map(|port| format!("{port}/tcp")).collect(),
        volumes: Vec::new(),
        reference: "workload".to_owned(),
    };
    oci::write(&image, layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_complete_and_a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let layout = directory.path().join("layout");
        let program = std::env::current_exe().unwrap();
        write_layout(&program, &["--slow"], &[80], &layout).unwrap();
        assert!(layout.join("index.json").is_file() && layout.join("oci-layout").is_file());
        let error = write_layout(Path::new("/no/such/program"), &[], &[], &layout).unwrap_err();
        assert_eq!(error.to_string(), "read /no/such/program");
    }
}
