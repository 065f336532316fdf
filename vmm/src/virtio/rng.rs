//! Entropy device (section 5.4): fills what the guest offers with the host kernel's random bytes.

use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

use super::{
    COMMON_FEATURES,
    chain::{self, Ring},
    slot::{Device, HostFailure, Work},
};
use crate::{
    Memory, bytes,
    metrics::{Counter, Metrics},
};

/// Most bytes that one request gets; the guest asks again for more.
pub const MAX_REQUEST: usize = 4096;
/// Requests in a row before other devices get their turn.
const BUDGET: usize = 64;

/// The entropy device.
#[derive(Debug)]
pub struct Rng {
    bytes: Counter,
    malformed: Counter,
}

impl Rng {
    /// A device that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            bytes: metrics.counter("rng.bytes"),
            malformed: metrics.counter("rng.malformed"),
        }
    }
}

impl Device for Rng {
    fn kind(&self) -> u32 {
        VIRTIO_ID_RNG
    }
    fn features(&self) -> u64 {
        COMMON_FEATURES
    }
    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }
    fn config(&self) -> &[u8] {
        &[]
    }
    fn activate(&mut self, _features: u64) {}
    fn reset(&mut self) {}
    fn event(&mut self, _number: u32) {}

    fn process(&mut self, memory: &Memory, rings: &mut [Ring]) -> Result<Work, HostFailure> {
        let ring = &mut rings[0];
        for _ in 0..BUDGET {
            match ring.pop(memory) {
                Some(Ok(request)) => {
                    let mut random = [0; MAX_REQUEST];
                    let wanted = chain::length(&request.writable).min(MAX_REQUEST);
                    let got = rustix::rand::getrandom(&mut random[..wanted], rustix::rand::GetRandomFlags::empty())
                        .map_err(|error| HostFailure(format!("rng: read random bytes: {error}")))?;
                    let written = chain::scatter(memory, &request.writable, &random[..got]).unwrap_or(0);
                    self.bytes.add(bytes::wide(written));
                    ring.give_back(memory, request.head, written);
                }
                Some(Err(head)) => {
                    self.malformed.increment();
                    ring.give_back(memory, head, 0);
                }
                None if ring.rearm(memory) => {}
                None => return Ok(Work::Done),
            }
        }
        Ok(Work::More)
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::virtio::chain::tests::{WRITE, memory, ring_with};

    #[test]
    fn request_is_filled_up_to_its_bound_and_no_further() {
        let memory = memory();
        let metrics = Metrics::default();
        let mut rings = [ring_with(&memory, &[(0x1_0000, 0x8000, WRITE)])];
        assert_eq!(Rng::new(&metrics).process(&memory, &mut rings).unwrap(), Work::Done);
        let mut filled = [0u8; 0x8000];
        memory.read_slice(&mut filled, GuestAddress(0x1_0000)).unwrap();
        assert!(filled[..MAX_REQUEST].iter().any(|byte| *byte != 0));
        assert!(filled[MAX_REQUEST..].iter().all(|byte| *byte == 0));
        assert_eq!(metrics.snapshot()["rng.bytes"], 4096);
    }
}
