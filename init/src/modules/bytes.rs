//! The bytes of a module as they go into the kernel: unpacked, and without what a node never uses but pays for.
//!
//! Three things are left out, all in memory alone, since the file stays as its distribution signed it and as the manifest
//! lists it. Where the kernel insists on the signature the module goes in unchanged.
//!
//! - The signature. The file has been compared with the manifest; checking both would double the time that loading takes.
//!   The kernel is marked as having unsigned modules then.
//! - What serves the kernel's function and event tracer alone, which nothing on a node can reach: it has no tracefs. The
//!   tracer looks up the name of each traced function among the symbols of its module one by one, which is most of the time
//!   that a large module takes. Its calls at the beginning of each function become no-operations, as the tracer would have
//!   made them.
//! - What the kernel walks stacks by (ORC). It sorts these tables while a module is loaded, the longer of them for longer than
//!   all the rest takes. Without them, a panic's trace marks what lies beyond a module's function with a question mark.

use std::{io, mem::offset_of};

use object::{
    LittleEndian as LE,
    elf::{self, FileHeader64, Rela64, SectionHeader64},
    read::elf::{FileHeader, Rela as _, SectionHeader},
};

/// Largest module, unpacked, in bytes; the largest of Debian's kernel has some ten million.
const MAX_MODULE: usize = 64 * 1024 * 1024;

/// What a signed module ends with (linux/module_signature.h).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";
/// Length of `struct module_signature`, whose last four bytes are the signature's length, big-endian.
const SIGNATURE_TRAILER: usize = 12;

/// Sections by whose names the kernel finds what its tracer wants (kernel/module/main.c, `find_module_sections`), and what it
/// walks stacks by (arch/x86/kernel/module.c, `module_finalize`).
const LEFT_OUT: [&[u8]; 5] = [
    b"__mcount_loc",
    b"_ftrace_events",
    b"_ftrace_eval_map",
    b".orc_unwind",
    b".orc_unwind_ip",
];
/// The function that each traced function calls first.
const TRACER: &[u8] = b"__fentry__";
/// A near call; its operand of four bytes follows.
const CALL: u8 = 0xe8;
/// The no-operation of five bytes that processors are told to use (Intel SDM 2B, NOP).
const NOP: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Undoes the compression of a module's file.
///
/// # Errors
/// When it is not zstd, or unpacks to more than a module can have.
pub fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = size
        .and_then(|size| usize::try_from(size).ok())
        .unwrap_or(MAX_MODULE)
        .min(MAX_MODULE);
    zstd::bulk::decompress(packed, size)
}

/// Leaves out the signature, what serves the tracer and what stacks are walked by. A module that is not understood keeps all
/// but the signature: the kernel is the judge of it.
pub fn lighten(module: &mut Vec<u8>) {
    module.truncate(length_without_signature(module));
    for (at, patch) in left_out(module).unwrap_or_default() {
        let bytes = patch.bytes();
        if let Some(place) = module.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }
}

fn length_without_signature(module: &[u8]) -> usize {
    let shorter = || {
        let signed = module.strip_suffix(SIGNATURE_MARK)?;
        let (signed, trailer) = signed.split_at_checked(signed.len().checked_sub(SIGNATURE_TRAILER)?)?;
        let length = u32::from_be_bytes(trailer.get(8..)?.try_into().ok()?);
        signed.len().checked_sub(usize::try_from(length).ok()?)
    };
    shorter().unwrap_or(module.len())
}

/// What is written over some bytes of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patch {
    /// A section's place in the table of names (`sh_name`).
    Name([u8; 4]),
    /// The call of the tracer.
    Nop,
    /// The kind of the relocation that would fill in the call (`r_info`): none.
    NoRelocation,
}

impl Patch {
    const fn bytes(&self) -> &[u8] {
        match self {
            Self::Name(name) => name,
            Self::Nop => &NOP,
            Self::NoRelocation => &[0; 8],
        }
    }
}

/// What has to be written, and where in the file, so that nobody finds what is left out and nothing calls the tracer.
fn left_out(module: &[u8]) -> object::Result<Vec<(usize, Patch)>> {
    let header = FileHeader64::<LE>::parse(module)?;
    let sections = header.sections(LE, module)?;
    let symbols = sections.symbols(LE, module, elf::SHT_SYMTAB)?;
    let tracer = symbols
        .enumerate()
        .find(|(_, symbol)| symbols.symbol_name(LE, symbol).is_ok_and(|name| name == TRACER))
        .map(|(index, _)| index);
    let headers = usize::try_from(header.e_shoff(LE)).unwrap_or(usize::MAX);
    let mut patches = Vec::new();
    for (index, section) in sections.enumerate() {
        if LEFT_OUT.contains(&sections.section_name(LE, section)?) {
            // Without its first letter the name is one that the kernel does not look for.
            let name = section.sh_name(LE).saturating_add(1).to_le_bytes();
            let header = index.0.saturating_mul(size_of::<SectionHeader64<LE>>());
            patches.push((headers.saturating_add(header), Patch::Name(name)));
        }
        if let Some((relocations, _)) = section.rela(LE, module)?
            && let Some(tracer) = tracer
        {
            let code = sections.section(section.info_link(LE))?;
            let calls = relocations.iter().zip(0_usize..);
            for (relocation, number) in calls.filter(|(relocation, _)| relocation.symbol(LE, false) == Some(tracer)) {
                let Some(call) = place_of_call(module, code, relocation) else {
                    continue;
                };
                patches.push((call, Patch::Nop));
                let entry = usize::try_from(section.sh_offset(LE)).unwrap_or(usize::MAX);
                let entry = entry.saturating_add(number.saturating_mul(size_of::<Rela64<LE>>()));
                patches.push((
                    entry.saturating_add(offset_of!(Rela64<LE>, r_info)),
                    Patch::NoRelocation,
                ));
            }
        }
    }
    Ok(patches)
}

