//! The newest bytes of an endless output, counted from its beginning.

use std::collections::VecDeque;

/// Keeps at most a fixed number of bytes; older ones are dropped.
#[derive(Debug)]
pub struct Ring {
    bytes: VecDeque<u8>,
    limit: usize,
    /// Offset of the first byte that is kept.
    start: u64,
}

impl Ring {
    /// An empty ring that keeps `limit` bytes. Memory is taken as output arrives.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            limit,
            start: 0,
        }
    }

    /// Adds output.
    pub fn push(&mut self, output: &[u8]) {
        let skipped = output.len().saturating_sub(self.limit);
        let kept = output.get(skipped..).unwrap_or_default();
        let dropped = (self.bytes.len() + kept.len()).saturating_sub(self.limit);
        self.bytes.drain(..dropped);
        self.bytes.extend(kept);
        self.start += u64::try_from(dropped + skipped).unwrap_or(0);
    }

    /// At most `most` bytes from offset `from` on, and the offset of the first of them, which is larger than `from`
    /// where older output was dropped.
    #[must_use]
    pub fn read(&self, from: u64, most: usize) -> (u64, Vec<u8>) {
        let end = self.start + u64::try_from(self.bytes.len()).unwrap_or(0);
        let from = from.clamp(self.start, end);
        let skip = usize::try_from(from - self.start).unwrap_or(usize::MAX);
        (from, self.bytes.iter().skip(skip).take(most).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_and_counts_from_the_beginning() {
        let mut ring = Ring::new(4);
        ring.push(b"abc");
        assert_eq!(ring.read(0, 10), (0, b"abc".to_vec()));
        ring.push(b"de");
        assert_eq!(ring.read(0, 10), (1, b"bcde".to_vec()));
        assert_eq!(ring.read(3, 1), (3, b"d".to_vec()));
        assert_eq!(ring.read(99, 10), (5, Vec::new()));
    }

    #[test]
    fn holds_its_bound_for_outputs_of_any_length() {
        let (mut ring, mut all) = (Ring::new(100), Vec::new());
        for length in [0_usize, 1, 99, 100, 101, 250, 3] {
            let output: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            ring.push(&output);
            all.extend_from_slice(&output);
            let (from, bytes) = ring.read(0, usize::MAX);
            assert!(bytes.len() <= 100);
            assert_eq!(bytes, all[usize::try_from(from).unwrap()..], "after {length}");
        }
    }
}
