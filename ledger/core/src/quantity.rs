//! Quantities as people write them, read exactly: no floats.

use crate::unit::Tokens;

/// A text is not such a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a decimal number.
    #[error("{0:?} is not a decimal number such as 12.5")]
    NotDecimal(String),
    /// More than six decimals, which would have to be rounded.
    #[error("{0:?} has more than six decimals")]
    TooFine(String),
    /// Not representable.
    #[error("{0:?} is too large")]
    TooLarge(String),
    /// A unit that is not known.
    #[error("{text:?}: write a whole number and one of {units}")]
    Unit {
        /// What was written.
        text: String,
        /// The units that are known.
        units: &'static str,
    },
    /// Degrees beyond the globe.
    #[error("{0:?} degrees are beyond the globe")]
    Degrees(String),
    /// Not a point.
    #[error("{0:?} is not a latitude and a longitude in degrees, such as 51.05,3.72")]
    Point(String),
    /// Not the code of a country.
    #[error("{0:?} is not a country: two letters of ISO 3166-1, such as BE")]
    Country(String),
}

/// Decimals of every number here: micro-tokens, millionths of a degree.
const DECIMALS: usize = 6;
const MICRO: u64 = 1_000_000;

/// Reads an amount of tokens with at most six decimals, such as `12.5`.
///
/// # Errors
/// [`QuantityError`] when it is no number, too fine or too large.
pub fn tokens(text: &str) -> Result<Tokens, QuantityError> {
    millionths(text).map(Tokens::from_micro)
}

/// Reads an angle in degrees within `limit` on either side of zero, such as `-3.703790`, as millionths of a degree.
///
/// # Errors
/// [`QuantityError`] when it is no number, too fine or beyond the limit.
pub fn degrees(text: &str, limit: u32) -> Result<i32, QuantityError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let beyond = || QuantityError::Degrees(text.to_owned());
    let magnitude = millionths(digits)?;
    if magnitude > u64::from(limit) * MICRO {
        return Err(beyond());
    }
    let magnitude = i32::try_from(magnitude).map_err(|_| beyond())?;
    Ok(if negative { -magnitude } else { magnitude })
}

/// Reads a point on the globe, such as `51.05,-3.7`: latitude and longitude as millionths of a degree.
///
/// # Errors
/// [`QuantityError`] when it is none.
pub fn point(text: &str) -> Result<(i32, i32), QuantityError> {
    let (latitude, longitude) = text
        .split_once(',')
        .ok_or_else(|| QuantityError::Point(text.to_owned()))?;
    Ok((degrees(latitude.trim(), 90)?, degrees(longitude.trim(), 180)?))
}

/// Reads the code of a country, such as `BE` or `be`.
///
/// # Errors
/// [`QuantityError::Country`] when it is not two letters.
pub fn country(text: &str) -> Result<[u8; 2], QuantityError> {
    match text.to_ascii_uppercase().as_bytes() {
        [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Ok([*a, *b]),
        _ => Err(QuantityError::Country(text.to_owned())),
    }
}

fn millionths(text: &str) -> Result<u64, QuantityError> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(QuantityError::NotDecimal(text.to_owned()));
    }
    if fraction.len() > DECIMALS {
        return Err(QuantityError::TooFine(text.to_owned()));
    }
    let large = || QuantityError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| large())?;
    let fraction: u64 = format!("{fraction:0<DECIMALS$}").parse().map_err(|_| large())?;
    whole
        .checked_mul(MICRO)
        .and_then(|micro| micro.checked_add(fraction))
        .ok_or_else(large)
}

/// Reads an amount of bytes: a whole number with `KiB`, `MiB`, `GiB`, `TiB` or `B`; a bare number counts bytes.
///
/// # Errors
/// [`QuantityError`] when it is no such amount.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    const UNITS: &[(&str, u64)] = &[
        ("", 1),
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    scaled(text, UNITS, "B, KiB, MiB, GiB, TiB")
}