/// Where in the file the call is whose operand the relocation of `code` fills in; `None` if that is no call.
fn place_of_call(module: &[u8], code: &SectionHeader64<LE>, relocation: &Rela64<LE>) -> Option<usize> {
    if relocation.r_type(LE, false) != elf::R_X86_64_PLT32 {
        return None;
    }
    let within = relocation.r_offset.get(LE).checked_sub(1)?;
    let (start, size) = code.file_range(LE)?;
    let place = usize::try_from(start.checked_add(within)?).ok()?;
    let size = usize::try_from(size).ok()?;
    let end = usize::try_from(within).ok()?.checked_add(NOP.len())?;
    (end <= size && module.get(place) == Some(&CALL)).then_some(place)
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, Object as _, ObjectSection as _, RelocationFlags, SectionKind,
        write::{Object, Relocation, StandardSection},
    };

    use super::*;

    /// A module with two traced functions, a call of something else, and the sections of the tracer.
    fn traced() -> Vec<u8> {
        let mut module = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = module.section_id(StandardSection::Text);
        module.append_section_data(text, &[CALL, 0, 0, 0, 0, 0x90, CALL, 0, 0, 0, 0, CALL, 0, 0, 0, 0], 16);
        let symbol = |name: &str| object::write::Symbol {
            name: name.as_bytes().to_vec(),
            value: 0,
            size: 0,
            kind: object::SymbolKind::Text,
            scope: object::SymbolScope::Unknown,
            weak: false,
            section: object::write::SymbolSection::Undefined,
            flags: object::SymbolFlags::None,
        };
        let (tracer, other) = (
            module.add_symbol(symbol("__fentry__")),
            module.add_symbol(symbol("kfree")),
        );
        for (offset, symbol) in [(1, tracer), (7, other), (12, tracer)] {
            let flags = RelocationFlags::Elf {
                r_type: elf::R_X86_64_PLT32,
            };
            let relocation = Relocation {
                offset,
                symbol,
                addend: -4,
                flags,
            };
            module.add_relocation(text, relocation).unwrap();
        }
        for name in [
            "__mcount_loc",
            "_ftrace_events",
            ".orc_unwind",
            ".orc_unwind_ip",
            "__param",
        ] {
            let section = module.add_section(Vec::new(), name.as_bytes().to_vec(), SectionKind::Data);
            module.append_section_data(section, &[7; 16], 8);
        }
        module.write().unwrap()
    }

    #[test]
    fn tracer_finds_nothing_and_is_not_called() {
        let mut module = traced();
        let length = module.len();
        lighten(&mut module);
        assert_eq!(module.len(), length);
        let file = object::read::elf::ElfFile64::<LE>::parse(&*module).unwrap();
        let names: Vec<&str> = file.sections().map(|section| section.name().unwrap()).collect();
        for gone in ["__mcount_loc", "_ftrace_events", ".orc_unwind", ".orc_unwind_ip"] {
            assert!(!names.contains(&gone), "{names:?}");
        }
        assert!(names.contains(&"__param"), "{names:?}");
        let text = file.section_by_name(".text").unwrap();
        let call_of_another = [0x90, CALL, 0, 0, 0, 0];
        assert_eq!(text.data().unwrap(), [&NOP[..], &call_of_another, &NOP].concat());
        let kinds: Vec<RelocationFlags> = text.relocations().map(|(_, relocation)| relocation.flags()).collect();
        let kind = |r_type| RelocationFlags::Elf { r_type };
        assert_eq!(
            kinds,
            [
                kind(elf::R_X86_64_NONE),
                kind(elf::R_X86_64_PLT32),
                kind(elf::R_X86_64_NONE)
            ]
        );
    }

    #[test]
    fn module_that_is_not_understood_stays_as_it_is() {
        let module = traced();
        for cut in (0..module.len()).step_by(7) {
            let mut damaged = module[..cut].to_vec();
            lighten(&mut damaged);
            assert_eq!(damaged.len(), cut);
        }
        let mut none = b"no module".to_vec();
        lighten(&mut none);
        assert_eq!(none, b"no module");
    }

    #[test]
    fn signatures_are_taken_off_and_nothing_else() {
        let without = |module: &[u8]| {
            let mut module = module.to_vec();
            lighten(&mut module);
            module
        };
        let mut signed = b"module".to_vec();
        signed.extend_from_slice(b"signature");
        signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend_from_slice(&9_u32.to_be_bytes());
        signed.extend_from_slice(SIGNATURE_MARK);
        assert_eq!(without(&signed), b"module");
        assert_eq!(without(b"module"), b"module");
        assert_eq!(without(SIGNATURE_MARK), SIGNATURE_MARK);
        let lying = [&[0xff; 12], SIGNATURE_MARK].concat();
        assert_eq!(without(&lying), lying);
    }

    #[test]
    fn packed_modules_are_unpacked_and_garbage_is_refused() {
        let module = vec![7_u8; 100_000];
        assert_eq!(unpack(&zstd::bulk::compress(&module, 3).unwrap()).unwrap(), module);
        assert!(unpack(b"not zstd").is_err());
    }
}
