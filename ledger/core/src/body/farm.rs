use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    key::PublicKey,
    record::{Id, Kind},
    text::Text,
    unit::Timestamp,
};

/// Most enrolment keys of a farm at a time.
pub const MAX_ENROLMENTS: usize = 16;

/// Where nodes belong. Its id is founded by its owner and first name.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Farm {
    /// The entity that owns it.
    pub owner: Id,
    /// A name for people; not unique.
    pub name: Text<64>,
    /// Where it stands.
    pub location: Location,
    /// Keys that let nodes join.
    pub enrolments: Vec<Enrolment>,
}

impl Farm {
    /// The id that this farm has when this is its first version.
    #[must_use]
    pub fn founding_id(&self) -> Id {
        Id::found(Kind::Farm, &(self.owner, &self.name))
    }
}

/// A place on earth, as its farmer states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Location {
    /// Country, two capital letters of ISO 3166-1.
    pub country: [u8; 2],
    /// Latitude in millionths of a degree, north positive.
    pub latitude: i32,
    /// Longitude in millionths of a degree, east positive.
    pub longitude: i32,
}

impl Location {
    /// Whether the country has the form of a code and the place is on the globe.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.country.iter().all(u8::is_ascii_uppercase)
            && (-90_000_000..=90_000_000).contains(&self.latitude)
            && (-180_000_000..=180_000_000).contains(&self.longitude)
    }

    /// The country's code as text.
    #[must_use]
    pub fn country_text(&self) -> String {
        self.country.iter().map(|&letter| char::from(letter)).collect()
    }
}

/// The right to join nodes, carried by a farm's boot media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Enrolment {
    /// The public half of the media's key.
    pub key: PublicKey,
    /// How many nodes may still join with it.
    pub remaining: u32,
    /// Time after which none may.
    pub until: Timestamp,
}
