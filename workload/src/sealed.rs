//! The ciphertext of a workload. `docs/format/sealed.md` has the byte table.
//!
//! The content is encrypted once under a fresh key; that key is wrapped for each recipient by HPKE (RFC 9180, base mode,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305), which refuses keys whose shared secret is zero.

use std::fmt;

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305 as Wrap, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use ledger::{
    PublicKey,
    encoding::{DecodeError, decode, encode},
};
use zeroize::Zeroizing;

use crate::spec::{Bound, Workload};

/// Largest ciphertext in bytes.
pub const MAX_SEALED: usize = 64 * 1024;
/// Most recipients.
pub const MAX_RECIPIENTS: usize = 8;

/// First bytes of every ciphertext; the last digit is the format's version.
const MAGIC: &[u8; 8] = b"ZOSSEAL1";
/// HPKE's info: separates these wraps from every other use of the recipients' keys.
const INFO: &[u8] = b"zos sealed workload 2026-11 content key";
const KEY: usize = 32;
const TAG: usize = 16;
/// A recipient's slot: its public key, the encapsulated key, the wrapped content key.
const SLOT: usize = KEY + KEY + KEY + TAG;
/// The content key encrypts one message, so the nonce is constant.
const NONCE: [u8; 12] = [0; 12];

/// A secret X25519 key to which secrets are sealed; wiped from memory when dropped.
#[derive(Clone)]
pub struct EncryptionKey(Zeroizing<[u8; KEY]>);

impl EncryptionKey {
    /// The key with this seed. Any 32 bytes are one.
    #[must_use]
    pub fn from_seed(seed: &[u8; KEY]) -> Self {
        Self(Zeroizing::new(*seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(X25519HkdfSha256::sk_to_pk(&self.secret()).to_bytes().into())
    }

    fn secret(&self) -> <X25519HkdfSha256 as Kem>::PrivateKey {
        Deserializable::from_bytes(self.0.as_slice()).expect("32 bytes are an X25519 key")
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionKey(of {})", self.public())
    }
}

/// Why a workload was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The workload breaks a bound.
    #[error("workload")]
    Bound(#[source] Bound),
    /// Nobody or too many are to read it.
    #[error("{0} recipients, 1 to {MAX_RECIPIENTS} are allowed")]
    Recipients(usize),
    /// A recipient's key is of small order: anyone could read what is sealed to it.
    #[error("key {0} of a recipient is no key that can be sealed to")]
    WeakKey(PublicKey),
    /// It does not fit.
    #[error("sealed workload has {0} bytes, at most {MAX_SEALED} are allowed: shorten environment and arguments")]
    TooLong(usize),
    /// The system gives no randomness.
    #[error("draw a content key: {0}")]
    Randomness(getrandom::Error),
}

/// Why a ciphertext was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Longer than any ciphertext.
    #[error("sealed workload has {0} bytes, at most {MAX_SEALED} are allowed")]
    TooLong(usize),
    /// Not of this format, or cut off.
    #[error("not a sealed workload of a known format")]
    Format,
    /// It was not sealed to this key.
    #[error("sealed to other keys than {0}")]
    NotRecipient(PublicKey),
    /// It was changed after it was sealed.
    #[error("sealed workload was changed or damaged")]
    Tampered,
    /// What it holds is no workload.
    #[error("decode sealed workload")]
    Content(#[source] DecodeError),
    /// What it holds breaks a bound.
    #[error("workload")]
    Bound(#[source] Bound),
}

/// Encrypts a workload so that each of `recipients`, X25519 keys, can read it alone.
///
/// # Errors
/// [`SealError`] when the workload breaks a bound, there is nobody to seal to, or it does not fit in [`MAX_SEALED`] bytes.
pub fn seal(workload: &Workload, recipients: &[PublicKey]) -> Result<Vec<u8>, SealError> {
    workload.check().map_err(SealError::Bound)?;
    if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
        return Err(SealError::Recipients(recipients.len()));
    }
    let count = u8::try_from(recipients.len()).map_err(|_| SealError::Recipients(recipients.len()))?;
    let plain = Zeroizing::new(encode(workload));
    let length = MAGIC.len() + 1 + recipients.len() * SLOT + plain.len() + TAG;
    if length > MAX_SEALED {
        return Err(SealError::TooLong(length));
    }
    let mut key = Zeroizing::new([0_u8; KEY]);
    getrandom::fill(key.as_mut_slice()).map_err(SealError::Randomness)?;

    let mut sealed = MAGIC.to_vec();
    sealed.push(count);
    for recipient in recipients {
        sealed.extend_from_slice(recipient.as_bytes());
        sealed.extend_from_slice(&wrap(&key, recipient)?);
    }
    let payload = Payload {
        msg: &plain,
        aad: &sealed,
    };
    let content = cipher(&key)
        .encrypt(&Nonce::from(NONCE), payload)
        .expect("a message of at most 64 KiB can be encrypted");
    sealed.extend_from_slice(&content);
    Ok(sealed)
}

/// Decrypts a workload that was sealed to `key`, and checks its bounds.
///
/// # Errors
/// [`OpenError`] names the check that failed.
pub fn open(sealed: &[u8], key: &EncryptionKey) -> Result<Workload, OpenError> {
    if sealed.len() > MAX_SEALED {
        return Err(OpenError::TooLong(sealed.len()));
    }
    let (count, slots) = sealed
        .strip_prefix(MAGIC)
        .and_then(<[u8]>::split_first)
        .ok_or(OpenError::Format)?;
    let count = usize::from(*count);
    if count == 0 || count > MAX_RECIPIENTS {
        return Err(OpenError::Format);
    }
    let (slots, content) = slots.split_at_checked(count * SLOT).ok_or(OpenError::Format)?;
    let header = &sealed[..sealed.len() - content.len()];
    let public = key.public();
    let slot = slots
        .chunks_exact(SLOT)
        .find(|slot| slot.starts_with(public.as_bytes()))
        .ok_or(OpenError::NotRecipient(public))?;
    let content_key = unwrap(&slot[KEY..], key)?;
    let payload = Payload {
        msg: content,
        aad: header,
    };
    let plain = cipher(&content_key)
        .decrypt(&Nonce::from(NONCE), payload)
        .map_err(|_| OpenError::Tampered)?;
    let plain = Zeroizing::new(plain);
    let workload: Workload = decode(&plain, MAX_SEALED).map_err(OpenError::Content)?;
    workload.check().map_err(OpenError::Bound)?;
    Ok(workload)
}

fn cipher(key: &[u8; KEY]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from(*key))
}

/// The encapsulated key and the wrapped content key.
fn wrap(key: &[u8; KEY], recipient: &PublicKey) -> Result<Vec<u8>, SealError> {
    let weak = |_| SealError::WeakKey(*recipient);
    let public = Deserializable::from_bytes(recipient.as_bytes()).map_err(weak)?;
    let (encapsulated, wrapped) =
        single_shot_seal::<Wrap, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &public, INFO, key, &[])
            .map_err(weak)?;
    let mut bytes = encapsulated.to_bytes().to_vec();
    bytes.extend_from_slice(&wrapped);
    Ok(bytes)
}

