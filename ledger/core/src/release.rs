//! What release keys sign: a channel's opening, other keys in their place, a release. A node checks it by the keys that its image
//! pins, so the chain orders releases and can make none.

use std::{collections::BTreeSet, fmt};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{Blob, Channel, Label, Release, ReleaseKeys},
    hash::Hash,
    key::{PublicKey, Purpose, Signature, SigningKey},
    record::Id,
    signatures::Claim,
    text::Text,
    transaction::Operation,
};

/// One key's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct KeySignature {
    /// The key.
    pub key: PublicKey,
    /// Its signature.
    pub signature: Signature,
}

/// What makes a channel.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Opening {
    /// Its name.
    pub label: Label,
    /// Its first keys.
    pub keys: ReleaseKeys,
    /// Who stages its releases.
    pub owner: Id,
}

/// What puts other keys, or another owner, in the place of a channel's.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Rotation {
    /// The channel.
    pub channel: Id,
    /// Its number: 1 for the first, without a gap.
    pub number: u32,
    /// The keys from then on.
    pub keys: ReleaseKeys,
    /// Who stages releases from then on.
    pub owner: Id,
}

/// What a release is.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Manifest {
    /// The channel.
    pub channel: Id,
    /// Its number, higher than that of any before: a node never goes back to a lower one.
    pub number: u64,
    /// How people call it, such as 1.2.0.
    pub name: Text<32>,
    /// The manifest of its image.
    pub image: Blob,
}

macro_rules! signed {
    ($(#[$doc:meta])* $name:ident, $field:ident: $statement:ident, $purpose:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        pub struct $name {
            /// What is signed.
            pub $field: $statement,
            /// Signatures, in ascending order of their keys.
            pub signatures: Vec<KeySignature>,
        }

        impl $statement {
            /// One key's signature.
            #[must_use]
            pub fn sign(&self, chain: Hash, key: &SigningKey) -> KeySignature {
                KeySignature {
                    key: key.public(),
                    signature: key.sign(Purpose::$purpose, chain, self),
                }
            }

            /// With signatures, which are put in order.
            #[must_use]
            pub fn signed(self, mut signatures: Vec<KeySignature>) -> $name {
                signatures.sort_by_key(|signature| signature.key);
                $name {
                    $field: self,
                    signatures,
                }
            }
        }

        impl $name {
            /// With another's signatures under the same; `None` where it is not the same.
            #[must_use]
            pub fn merged(mut self, other: Self) -> Option<Self> {
                if self.$field != other.$field {
                    return None;
                }
                let new = other.signatures.into_iter();
                let missing: Vec<_> = new.filter(|by| !self.signatures.contains(by)).collect();
                self.signatures.extend(missing);
                Some(self.$field.signed(self.signatures))
            }

            /// Those whose signatures hold.
            ///
            /// # Errors
            /// [`ReleaseError::Signature`] when one does not, or when they are not in order.
            fn signers(&self, judge: Judge<'_>) -> Result<BTreeSet<PublicKey>, ReleaseError> {
                let ascending = self.signatures.windows(2).all(|pair| pair[0].key < pair[1].key);
                let signed = (Purpose::$purpose, judge.chain);
                let holds = |by: &KeySignature| (judge.holds)(&Claim::new(by.key, signed, &self.$field, by.signature));
                if ascending && self.signatures.iter().all(holds) {
                    Ok(self.signatures.iter().map(|by| by.key).collect())
                } else {
                    Err(ReleaseError::Signature)
                }
            }
        }
    };
}

signed! {
    /// An opening with its signatures.
    SignedOpening, opening: Opening, Channel
}
signed! {
    /// A rotation with its signatures.
    SignedRotation, rotation: Rotation, ReleaseRotation
}
signed! {
    /// A release with its signatures.
    SignedManifest, manifest: Manifest, Release
}

/// How signatures are checked.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// The chain for which they are.
    pub chain: Hash,
    /// Whether one holds.
    pub holds: &'a dyn Fn(&Claim) -> bool,
}

