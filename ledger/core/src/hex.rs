//! The one text form of bytes on the chain: lower-case hexadecimal digits, in JSON as well.

/// A text is not as many hexadecimal digits as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {digits} hexadecimal digits")]
pub struct HexError {
    /// How many were expected.
    pub digits: usize,
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Reads hexadecimal digits of either case.
pub(crate) fn parse<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], HexError> {
    let wrong = HexError { digits: 2 * BYTES };
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(wrong)
}

/// Gives a type around an array of bytes its text form.
macro_rules! text_form {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::hex::encode(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hex::HexError;

            fn from_str(text: &str) -> Result<Self, $crate::hex::HexError> {
                $crate::hex::parse(text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_form;

#[cfg(test)]
mod tests {
    use crate::{Hash, PublicKey, Signature};

    #[test]
    fn text_forms_round_trip_and_refuse_other_lengths_by_what_was_expected() {
        let hash = Hash::from_bytes([0xab; 32]);
        assert_eq!(hash.to_string(), "ab".repeat(32));
        assert_eq!("AB".repeat(32).parse(), Ok(hash));
        for wrong in ["abcd".to_owned(), "zz".repeat(32), "ab".repeat(33)] {
            let error = wrong.parse::<PublicKey>().unwrap_err();
            assert_eq!(error.to_string(), "not 64 hexadecimal digits");
        }
        let signature = Signature::from_bytes([0xab; 64]);
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(json, format!("\"{}\"", "ab".repeat(64)));
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
        let error = "ab".parse::<Signature>().unwrap_err();
        assert_eq!(error.to_string(), "not 128 hexadecimal digits");
    }
}
