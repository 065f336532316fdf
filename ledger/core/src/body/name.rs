use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    record::{Id, Kind},
    unit::Tokens,
};

/// Fewest and most characters of a label.
pub const LABEL_LENGTH: std::ops::RangeInclusive<usize> = 3..=32;

/// A name that stands for an entity, in the whole chain. Its id is founded by the label.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Name {
    /// The name.
    pub label: Label,
    /// For whom it stands; nobody once it was given up.
    pub owner: Option<Id>,
    /// What lies with it, and goes to who gives it up.
    pub deposit: Tokens,
}

impl Name {
    /// The id of the record of a label.
    #[must_use]
    pub fn founding_id(label: &Label) -> Id {
        Id::found(Kind::Name, label)
    }
}

/// A text that can be a name: small letters `a` to `z`, digits and single hyphens between them, and not the eight hexadecimal digits
/// by which ids are shown in short.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct Label(String);

/// A text that can be no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has {least} to {most} characters: small letters a to z, digits, and single hyphens between them; eight hexadecimal \
     digits are none, for ids are shown so in short",
    least = LABEL_LENGTH.start(),
    most = LABEL_LENGTH.end()
)]
pub struct LabelError;

impl Label {
    /// Takes a text that can be a name.
    ///
    /// # Errors
    /// [`LabelError`] when it cannot.
    pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
        let text = text.into();
        let is_part =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let is_short_id = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_short_id && LABEL_LENGTH.contains(&text.len()) && text.split('-').all(is_part) {
            Ok(Self(text))
        } else {
            Err(LabelError)
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BorshDeserialize for Label {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let text = String::deserialize_reader(reader)?;
        Self::new(text).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        Self::new(text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        Self::new(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{decode, encode};

    #[test]
    fn labels_are_plain_and_bounded_wherever_they_come_from() {
        let longest = "a".repeat(*LABEL_LENGTH.end());
        for good in ["abc", "a-b", "3bot", "x9-y8-z7", &longest] {
            assert_eq!(Label::new(good).unwrap().as_str(), good);
            assert!(decode::<Label>(&encode(&good.to_owned()), 100).is_ok(), "{good}");
        }
        let too_long = "a".repeat(LABEL_LENGTH.end() + 1);
        for bad in [
            "",
            "ab12cd34",
            "ab",
            "-ab",
            "ab-",
            "a--b",
            "Abc",
            "a_b",
            "a b",
            "\u{430}bc",
            "abc\n",
            &too_long,
        ] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
            assert!(decode::<Label>(&encode(&bad.to_owned()), 100).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<Label>(bad.into()).is_err(), "{bad:?}");
        }
    }
}
