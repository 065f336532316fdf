//! Records: what stands on the chain. A change never overwrites, it appends a version linked to the one before.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    body::{
        Account, Assignments, Channel, Charter, Contract, Entity, Escrow, Farm, Image, Misconduct, Name, Node, Release,
        Terms,
    },
    hash::{Domain, Hash},
    hex::HexError,
    unit::Height,
};

/// Names an entity, node, farm, … for ever. It is no key: it is the hash of what founded the record, and keys are fields that
/// later versions replace.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Id(Hash);

impl Id {
    /// The chain itself, as the author of what happens by a rule.
    pub const CHAIN: Self = Self(Hash::ZERO);

    /// The id of a record of this kind that was founded by `founding`.
    #[must_use]
    pub fn found(kind: Kind, founding: &impl BorshSerialize) -> Self {
        Self(Hash::of(Domain::Founding, &(kind, founding)))
    }

    /// Takes a hash as an id.
    #[must_use]
    pub const fn from_hash(hash: Hash) -> Self {
        Self(hash)
    }

    /// The id as a hash.
    #[must_use]
    pub const fn hash(self) -> Hash {
        self.0
    }

    /// The first eight hexadecimal digits, for people; not unique.
    #[must_use]
    pub fn short(self) -> String {
        self.0.to_string().chars().take(8).collect()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        text.parse().map(Self)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $tag:literal, $text:literal;)*) => {
        /// Kinds of record.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[borsh(use_discriminant = true)]
        #[serde(rename_all = "kebab-case")]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $tag,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        /// What a record says, by kind.
        #[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        #[borsh(use_discriminant = true)]
        #[serde(rename_all = "kebab-case")]
        #[expect(clippy::large_enum_variant, reason = "bodies are short-lived and most of them are contracts")]
        #[repr(u8)]
        pub enum Body {
            $($(#[$doc])* $name($name) = $tag,)*
        }

        impl Body {
            /// The kind of record that this is the body of.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }
        }

        $(
            impl From<$name> for Body {
                fn from(body: $name) -> Self {
                    Self::$name(body)
                }
            }

            impl BodyOf for $name {
                const KIND: Kind = Kind::$name;

                fn of(body: &Body) -> Option<&Self> {
                    match body {
                        Body::$name(body) => Some(body),
                        _ => None,
                    }
                }
            }
        )*
    };
}

kinds! {
    /// Balance and next nonce of an entity or a node.
    Account = 1, "account";
    /// A person or an organisation, represented by a 3bot.
    Entity = 2, "entity";
    /// Where nodes belong.
    Farm = 3, "farm";
    /// A machine.
    Node = 4, "node";
    /// What a farm offers, at which price and rules.
    Terms = 5, "terms";
    /// What two parties agreed, and how far it is.
    Contract = 6, "contract";
    /// The money of a contract.
    Escrow = 7, "escrow";
    /// What runs in a micro-VM.
    Image = 8, "image";
    /// The complete set of contracts that are live on a node.
    Assignments = 9, "assignments";
    /// Who validates the chain, and by which rules.
    Charter = 10, "charter";
    /// Proof that a validator lied.
    Misconduct = 11, "misconduct";
    /// For whom a name stands.
    Name = 12, "name";
    /// A succession of releases of the node's system, and the keys that make them.
    Channel = 13, "channel";
    /// A release of the node's system, and to how many nodes it is given.
    Release = 14, "release";
}

/// A body of one certain kind.
pub trait BodyOf: Sized + Clone + Into<Body> {
    /// The kind of the record.
    const KIND: Kind;

    /// The body as this kind, or `None` if it is of another.
    fn of(body: &Body) -> Option<&Self>;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == text)
            .ok_or(UnknownKind)
    }
}

/// A text names no kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such kind of record")]
pub struct UnknownKind;

/// Where a record stands: its kind and id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct RecordKey {
    /// Kind of record.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
}

impl RecordKey {
    /// The key of a record.
    #[must_use]
    pub const fn new(kind: Kind, id: Id) -> Self {
        Self { kind, id }
    }

    /// The record's path in the state tree.
    #[must_use]
    pub fn path(&self) -> Hash {
        Hash::of(Domain::StatePath, self)
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

/// One version of a record.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Record {
    /// Names the record; the same in every version.
    pub id: Id,
    /// 1 for the first, one more with each change.
    pub version: u64,
    /// Hash of the version before; [`Hash::ZERO`] for the first.
    pub previous: Hash,
    /// Whose transaction made this version; [`Id::CHAIN`] where a rule did.
    pub author: Id,
    /// Height of the block that made this version; 0 for the genesis.
    pub height: Height,
    /// What it says.
    pub body: Body,
}

impl Record {
    /// Where the record stands.
    #[must_use]
    pub const fn key(&self) -> RecordKey {
        RecordKey {
            kind: self.body.kind(),
            id: self.id,
        }
    }

    /// The hash of this version, to which the next one links.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Record, self)
    }

    /// Whether this version is the one after `before` of the same record.
    #[must_use]
    pub fn follows(&self, before: &Self) -> bool {
        self.key() == before.key()
            && before.version.checked_add(1) == Some(self.version)
            && self.previous == before.hash()
    }
}
