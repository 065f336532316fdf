//! Domain-separated blake3 hashes.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt as _, hash_derive_key_context};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{encoding::encode, hex::text_form};

/// A blake3 hash of 32 bytes; as text 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Hash([u8; 32]);

/// What is hashed. Each has its own blake3 key-derivation context, so a hash of one thing is never one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The genesis, whose hash is the chain's id.
    Genesis,
    /// A block header, whose hash is the block's id.
    Header,
    /// The list of transactions of a block.
    Transactions,
    /// One signed transaction.
    Transaction,
    /// One version of a record.
    Record,
    /// What founds an id.
    Founding,
    /// The path of a record in the state tree.
    StatePath,
    /// An inner node of the state tree.
    StateBranch,
    /// A leaf of the state tree.
    StateLeaf,
    /// A set of validators.
    Validators,
    /// An agreement, whose hash is the contract's id.
    Agreement,
    /// A signature with its key and what it signs.
    Signature,
    /// Whose set of records it is, and of which kind.
    Set,
}

/// What the contexts' keys are: to derive one costs more than to hash a node of the state tree by it.
static CONTEXT_KEYS: LazyLock<[ContextKey; Domain::ALL.len()]> =
    LazyLock::new(|| Domain::ALL.map(|domain| hash_derive_key_context(domain.context())));

impl Domain {
    /// In the order of their declaration.
    const ALL: [Self; 13] = [
        Self::Genesis,
        Self::Header,
        Self::Transactions,
        Self::Transaction,
        Self::Record,
        Self::Founding,
        Self::StatePath,
        Self::StateBranch,
        Self::StateLeaf,
        Self::Validators,
        Self::Agreement,
        Self::Signature,
        Self::Set,
    ];

    #[expect(
        clippy::as_conversions,
        reason = "an enum without fields has no other way to its number"
    )]
    fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(&CONTEXT_KEYS[self as usize])
    }

    const fn context(self) -> &'static str {
        match self {
            Self::Genesis => "zos ledger 2026-11 genesis",
            Self::Header => "zos ledger 2026-11 header",
            Self::Transactions => "zos ledger 2026-11 transactions",
            Self::Transaction => "zos ledger 2026-11 transaction",
            Self::Record => "zos ledger 2026-11 record",
            Self::Founding => "zos ledger 2026-11 founding",
            Self::StatePath => "zos ledger 2026-11 state path",
            Self::StateBranch => "zos ledger 2026-11 state branch",
            Self::StateLeaf => "zos ledger 2026-11 state leaf",
            Self::Validators => "zos ledger 2026-11 validators",
            Self::Agreement => "zos ledger 2026-11 agreement",
            Self::Signature => "zos ledger 2026-11 signature",
            Self::Set => "zos ledger 2026-11 set",
        }
    }
}

impl Hash {
    /// The hash of nothing: the root of an empty tree, the block before the first.
    pub const ZERO: Self = Self([0; 32]);

    /// Takes 32 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes bytes within a domain.
    #[must_use]
    pub fn of_bytes(domain: Domain, bytes: &[u8]) -> Self {
        Self::of_parts(domain, &[bytes])
    }

    /// Hashes bytes that lie in several places, as if they were one.
    #[must_use]
    pub fn of_parts(domain: Domain, parts: &[&[u8]]) -> Self {
        let mut hasher = domain.hasher();
        for part in parts {
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Hashes the canonical encoding of a value within a domain.
    #[must_use]
    pub fn of(domain: Domain, value: &impl BorshSerialize) -> Self {
        Self::of_bytes(domain, &encode(value))
    }

    /// Bit `index` counted from the most significant bit of the first byte; `index` is below 256.
    #[must_use]
    pub fn bit(&self, index: u8) -> bool {
        self.0[usize::from(index / 8)] & (0x80 >> (index % 8)) != 0
    }
}

text_form!(Hash);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_separate_the_same_bytes() {
        assert_ne!(
            Hash::of_bytes(Domain::Record, b"x"),
            Hash::of_bytes(Domain::Header, b"x")
        );
    }

    #[test]
    fn a_hash_is_that_of_the_key_derivation_by_its_domains_context() {
        for domain in Domain::ALL {
            let expected = blake3::derive_key(domain.context(), b"bytes");
            assert_eq!(Hash::of_bytes(domain, b"bytes"), Hash(expected), "{domain:?}");
            assert_eq!(Hash::of_parts(domain, &[b"by", b"tes"]), Hash(expected), "{domain:?}");
        }
    }

    #[test]
    fn bits_count_from_the_most_significant() {
        let mut bytes = [0; 32];
        bytes[0] = 0x80;
        bytes[31] = 0x01;
        let hash = Hash::from_bytes(bytes);
        assert!(hash.bit(0) && !hash.bit(1) && hash.bit(255));
    }
}
