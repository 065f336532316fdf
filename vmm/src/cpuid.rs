//! What the guest's `CPUID` says: what KVM supports, with the topology of this guest: one package of `vcpus` cores with
//! a thread each, and without virtualization: a guest that runs guests reaches the widest and least tried part of KVM.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf with the x2APIC topology.
const TOPOLOGY: u32 = 0xb;
/// Newer form of [`TOPOLOGY`], left out so that the guest uses the older.
const TOPOLOGY_V2: u32 = 0x1f;

/// What the processor's own virtualization can do on AMD processors, left out with it.
const SVM_FEATURES: u32 = 0x8000_000a;

/// Whether the local interrupt controllers have a timer by deadline of the time stamp counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlineTimer {
    /// KVM offers it; the guest calibrates no timer then.
    Offered,
    /// KVM lacks it.
    Absent,
}

/// The entries of processor `vcpu` among `vcpus`.
#[must_use]
pub fn entries(supported: &[kvm_cpuid_entry2], vcpu: u8, vcpus: u8, deadline: DeadlineTimer) -> Vec<kvm_cpuid_entry2> {
    let id = u32::from(vcpu);
    let last = u32::from(vcpus) - 1;
    let bits = u32::from(vcpus).next_power_of_two().trailing_zeros();
    let mut entries: Vec<_> = supported
        .iter()
        .filter(|entry| ![TOPOLOGY, TOPOLOGY_V2, SVM_FEATURES].contains(&entry.function))
        .copied()
        .collect();
    for entry in &mut entries {
        match entry.function {
            0 => entry.eax = entry.eax.max(TOPOLOGY),
            1 => features(entry, id, last, deadline),
            4 if entry.eax & 0x1f != 0 => {
                entry.eax = (entry.eax & 0x3fff) | (sharers(entry.eax, last) << 14) | (last.min(63) << 26);
            }
            // Bit 1: more than one core; bit 2: SVM.
            0x8000_0001 => entry.ecx = with_bit(with_bit(entry.ecx, 1, last > 0), 2, false),
            0x8000_0008 => entry.ecx = last | (bits << 12),
            0x8000_001d => entry.eax = (entry.eax & 0x3fff) | (sharers(entry.eax, last) << 14),
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
            _ => {}
        }
    }
    // Level 0: threads of a core (kind 1). Level 1: cores of the package (kind 2). The next ends the list.
    entries.push(level(0, 0, 1, 0x100, id));
    entries.push(level(1, bits, last + 1, 0x201, id));
    entries.push(level(2, 0, 0, 2, id));
    entries
}

/// Leaf 1: identity, count, hypervisor bit, deadline timer; neither VMX (bit 5) nor SMX (bit 6).
fn features(entry: &mut kvm_cpuid_entry2, id: u32, last: u32, deadline: DeadlineTimer) {
    let count = (last + 1).next_power_of_two();
    entry.ebx = (entry.ebx & 0xffff) | (count << 16) | (id << 24);
    entry.ecx = with_bit(entry.ecx, 24, deadline == DeadlineTimer::Offered);
    entry.ecx = with_bit(entry.ecx, 31, true) & !(0b11 << 5);
    entry.edx = with_bit(entry.edx, 28, last > 0);
}

/// How many more processors share a cache: its own core's alone, but for the third level.
fn sharers(eax: u32, last: u32) -> u32 {
    if (eax >> 5) & 7 >= 3 { last } else { 0 }
}

fn with_bit(value: u32, bit: u32, set: bool) -> u32 {
    if set { value | (1 << bit) } else { value & !(1 << bit) }
}

fn level(index: u32, eax: u32, ebx: u32, ecx: u32, id: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx,
        edx: id,
        ..kvm_cpuid_entry2::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax,
            ..kvm_cpuid_entry2::default()
        }
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries
            .iter()
            .find(|entry| entry.function == function && entry.index == index)
            .unwrap()
    }

    #[test]
    fn third_of_four_processors_knows_its_place() {
        let supported = [
            leaf(0, 0xd),
            leaf(1, 0),
            leaf(0xb, 99),
            leaf(0x1f, 99),
            leaf(0x8000_0008, 0),
        ];
        let entries = entries(&supported, 2, 4, DeadlineTimer::Offered);
        let first = find(&entries, 1, 0);
        assert_eq!((first.ebx >> 24, (first.ebx >> 16) & 0xff), (2, 4));
        assert_eq!((first.ecx >> 24 & 1, first.ecx >> 31, first.edx >> 28 & 1), (1, 1, 1));
        let cores = find(&entries, 0xb, 1);
        assert_eq!((cores.eax, cores.ebx, cores.edx), (2, 4, 2));
        assert_eq!(find(&entries, 0x8000_0008, 0).ecx, 3 | (2 << 12));
        assert!(!entries.iter().any(|entry| entry.function == 0x1f));
    }

    #[test]
    fn single_processor_has_no_threads_and_no_deadline_timer_that_kvm_lacks() {
        let mut supported = leaf(1, 0);
        supported.ecx = 1 << 24;
        supported.edx = 1 << 28;
        let first = find(&entries(&[supported], 0, 1, DeadlineTimer::Absent), 1, 0);
        assert_eq!((first.ecx >> 24 & 1, first.edx >> 28 & 1), (0, 0));
    }

    #[test]
    fn guest_has_no_virtualization_of_its_own() {
        let mut supported = [leaf(1, 0), leaf(0x8000_0001, 0), leaf(0x8000_000a, 1)];
        supported[0].ecx = u32::MAX;
        supported[1].ecx = u32::MAX;
        let entries = entries(&supported, 0, 2, DeadlineTimer::Offered);
        assert_eq!(find(&entries, 1, 0).ecx, !(0b11 << 5));
        assert_eq!(find(&entries, 0x8000_0001, 0).ecx, !(1 << 2));
        assert!(!entries.iter().any(|entry| entry.function == 0x8000_000a));
    }

    #[test]
    fn only_the_last_level_cache_is_shared() {
        let supported = [
            leaf(4, 1 | (1 << 5) | (7 << 14)),
            kvm_cpuid_entry2 {
                index: 3,
                ..leaf(4, 3 | (3 << 5))
            },
        ];
        let entries = entries(&supported, 0, 2, DeadlineTimer::Absent);
        assert_eq!((find(&entries, 4, 0).eax >> 14) & 0xfff, 0);
        assert_eq!((find(&entries, 4, 3).eax >> 14) & 0xfff, 1);
    }
}