impl Judge<'static> {
    /// Checks each by its key.
    #[must_use]
    pub fn plain(chain: Hash) -> Self {
        let holds = &|claim: &Claim| claim.key.verifies_bytes(&claim.bytes, &claim.signature);
        Self { chain, holds }
    }
}

impl fmt::Debug for Judge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Judge(of {})", self.chain)
    }
}

/// Why keys do not stand behind something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Too many keys, in disorder, or fewer than must sign.
    #[error("release keys are 1 to 16 in ascending order, and no more of them sign than there are")]
    Keys,
    /// A signature does not hold.
    #[error("a signature does not hold, or signatures are not in ascending order of their keys")]
    Signature,
    /// Somebody signed who has no key of it.
    #[error("{0} is none of the release keys")]
    Stranger(PublicKey),
    /// Fewer signed than must.
    #[error("{signed} of the release keys signed, {needed} must")]
    Few {
        /// How many signed.
        signed: usize,
        /// How many must.
        needed: u8,
    },
    /// It is about another channel.
    #[error("it is about another channel")]
    Channel,
    /// A rotation is missing, or was carried out before.
    #[error("rotation {given} does not follow {rotations} rotations")]
    Order {
        /// The rotation's number.
        given: u32,
        /// How many there were.
        rotations: u32,
    },
}

fn enough(keys: &ReleaseKeys, signers: &BTreeSet<PublicKey>) -> Result<(), ReleaseError> {
    let signed = keys.keys.iter().filter(|key| signers.contains(key)).count();
    if signed >= usize::from(keys.threshold) {
        Ok(())
    } else {
        let needed = keys.threshold;
        Err(ReleaseError::Few { signed, needed })
    }
}

fn no_stranger(among: &[&ReleaseKeys], signers: &BTreeSet<PublicKey>) -> Result<(), ReleaseError> {
    let known = |key: &PublicKey| among.iter().any(|keys| keys.keys.contains(key));
    match signers.iter().find(|key| !known(key)) {
        Some(stranger) => Err(ReleaseError::Stranger(*stranger)),
        None => Ok(()),
    }
}

impl SignedOpening {
    /// The channel that it makes.
    ///
    /// # Errors
    /// [`ReleaseError`] when its keys do not stand behind it.
    pub fn open(&self, judge: Judge<'_>) -> Result<Channel, ReleaseError> {
        let Opening { label, keys, owner } = &self.opening;
        if !keys.is_valid() {
            return Err(ReleaseError::Keys);
        }
        let signers = self.signers(judge)?;
        no_stranger(&[keys], &signers)?;
        enough(keys, &signers)?;
        Ok(Channel {
            label: label.clone(),
            owner: *owner,
            keys: keys.clone(),
            rotations: 0,
            rotation: None,
            newest: 0,
            staged: 0,
        })
    }
}

/// The keys of a channel as a node knows them: those that its image pins, and how often they were rotated before.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Pin {
    /// The channel.
    pub channel: Id,
    /// How often its keys had been rotated.
    pub rotations: u32,
    /// The keys.
    pub keys: ReleaseKeys,
}

impl Pin {
    /// After a rotation, behind which both the keys before and those after must stand: so that nobody takes the channel over, and
    /// none rotates it to keys that nobody has.
    ///
    /// # Errors
    /// [`ReleaseError`] says what does not hold.
    pub fn rotated(&self, signed: &SignedRotation, judge: Judge<'_>) -> Result<Self, ReleaseError> {
        let Rotation {
            channel, number, keys, ..
        } = &signed.rotation;
        if *channel != self.channel {
            return Err(ReleaseError::Channel);
        }
        if self.rotations.checked_add(1) != Some(*number) {
            return Err(ReleaseError::Order {
                given: *number,
                rotations: self.rotations,
            });
        }
        if !keys.is_valid() {
            return Err(ReleaseError::Keys);
        }
        let signers = signed.signers(judge)?;
        no_stranger(&[&self.keys, keys], &signers)?;
        enough(&self.keys, &signers)?;
        enough(keys, &signers)?;
        Ok(Self {
            channel: *channel,
            rotations: *number,
            keys: keys.clone(),
        })
    }

