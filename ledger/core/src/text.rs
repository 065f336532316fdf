//! Names that people read: bounded, printable, without surprises.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// UTF-8 text of at most `MAX` bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, BorshSerialize)]
pub struct Text<const MAX: usize>(String);

/// A text that may not stand in a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// More bytes than the field allows.
    #[error("text has {actual} bytes, at most {limit} are allowed")]
    TooLong {
        /// Bytes given.
        actual: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A line break, an escape or the like.
    #[error("text has a control character")]
    Control,
}

impl<const MAX: usize> Text<MAX> {
    /// Takes a text that keeps the rules.
    ///
    /// # Errors
    /// [`TextError`] when it is too long or has a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        if text.len() > MAX {
            return Err(TextError::TooLong {
                actual: text.len(),
                limit: MAX,
            });
        }
        if text.chars().any(char::is_control) {
            return Err(TextError::Control);
        }
        Ok(Self(text))
    }

    /// As much of `text` as the rules allow: control characters become spaces, and what is over the bound is cut.
    #[must_use]
    pub fn lossy(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if out.len() + c.len_utf8() > MAX {
                break;
            }
            out.push(c);
        }
        Self(out)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> BorshDeserialize for Text<MAX> {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let text = String::deserialize_reader(reader)?;
        Self::new(text).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(<String as Deserialize>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{decode, encode};

    #[test]
    fn the_rules_hold_for_decoded_texts_too() {
        assert!(decode::<Text<4>>(&encode(&"abcd".to_owned()), 64).is_ok());
        assert!(decode::<Text<4>>(&encode(&"abcde".to_owned()), 64).is_err());
        assert!(decode::<Text<4>>(&encode(&"a\nb".to_owned()), 64).is_err());
    }

    #[test]
    fn a_lossy_text_is_cut_at_a_character() {
        assert_eq!(Text::<4>::lossy("aé\né").as_str(), "aé ");
    }
}
