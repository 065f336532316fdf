//! Ed25519 keys and signatures, valid by one predicate everywhere.
//!
//! That predicate is `verify_strict` of ed25519-dalek: it refuses small-order keys and non-canonical encodings. Signatures are
//! never verified in batches, because batch and single verification disagree on crafted signatures and validity must not
//! depend on how signatures were grouped.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::Signer as _;

use crate::{encoding::encode, hash::Hash, hex::text_form};

/// What a signature is for. It stands first in the signed bytes, so a signature of one kind is never one of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A transaction, by its author.
    Transaction,
    /// An agreement, by each party.
    Agreement,
    /// A change of an agreement, by each party.
    Amendment,
    /// A node's first record, by the farm's enrolment key.
    Enrolment,
    /// A consensus vote, by a validator.
    Vote,
    /// A consensus proposal, by its proposer.
    Proposal,
    /// A decree, by each validator that approves it.
    Decree,
    /// New keys of an entity, by the signing key among them.
    Possession,
    /// Another recovery key of an entity, by the one before.
    Recovery,
    /// A release channel, by its keys.
    Channel,
    /// Other keys of a release channel, by those before and after.
    ReleaseRotation,
    /// A release, by its channel's keys.
    Release,
}

impl Purpose {
    const fn tag(self) -> &'static [u8] {
        match self {
            Self::Transaction => b"zos-transaction\0",
            Self::Agreement => b"zos-agreement\0",
            Self::Amendment => b"zos-amendment\0",
            Self::Enrolment => b"zos-enrolment\0",
            Self::Vote => b"zos-vote\0",
            Self::Proposal => b"zos-proposal\0",
            Self::Decree => b"zos-decree\0",
            Self::Possession => b"zos-possession\0",
            Self::Recovery => b"zos-recovery\0",
            Self::Channel => b"zos-channel\0",
            Self::ReleaseRotation => b"zos-release-rotation\0",
            Self::Release => b"zos-release\0",
        }
    }
}

/// The bytes that are signed: the purpose's tag, the chain's id, the canonical encoding of `value`.
#[must_use]
pub fn signing_bytes(purpose: Purpose, chain: Hash, value: &impl BorshSerialize) -> Vec<u8> {
    let mut bytes = purpose.tag().to_vec();
    bytes.extend_from_slice(chain.as_bytes());
    bytes.extend_from_slice(&encode(value));
    bytes
}

/// A secret ed25519 key; wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes the key of a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The seed, for storing it.
    #[must_use]
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a value for a purpose on a chain.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, chain: Hash, value: &impl BorshSerialize) -> Signature {
        self.sign_bytes(&signing_bytes(purpose, chain, value))
    }

    /// Signs bytes that [`signing_bytes`] made.
    #[must_use]
    pub fn sign_bytes(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

/// A public key of 32 bytes: ed25519 for signing and links, X25519 for encryption. Whether the bytes are a point on the curve
/// shows when it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
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

    /// Whether `signature` is this key's over `value`, for this purpose and chain.
    #[must_use]
    pub fn verifies(&self, purpose: Purpose, chain: Hash, value: &impl BorshSerialize, signature: &Signature) -> bool {
        self.verifies_bytes(&signing_bytes(purpose, chain, value), signature)
    }

    /// Whether `signature` is this key's over bytes that [`signing_bytes`] made.
    #[must_use]
    pub fn verifies_bytes(&self, bytes: &[u8], signature: &Signature) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.0) else {
            return false;
        };
        key.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&signature.0))
            .is_ok()
    }
}

/// An ed25519 signature of 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Takes 64 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

text_form!(PublicKey);
text_form!(Signature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_purpose_chain_and_value_alone() {
        let key = SigningKey::from_seed(&[1; 32]);
        let chain = Hash::from_bytes([9; 32]);
        let signature = key.sign(Purpose::Transaction, chain, &5_u8);
        let public = key.public();
        assert!(public.verifies(Purpose::Transaction, chain, &5_u8, &signature));
        assert!(!public.verifies(Purpose::Agreement, chain, &5_u8, &signature));
        assert!(!public.verifies(Purpose::Transaction, Hash::ZERO, &5_u8, &signature));
        assert!(!public.verifies(Purpose::Transaction, chain, &6_u8, &signature));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The neutral element with the signature (R = neutral, s = 0), which plain verification accepts for any message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let key = PublicKey::from_bytes(neutral);
        assert!(!key.verifies(Purpose::Vote, Hash::ZERO, &1_u8, &Signature::from_bytes(signature)));
    }
}
