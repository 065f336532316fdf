//! The shared libraries that an executable needs, and whether a file is an executable at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// Directories below a root in which Debian keeps the libraries of amd64.
const LIBRARY_DIRECTORIES: [&str; 4] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64"];

/// What one ELF file asks of the dynamic loader.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Path of the loader (`PT_INTERP`), absent for a static program or a library.
    pub loader: Option<String>,
    /// Names of libraries (`DT_NEEDED`).
    pub libraries: Vec<String>,
}

/// Whether `bytes` are an ELF file of any kind.
#[must_use]
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Whether `bytes` are an ELF program that can be started: not an object file (a kernel module), and not a library.
#[must_use]
pub fn is_program(bytes: &[u8]) -> bool {
    let Ok(file) = ElfFile64::<Endianness>::parse(bytes) else {
        return false;
    };
    let endian = file.endian();
    match file.elf_header().e_type(endian) {
        elf::ET_EXEC => true,
        // A position-independent program is told from a library by its loader, and a static one by its flag.
        elf::ET_DYN => needs(bytes).is_ok_and(|needs| needs.loader.is_some()) || is_flagged_program(&file, bytes),
        _ => false,
    }
}

fn is_flagged_program(file: &ElfFile64<'_, Endianness>, bytes: &[u8]) -> bool {
    let endian = file.endian();
    file.elf_program_headers().iter().any(|segment| {
        segment.dynamic(endian, bytes).ok().flatten().is_some_and(|entries| {
            entries
                .iter()
                .any(|entry| entry.tag(endian) == elf::DT_FLAGS_1 && entry.d_val.get(endian) & elf::DF_1_PIE.0 != 0)
        })
    })
}

/// Reads what the ELF file `bytes` needs.
///
/// # Errors
/// If it is no ELF file of 64 bits, or a damaged one.
pub fn needs(bytes: &[u8]) -> Result<Needs> {
    let file = ElfFile64::<Endianness>::parse(bytes).context("parse ELF file")?;
    let endian = file.endian();
    let mut needs = Needs::default();
    let sections = file.elf_header().sections(endian, bytes).context("read ELF sections")?;
    for segment in file.elf_program_headers() {
        if let Some(loader) = segment.interpreter(endian, bytes).context("read ELF interpreter")? {
            needs.loader = Some(String::from_utf8(loader.to_vec()).context("ELF interpreter")?);
        }
    }
    if let Some((entries, strings)) = sections.dynamic(endian, bytes).context("read dynamic section")? {
        let strings = sections
            .strings(endian, bytes, strings)
            .context("read dynamic strings")?;
        for entry in entries {
            if entry.tag(endian) == elf::DT_NEEDED {
                let name = entry.string(endian, strings).context("read needed library")?;
                needs
                    .libraries
                    .push(String::from_utf8(name.to_vec()).context("needed library")?);
            }
        }
    }
    Ok(needs)
}

/// Files that `programs` need, by their path in the image, with where each was found below `root`: the loader under the
/// name that the programs have for it, libraries under `/lib/x86_64-linux-gnu`.
///
/// # Errors
/// If one of them is not below `root`.
pub fn closure(root: &Path, programs: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut todo: Vec<PathBuf> = programs.to_vec();
    while let Some(path) = todo.pop() {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let needs = needs(&bytes).with_context(|| format!("inspect {}", path.display()))?;
        if let Some(loader) = needs.loader {
            let name = loader.rsplit('/').next().unwrap_or(&loader);
            found.insert(loader.clone(), locate(root, name)?);
        }
        for name in needs.libraries {
            // The loader is also named as a library; it is in the image under its own path.
            if name.starts_with("ld-linux") || !seen.insert(name.clone()) {
                continue;
            }
            let library = locate(root, &name).with_context(|| format!("{} needs it", path.display()))?;
            found.insert(format!("/lib/x86_64-linux-gnu/{name}"), library.clone());
            todo.push(library);
        }
    }
    Ok(found)
}

fn locate(root: &Path, name: &str) -> Result<PathBuf> {
    for directory in LIBRARY_DIRECTORIES {
        let path = root.join(directory).join(name);
        // An absolute link would lead out of the root; Debian's libraries have relative ones.
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_file()
        {
            return Ok(path);
        }
    }
    bail!(
        "library {name} is in none of the unpacked packages of {}",
        root.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_program_itself_is_a_program_without_libraries() {
        let bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_elf(&bytes) && is_program(&bytes));
        let needs = needs(&bytes).unwrap();
        assert_eq!(needs.loader, None, "the workspace builds static programs");
        assert_eq!(needs.libraries, Vec::<String>::new());
    }

    #[test]
    fn text_is_no_program() {
        assert!(!is_program(b"#!/bin/sh\n"));
        assert!(needs(b"#!/bin/sh\n").is_err());
    }

    #[test]
    fn missing_library_is_named_with_who_needs_it() {
        let empty = tempfile::tempdir().unwrap();
        let shell = PathBuf::from("/bin/sh");
        let error = format!("{:#}", closure(empty.path(), &[shell]).unwrap_err());
        assert!(error.contains("ld-linux-x86-64.so.2"), "{error}");
    }
}
