//! A secret and what is derived from it.

use ledger::{Id, Kind, PublicKey, SigningKey, body::Keys};
use peer_link::LinkKey;
use workload::EncryptionKey;
use zeroize::Zeroizing;

const SIGNING: &str = "zos threebot 2026-11 signing key";
const LINK: &str = "zos threebot 2026-11 link key";
const ENCRYPTION: &str = "zos threebot 2026-11 encryption key";
const RECOVERY: &str = "zos threebot 2026-11 recovery key";

/// A secret seed of 32 bytes, from which keys are derived; wiped from memory when dropped.
#[derive(Clone)]
pub struct Seed(Zeroizing<[u8; 32]>);

/// Words that are no seed's.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// Not a sentence of the English BIP-39 list with a right check sum.
    #[error("these are not recovery words: {0}")]
    Sentence(String),
    /// A sentence of another length.
    #[error("{0} recovery words, 24 are needed")]
    Count(usize),
}

impl Seed {
    /// Draws a fresh seed.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        Ok(Self(seed))
    }

    /// The seed of these bytes.
    #[must_use]
    pub fn from_bytes(seed: Zeroizing<[u8; 32]>) -> Self {
        Self(seed)
    }

    /// Its bytes, to be kept secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// It as 24 words of BIP-39.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let mnemonic = bip39::Mnemonic::from_entropy(self.0.as_slice()).expect("32 bytes make 24 words");
        Zeroizing::new(mnemonic.to_string())
    }

    /// The seed behind 24 words.
    ///
    /// # Errors
    /// [`WordsError`] when they are not such words.
    pub fn from_words(words: &str) -> Result<Self, WordsError> {
        let words = Zeroizing::new(words.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "));
        let mnemonic = bip39::Mnemonic::parse_in_normalized(bip39::Language::English, &words)
            .map_err(|error| WordsError::Sentence(error.to_string()))?;
        let entropy = Zeroizing::new(mnemonic.to_entropy());
        let seed = <[u8; 32]>::try_from(entropy.as_slice()).map_err(|_| WordsError::Count(mnemonic.word_count()))?;
        Ok(Self(Zeroizing::new(seed)))
    }

    fn derive(&self, context: &'static str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, self.0.as_slice()))
    }

    /// Signs transactions and agreements.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_seed(&self.derive(SIGNING))
    }

    /// Speaks for it on links.
    #[must_use]
    pub fn link(&self) -> LinkKey {
        LinkKey::from_seed(&self.derive(LINK))
    }

    /// Reads what is sealed to it.
    #[must_use]
    pub fn encryption(&self) -> EncryptionKey {
        EncryptionKey::from_seed(&self.derive(ENCRYPTION))
    }

    /// The public halves, as they stand on the chain.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys {
            signing: self.signing().public(),
            link: PublicKey::from_bytes(*self.link().id().as_bytes()),
            encryption: self.encryption().public(),
        }
    }

    /// The id that these keys found.
    #[must_use]
    pub fn founding_id(&self) -> Id {
        Id::found(Kind::Entity, &self.keys())
    }

    /// The key that replaces an entity's keys and does nothing else. Its seed is no identity's.
    #[must_use]
    pub fn recovery(&self) -> SigningKey {
        SigningKey::from_seed(&self.derive(RECOVERY))
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        Seed::from_bytes(Zeroizing::new([7; 32]))
    }

    #[test]
    fn words_bring_the_same_keys_back() {
        let words = seed().words();
        assert_eq!(words.split(' ').count(), 24);
        let untidy = format!("  {}\n", words.to_uppercase().replace(' ', "\n "));
        let recovered = Seed::from_words(&untidy).unwrap();
        assert_eq!(recovered.keys(), seed().keys());
        assert_eq!(recovered.founding_id(), seed().founding_id());
    }

    #[test]
    fn wrong_words_are_refused() {
        assert!(matches!(
            Seed::from_words("abandon ability able"),
            Err(WordsError::Sentence(_))
        ));
        let swapped: Vec<_> = seed().words().split(' ').rev().map(str::to_owned).collect();
        assert!(Seed::from_words(&swapped.join(" ")).is_err());
        let twelve = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        assert!(matches!(Seed::from_words(twelve), Err(WordsError::Count(12))));
    }

    #[test]
    fn the_three_keys_are_distinct_and_the_seed_does_not_show() {
        let keys = seed().keys();
        assert!(keys.signing != keys.link && keys.link != keys.encryption && keys.signing != keys.encryption);
        let recovery = seed().recovery().public();
        assert!(recovery != keys.signing && recovery != keys.link);
        assert!(!format!("{:?}", seed()).contains("0707"));
    }
}
