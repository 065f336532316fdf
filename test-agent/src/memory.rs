//! How much memory a process holds (proc_pid_smaps(5)).

/// Bytes of `smaps` that are resident, without mappings of `guest` bytes or more: those are a guest's own memory. Nothing
/// if it is not such a text.
pub(crate) fn resident(smaps: &str, guest: Option<u64>) -> Option<u64> {
    let mut sum = 0_u64;
    let mut is_guests = false;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["Size:", size, "kB"] => {
                is_guests = guest.is_some_and(|guest| bytes(size).is_some_and(|size| size >= guest))
            }
            ["Rss:", size, "kB"] if !is_guests => sum = sum.checked_add(bytes(size)?)?,
            _ => {}
        }
    }
    (sum > 0).then_some(sum)
}

fn bytes(kib: &str) -> Option<u64> {
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00401000 r-xp 00000000 00:00 1 /bin/vmm
Size:                  4 kB
Rss:                   4 kB
Pss:                   2 kB
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
Size:             262144 kB
Rss:               90000 kB
7f1000000000-7f1000002000 rw-p 00000000 00:00 0
Size:                  8 kB
Rss:                   8 kB
VmFlags: rd wr mr mw me ac
";

    #[test]
    fn memory_of_a_guest_is_not_its_monitors() {
        assert_eq!(resident(SMAPS, Some(256 << 20)), Some(12 << 10));
        assert_eq!(resident(SMAPS, None), Some(90_012 << 10));
        assert_eq!(resident("", None), None);
    }
}
