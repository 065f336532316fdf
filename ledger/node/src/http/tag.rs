//! Strong validators of answers (RFC 9110, section 8.8): whoever has an answer already is told so in a line.

use std::fmt::Display;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use std::convert::Infallible;

/// Version of what the answers look like; another form of the same record is another representation.
const FORM: u8 = 1;

/// What the client has, as `If-None-Match` says.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<String>);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

impl Known {
    fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::IF_NONE_MATCH).iter();
        let tags = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        // The comparison is the weak one, as the header asks for.
        let plain = |tag: &str| {
            let tag = tag.trim();
            tag.strip_prefix("W/").unwrap_or(tag).to_owned()
        };
        Self(tags.map(plain).collect())
    }

    fn has(&self, tag: &str) -> bool {
        self.0.iter().any(|known| known == "*" || known == tag)
    }

    /// The answer named `name`, or that the client has it.
    pub(crate) fn answer(&self, name: impl Display, body: impl IntoResponse) -> Response {
        let tag = format!("\"{FORM}-{name}\"");
        let mut response = if self.has(&tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            body.into_response()
        };
        // Names are hexadecimal digits and the like.
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(line: &'static str) -> Known {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(line));
        Known::of(&headers)
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        for line in ["\"1-ab\"", "\"1-cd\", \"1-ab\"", "W/\"1-ab\"", "*"] {
            let answer = known(line).answer("ab", "body");
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{line}");
            assert_eq!(answer.headers()[header::ETAG], "\"1-ab\"");
        }
        for line in ["", "\"1-a\"", "1-ab", "\"0-ab\""] {
            assert_eq!(known(line).answer("ab", "body").status(), StatusCode::OK, "{line}");
        }
    }
}
