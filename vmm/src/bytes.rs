//! Little-endian fields of fixed-size buffers.

/// The 16 bits at `at`. The caller's buffer has a fixed size that holds them.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// The 32 bits at `at`. The caller's buffer has a fixed size that holds them.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// The 64 bits at `at`. The caller's buffer has a fixed size that holds them.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// `value` as a `usize`; the monitor is built for 64-bit processors only.
#[must_use]
pub fn size(value: u64) -> usize {
    usize::try_from(value).expect("addresses have 64 bits")
}

/// `value` as a `u64`.
#[must_use]
pub fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("addresses have 64 bits")
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
