//! Puts kernel, initial ram file system, command line and start info into guest memory, by the PVH protocol.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
};

use linux_loader::loader::{
    KernelLoader,
    elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info},
    elf::{Elf, PvhBootCapability},
};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryBackend};

use crate::{Memory, bytes, layout};

/// `start_info.magic`. Source: Xen's `start_info.h`.
const MAGIC: u32 = 0x336e_c578;
/// `start_info.version` with a memory map.
const VERSION: u32 = 1;
/// Memory that the kernel may use.
const RAM: u32 = 1;
/// Memory with ACPI tables.
const ACPI_DATA: u32 = 3;

/// Why a guest cannot be started from the files it was given.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel is no loadable ELF image.
    #[error("kernel_fd: an uncompressed ELF vmlinux that fits into memory")]
    Kernel(#[source] linux_loader::loader::Error),
    /// The kernel lacks the note with its PVH entry.
    #[error("kernel_fd: a kernel with a PVH note (CONFIG_PVH)")]
    NoPvhNote,
    /// Kernel and initial ram file system do not fit.
    #[error("initrd_fd: {size} bytes do not fit into memory beside the kernel")]
    InitrdTooLarge {
        /// Its size.
        size: u64,
    },
    /// The initial ram file system cannot be read.
    #[error("initrd_fd: a readable file")]
    ReadInitrd(#[source] std::io::Error),
    /// It cannot be read to the end.
    #[error("initrd_fd: a file whose length does not change")]
    CopyInitrd(#[source] vm_memory::GuestMemoryError),
    /// Guest memory refused a write.
    #[error("write boot data to guest memory")]
    Memory(#[source] vm_memory::GuestMemoryError),
}

/// Loads everything; returns the address of the first instruction.
///
/// # Errors
/// [`BootError`] that names the field which is wrong.
pub fn load(
    memory: &Memory,
    kernel: &mut File,
    initrd: Option<&mut File>,
    command_line: &str,
    acpi: &[u8],
) -> Result<u64, BootError> {
    let loaded = Elf::load(memory, None, kernel, Some(GuestAddress(layout::HIGH_RAM))).map_err(BootError::Kernel)?;
    let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
        return Err(BootError::NoPvhNote);
    };
    let module = initrd
        .map(|file| load_initrd(memory, file, loaded.kernel_end))
        .transpose()?;
    let mut text = command_line.as_bytes().to_vec();
    text.push(0);
    put(memory, layout::COMMAND_LINE, &text)?;
    put(memory, layout::ACPI, acpi)?;
    let map = memory_map(memory);
    for (index, entry) in map.iter().enumerate() {
        put(
            memory,
            layout::MEMORY_MAP + bytes::wide(index * size_of::<hvm_memmap_table_entry>()),
            entry.as_slice(),
        )?;
    }
    if let Some(module) = module {
        put(memory, layout::MODULE_LIST, module.as_slice())?;
    }
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(module.is_some()),
        modlist_paddr: if module.is_some() { layout::MODULE_LIST } else { 0 },
        cmdline_paddr: layout::COMMAND_LINE,
        rsdp_paddr: layout::ACPI,
        memmap_paddr: layout::MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).expect("the map has at most four entries"),
        ..hvm_start_info::default()
    };
    put(memory, layout::START_INFO, info.as_slice())?;
    Ok(entry.0)
}

/// Copies the initial ram file system to the top of the memory below the hole.
fn load_initrd(memory: &Memory, file: &mut File, kernel_end: u64) -> Result<hvm_modlist_entry, BootError> {
    let size = file.seek(SeekFrom::End(0)).map_err(BootError::ReadInitrd)?;
    file.rewind().map_err(BootError::ReadInitrd)?;
    let address = initrd_address(low_end(memory), kernel_end, size).ok_or(BootError::InitrdTooLarge { size })?;
    memory
        .read_exact_volatile_from(GuestAddress(address), file, bytes::size(size))
        .map_err(BootError::CopyInitrd)?;
    Ok(hvm_modlist_entry {
        paddr: address,
        size,
        ..hvm_modlist_entry::default()
    })
}

/// The highest page-aligned address at which `size` bytes end by `end` and start after the kernel.
fn initrd_address(end: u64, kernel_end: u64, size: u64) -> Option<u64> {
    let address = end.checked_sub(size)? & !(layout::PAGE - 1);
    (address >= kernel_end.max(layout::HIGH_RAM)).then_some(address)
}

fn low_end(memory: &Memory) -> u64 {
    (memory.last_addr().0 + 1).min(layout::HOLE)
}

fn memory_map(memory: &Memory) -> Vec<hvm_memmap_table_entry> {
    let entry = |addr, size, type_| hvm_memmap_table_entry {
        addr,
        size,
        type_,
        reserved: 0,
    };
    let mut map = vec![
        entry(0, layout::LOW_RAM_END, RAM),
        entry(layout::ACPI, layout::ACPI_SIZE, ACPI_DATA),
        entry(layout::HIGH_RAM, low_end(memory) - layout::HIGH_RAM, RAM),
    ];
    let end = memory.last_addr().0 + 1;
    if end > layout::HOLE_END {
        map.push(entry(layout::HOLE_END, end - layout::HOLE_END, RAM));
    }
    map
}

fn put(memory: &Memory, address: u64, bytes: &[u8]) -> Result<(), BootError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(BootError::Memory)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn memory() -> Memory {
        Memory::from_ranges(&[(GuestAddress(0), 16 << 20)]).unwrap()
    }

    #[test]
    fn initrd_is_high_page_aligned_and_clear_of_the_kernel() {
        assert_eq!(initrd_address(0x800_0000, 0x200_0000, 0x1001), Some(0x7ff_e000));
        assert_eq!(initrd_address(0x800_0000, 0x7ff_f000, 0x1001), None);
        assert_eq!(initrd_address(0x1000, 0, 0x2000), None);
    }

    #[test]
    fn what_is_no_kernel_is_refused_with_its_field() {
        for bytes in [&b""[..], b"#!/bin/sh", &[0; 4096], &[0x7f, b'E', b'L', b'F']] {
            let error = load(&memory(), &mut file(bytes), None, "", &[]).unwrap_err();
            assert!(error.to_string().starts_with("kernel_fd"), "{error}");
        }
    }

    #[test]
    fn memory_map_leaves_out_the_hole() {
        let ranges = [(GuestAddress(0), 4 << 20), (GuestAddress(layout::HOLE_END), 1 << 20)];
        let map = memory_map(&Memory::from_ranges(&ranges).unwrap());
        assert_eq!(
            map.last().map(|entry| (entry.addr, entry.size)),
            Some((layout::HOLE_END, 1 << 20))
        );
        assert!(
            map.iter()
                .all(|entry| entry.addr + entry.size <= layout::HOLE || entry.addr >= layout::HOLE_END)
        );
    }
}
