//! Taking a request apart, with refusals in the one form that answers have.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};

use super::error::ApiError;

/// Most entries of a page, and how many there are if nothing is said.
pub(crate) const PAGE: usize = 100;
/// Most bytes, as the chain encodes them, after which a page is full.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;

/// The part of the address after the question mark.
#[derive(Debug)]
pub(crate) struct Ask<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Ask<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri).map_err(|error| ApiError::malformed(error.body_text()))?;
        Ok(Self(query.0))
    }
}

/// One part of a path, such as an id.
pub(crate) fn part<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, ApiError> {
    text.parse()
        .map_err(|error| ApiError::malformed(format!("{name}: {error}")))
}

/// Reads a field of a query from its text form.
pub(crate) fn by_text<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(from: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

/// How many entries a page has: what was asked for, within bounds.
pub(crate) fn limit(asked: Option<u16>) -> usize {
    asked.map_or(PAGE, |asked| usize::from(asked).clamp(1, PAGE))
}