/// Reads a time in milliseconds: a whole number with `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`QuantityError`] when it is no such time.
pub fn millis(text: &str) -> Result<u64, QuantityError> {
    const UNITS: &[(&str, u64)] = &[
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    scaled(text, UNITS, "ms, s, m, h, d")
}

/// How much is needed and how much there is, less than that, in MiB such that the two differ.
#[must_use]
pub fn shortage(needed: u64, present: u64) -> (String, String) {
    const MIB: u64 = 1 << 20;
    (
        format!("{} MiB", needed.div_ceil(MIB)),
        format!("{} MiB", present / MIB),
    )
}

fn scaled(text: &str, known: &[(&str, u64)], units: &'static str) -> Result<u64, QuantityError> {
    let unknown = || QuantityError::Unit {
        text: text.to_owned(),
        units,
    };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let (_, scale) = known
        .iter()
        .find(|(name, _)| *name == unit.trim())
        .ok_or_else(unknown)?;
    if number.is_empty() {
        return Err(unknown());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*scale))
        .ok_or_else(|| QuantityError::TooLarge(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_to_the_micro_token() {
        for (text, micro) in [
            ("0", 0),
            ("1", 1_000_000),
            ("12.5", 12_500_000),
            ("0.000001", 1),
            ("18446744073709.551615", u64::MAX),
        ] {
            assert_eq!(tokens(text), Ok(Tokens::from_micro(micro)), "{text}");
            assert_eq!(
                tokens(&Tokens::from_micro(micro).to_string()),
                Ok(Tokens::from_micro(micro))
            );
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0x1", "١"] {
            assert!(matches!(tokens(text), Err(QuantityError::NotDecimal(_))), "{text:?}");
        }
        assert!(matches!(tokens("0.0000001"), Err(QuantityError::TooFine(_))));
        for text in ["18446744073709.551616", "99999999999999999999"] {
            assert!(matches!(tokens(text), Err(QuantityError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn degrees_stay_on_the_globe() {
        assert_eq!(degrees("50.85", 90), Ok(50_850_000));
        assert_eq!(degrees("-3.70379", 180), Ok(-3_703_790));
        assert_eq!(degrees("-180", 180), Ok(-180_000_000));
        assert!(matches!(degrees("90.000001", 90), Err(QuantityError::Degrees(_))));
        assert!(degrees("--1", 90).is_err());
    }

    #[test]
    fn points_and_countries_are_read_as_people_write_them() {
        assert_eq!(point("51.05, -3.72"), Ok((51_050_000, -3_720_000)));
        assert!(matches!(point("51.05"), Err(QuantityError::Point(_))));
        assert!(matches!(point("91,0"), Err(QuantityError::Degrees(_))));
        assert_eq!((country("be"), country("BE")), (Ok(*b"BE"), Ok(*b"BE")));
        for text in ["B", "BEL", "B1", "é"] {
            assert!(matches!(country(text), Err(QuantityError::Country(_))), "{text}");
        }
    }

    #[test]
    fn what_lacks_a_single_byte_lacks_a_mebibyte() {
        let of = |needed, present| shortage(needed, present);
        assert_eq!(of(1, 0), ("1 MiB".to_owned(), "0 MiB".to_owned()));
        assert_eq!(
            of((1 << 30) + 1, 1 << 30),
            ("1025 MiB".to_owned(), "1024 MiB".to_owned())
        );
        // What is said to be needed is enough.
        assert_eq!(bytes(&of((1 << 30) + 1, 0).0).unwrap(), 1025 << 20);
    }

    #[test]
    fn sizes_and_times_carry_their_unit() {
        assert_eq!(bytes("512 MiB"), Ok(512 << 20));
        assert_eq!(bytes("10"), Ok(10));
        assert_eq!(millis("90s"), Ok(90_000));
        assert_eq!(millis("2d"), Ok(172_800_000));
        assert!(matches!(bytes("1 MB"), Err(QuantityError::Unit { .. })));
        assert!(matches!(millis("10"), Err(QuantityError::Unit { .. })));
        assert!(matches!(bytes("GiB"), Err(QuantityError::Unit { .. })));
        assert!(matches!(bytes("99999999 TiB"), Err(QuantityError::TooLarge(_))));
    }
}
