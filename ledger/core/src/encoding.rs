//! The canonical binary form of everything that is hashed or signed: Borsh.
//!
//! Borsh has exactly one encoding for each value: fixed-width little-endian integers, lengths as `u32`, maps and sets in
//! strictly ascending order, no padding. Decoding here is bounded first, so that hostile input costs no more than its
//! stated limit, and refuses bytes left over.

use borsh::{BorshDeserialize, BorshSerialize};

/// Largest encoded transaction in bytes.
pub const MAX_TRANSACTION: usize = 16 * 1024;
/// Largest encoded record in bytes. The largest is the set of a node's contracts, 32 bytes each.
pub const MAX_RECORD: usize = 64 * 1024;
/// Largest encoded block in bytes.
pub const MAX_BLOCK: usize = 2 * 1024 * 1024;

/// Why bytes are not an encoded value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than the kind of value may have.
    #[error("{actual} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not the canonical encoding of such a value.
    #[error("not a canonical encoding")]
    Malformed(#[source] std::io::Error),
}

/// The canonical bytes of `value`.
///
/// # Panics
/// Never for the types of this crate: writing to memory does not fail and no length exceeds `u32`.
#[must_use]
pub fn encode(value: &impl BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).expect("encoding to memory cannot fail for bounded types")
}

/// Reads one value of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError`] when the bytes are too many, not canonical, or more than the value.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong {
            actual: bytes.len(),
            limit,
        });
    }
    T::try_from_slice(bytes).map_err(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_over_bytes_and_over_long_input_are_refused() {
        let mut bytes = encode(&7_u32);
        assert_eq!(decode::<u32>(&bytes, 4).unwrap(), 7);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes, 8), Err(DecodeError::Malformed(_))));
        assert!(matches!(
            decode::<u32>(&bytes, 4),
            Err(DecodeError::TooLong { actual: 5, limit: 4 })
        ));
    }

    #[test]
    fn a_set_out_of_order_is_refused() {
        let bytes = encode(&vec![2_u8, 1]);
        assert!(decode::<std::collections::BTreeSet<u8>>(&bytes, 64).is_err());
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing_and_is_refused() {
        assert!(decode::<Vec<u64>>(&[0xff, 0xff, 0xff, 0xff, 1], 64).is_err());
    }
}
