//! Whom somebody means: an id, or the name that stands for one.

use std::{fmt, str::FromStr};

use ledger::{Id, body::Label};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Whom somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The entity of this id.
    Id(Id),
    /// The entity for which this name stands.
    Name(Label),
}

/// A text that means nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an id, which has 64 hexadecimal digits, nor a name")]
pub struct WhoError;

impl FromStr for Who {
    type Err = WhoError;

    /// An id has 64 hexadecimal digits, more than a name.
    fn from_str(text: &str) -> Result<Self, WhoError> {
        match (text.parse(), Label::new(text)) {
            (Ok(id), _) => Ok(Self::Id(id)),
            (_, Ok(label)) => Ok(Self::Name(label)),
            _ => Err(WhoError),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(label) => label.fmt(f),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_a_name_are_told_apart_and_written_as_they_were_read() {
        let id = "ab".repeat(32);
        assert!(matches!(id.parse(), Ok(Who::Id(_))));
        assert!(matches!("alice".parse(), Ok(Who::Name(_))));
        for text in [&*id, "alice"] {
            assert_eq!(text.parse::<Who>().unwrap().to_string(), text);
        }
        assert!("ab".repeat(31).parse::<Who>().is_err());
    }
}