fn unwrap(wrapped: &[u8], key: &EncryptionKey) -> Result<Zeroizing<[u8; KEY]>, OpenError> {
    let (encapsulated, wrapped) = wrapped.split_at_checked(KEY).ok_or(OpenError::Format)?;
    let encapsulated = Deserializable::from_bytes(encapsulated).map_err(|_| OpenError::Tampered)?;
    let opened = single_shot_open::<Wrap, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &key.secret(),
        &encapsulated,
        INFO,
        wrapped,
        &[],
    );
    let opened = Zeroizing::new(opened.map_err(|_| OpenError::Tampered)?);
    let bytes = <[u8; KEY]>::try_from(opened.as_slice()).map_err(|_| OpenError::Tampered)?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::workload;

    fn keys() -> [EncryptionKey; 3] {
        [1, 2, 3].map(|seed| EncryptionKey::from_seed(&[seed; 32]))
    }

    fn sealed() -> Vec<u8> {
        let [node, customer, _] = keys();
        seal(&workload(), &[node.public(), customer.public()]).unwrap()
    }

    #[test]
    fn each_recipient_reads_it_and_nobody_else() {
        let [node, customer, other] = keys();
        let sealed = sealed();
        assert_eq!(open(&sealed, &node).unwrap(), workload());
        assert_eq!(open(&sealed, &customer).unwrap(), workload());
        assert!(matches!(open(&sealed, &other), Err(OpenError::NotRecipient(key)) if key == other.public()));
    }

    #[test]
    fn nothing_of_the_workload_shows_and_no_two_ciphertexts_are_equal() {
        let sealed_once = sealed();
        assert!(!sealed_once.windows(6).any(|window| window == b"secret"));
        assert_ne!(sealed_once, sealed());
    }

    #[test]
    fn every_flipped_byte_is_noticed_by_every_recipient() {
        let [node, customer, _] = keys();
        let sealed = sealed();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(open(&changed, &node).is_err(), "byte {index}");
            assert!(open(&changed, &customer).is_err(), "byte {index}");
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let [node, ..] = keys();
        let sealed = sealed();
        for length in 0..sealed.len() {
            assert!(open(&sealed[..length], &node).is_err(), "{length} bytes");
        }
        let longer = [sealed, vec![0]].concat();
        assert!(matches!(open(&longer, &node), Err(OpenError::Tampered)));
        assert!(matches!(
            open(&vec![0; MAX_SEALED + 1], &node),
            Err(OpenError::TooLong(_))
        ));
    }

    #[test]
    fn keys_of_small_order_are_refused_on_both_sides() {
        let [node, ..] = keys();
        let zero = PublicKey::from_bytes([0; 32]);
        assert!(matches!(seal(&workload(), &[zero]), Err(SealError::WeakKey(key)) if key == zero));
        let mut sealed = sealed();
        // The encapsulated key of the first slot.
        sealed[9 + KEY..9 + 2 * KEY].fill(0);
        assert!(matches!(open(&sealed, &node), Err(OpenError::Tampered)));
    }

    #[test]
    fn what_breaks_a_bound_is_not_sealed() {
        let [node, ..] = keys();
        let nobody = seal(&workload(), &[]);
        assert!(matches!(nobody, Err(SealError::Recipients(0))));
        let long = Workload {
            env: vec![("A".into(), "x".repeat(MAX_SEALED))],
            ..workload()
        };
        assert!(matches!(seal(&long, &[node.public()]), Err(SealError::TooLong(_))));
        let unnamed = Workload {
            name: String::new(),
            ..workload()
        };
        assert!(matches!(seal(&unnamed, &[node.public()]), Err(SealError::Bound(_))));
    }
}