    /// Checks that the keys stand behind a release.
    ///
    /// # Errors
    /// [`ReleaseError`] says what does not hold.
    pub fn check(&self, signed: &SignedManifest, judge: Judge<'_>) -> Result<(), ReleaseError> {
        if signed.manifest.channel != self.channel {
            return Err(ReleaseError::Channel);
        }
        let signers = signed.signers(judge)?;
        no_stranger(&[&self.keys], &signers)?;
        enough(&self.keys, &signers)
    }
}

/// What release keys are to sign, as a file that goes from one of them to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paper {
    /// The chain for which it is.
    pub chain: Hash,
    /// What is signed, with the signatures so far.
    pub signed: Statement,
}

/// What can be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statement {
    /// A channel is opened.
    Channel(SignedOpening),
    /// A channel gets other keys or another owner.
    Rotation(SignedRotation),
    /// A release is made.
    Release(SignedManifest),
}

impl Paper {
    /// With a key's signature.
    #[must_use]
    pub fn sign(self, key: &SigningKey) -> Self {
        macro_rules! with {
            ($signed:ident, $field:ident) => {{
                let signature = $signed.$field.sign(self.chain, key);
                let others = $signed
                    .signatures
                    .into_iter()
                    .filter(|by| by.key != signature.key);
                let signatures = others.chain([signature]).collect();
                $signed.$field.signed(signatures)
            }};
        }
        let signed = match self.signed {
            Statement::Channel(signed) => Statement::Channel(with!(signed, opening)),
            Statement::Rotation(signed) => Statement::Rotation(with!(signed, rotation)),
            Statement::Release(signed) => Statement::Release(with!(signed, manifest)),
        };
        Self { signed, ..self }
    }

    /// With the signatures of another copy; `None` where it is no copy.
    #[must_use]
    pub fn merged(self, other: Self) -> Option<Self> {
        if self.chain != other.chain {
            return None;
        }
        let signed = match (self.signed, other.signed) {
            (Statement::Channel(one), Statement::Channel(other)) => Statement::Channel(one.merged(other)?),
            (Statement::Rotation(one), Statement::Rotation(other)) => Statement::Rotation(one.merged(other)?),
            (Statement::Release(one), Statement::Release(other)) => Statement::Release(one.merged(other)?),
            _ => return None,
        };
        Some(Self { signed, ..self })
    }
}

impl Statement {
    /// The id of the record that it makes or changes.
    #[must_use]
    pub fn record(&self) -> Id {
        match self {
            Self::Channel(signed) => Channel::founding_id(&signed.opening.label, &signed.opening.keys),
            Self::Rotation(signed) => signed.rotation.channel,
            Self::Release(signed) => Release::founding_id(signed.manifest.channel, signed.manifest.number),
        }
    }

    /// What puts it on the chain.
    #[must_use]
    pub fn operation(self) -> Operation {
        match self {
            Self::Channel(signed) => Operation::OpenChannel(signed),
            Self::Rotation(signed) => Operation::RotateReleaseKeys(signed),
            Self::Release(signed) => Operation::PublishRelease(signed),
        }
    }
}

/// What it says in one line, for those who are to sign it.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |keys: &ReleaseKeys| {
            let named: Vec<_> = keys.keys.iter().map(ToString::to_string).collect();
            format!("{} of the keys {}", keys.threshold, named.join(" "))
        };
        match self {
            Self::Channel(signed) => {
                let Opening { label, keys, owner } = &signed.opening;
                write!(
                    f,
                    "channel {label} is opened: {} sign releases, {owner} stages them",
                    of(keys)
                )
            }
            Self::Rotation(signed) => {
                let Rotation {
                    channel,
                    number,
                    keys,
                    owner,
                } = &signed.rotation;
                write!(
                    f,
                    "channel {channel} has from rotation {number} on: {} sign releases, {owner} stages them",
                    of(keys)
                )
            }
            Self::Release(signed) => {
                let Manifest {
                    channel,
                    number,
                    name,
                    image,
                } = &signed.manifest;
                write!(
                    f,
                    "release {number} of channel {channel}, called {name:?}: manifest {} of {} bytes",
                    image.hash, image.size
                )
            }
        }
    }
}
