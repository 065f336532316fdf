//! What goes wrong, under codes that stay.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use ledger::Refusal;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;
use utoipa::ToSchema;

use crate::database::DatabaseError;

/// The body of an answer that says what went wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(crate) struct ErrorView {
    /// A word for programs. It stays the same from version to version.
    #[schema(example = "missing")]
    code: &'static str,
    /// A line for people. It may change.
    message: String,
    /// What belongs to the code, such as the nonce that is next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
}

/// Why a request is not answered as wished.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Option<Value>,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            detail: None,
            retry_after: None,
        }
    }

    /// The request is not one that can be answered.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// There is no such thing.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "missing", message)
    }

    /// No endpoint has this path.
    pub(crate) fn no_endpoint() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-endpoint",
            "no endpoint has this path; see /v1/openapi.json",
        )
    }

    /// The endpoint does something else.
    pub(crate) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "this endpoint does not take this method",
        )
    }

    /// The request is too long.
    pub(crate) fn too_large(limit: usize) -> Self {
        let text = format!("a request has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
    }

    /// The request is of a kind that is not known.
    pub(crate) fn media(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", message)
    }

    /// The request, or its answer, took too long.
    pub(crate) fn late() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "late",
            "the request was not complete in time",
        )
    }

    /// The client asks too much.
    pub(crate) fn too_many(message: impl Into<String>, retry_after: u64) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", message);
        error.retry_after(retry_after)
    }

    /// All together ask too much.
    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).retry_after(1)
    }

    /// The chain has no block yet, so nothing can be proven.
    pub(crate) fn no_block() -> Self {
        let error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no-block",
            "the chain has no block yet",
        );
        error.retry_after(1)
    }

    fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the validator failed on this request",
        )
    }

    /// A task ended without an answer.
    pub(crate) fn lost() -> Self {
        Self::internal()
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        warn!(%error, "a request could not be answered");
        Self::internal()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = refused(&refusal);
        // The refusal's own form has its name and its fields; the name is told by the code.
        let detail = serde_json::to_value(&refusal).ok();
        let detail = detail.and_then(|mut value| value.get_mut("detail").map(Value::take));
        Self {
            detail,
            ..Self::new(status, code, refusal.to_string())
        }
    }
}

/// The code of a reason to refuse a transaction.
pub(crate) const fn reason(refusal: &Refusal) -> &'static str {
    refused(refusal).1
}

/// The status and code of each reason to refuse a transaction.
const fn refused(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::UnknownAuthor(_) => (StatusCode::FORBIDDEN, "unknown-author"),
        Refusal::BadSignature => (StatusCode::FORBIDDEN, "bad-signature"),
        Refusal::NonceUsed { .. } => (StatusCode::CONFLICT, "replayed"),
        Refusal::NonceAhead { .. } => (StatusCode::CONFLICT, "nonce-ahead"),
        Refusal::WrongId { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong-id"),
        Refusal::Exists(_) => (StatusCode::CONFLICT, "exists"),
        Refusal::Missing(_) => (StatusCode::UNPROCESSABLE_ENTITY, "missing-record"),
        Refusal::NotAllowed(..) => (StatusCode::FORBIDDEN, "not-allowed"),
        Refusal::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        Refusal::Funds { .. } => (StatusCode::PAYMENT_REQUIRED, "funds"),
        Refusal::Enrolment(_) => (StatusCode::FORBIDDEN, "enrolment"),
        Refusal::Release(_) => (StatusCode::FORBIDDEN, "release"),
        Refusal::Keys(_) => (StatusCode::FORBIDDEN, "keys"),
        Refusal::Capacity(_) => (StatusCode::CONFLICT, "capacity"),
        Refusal::AgreementSignature(_) => (StatusCode::FORBIDDEN, "agreement-signature"),
        Refusal::Agreement(_) => (StatusCode::UNPROCESSABLE_ENTITY, "agreement"),
        Refusal::State { .. } => (StatusCode::CONFLICT, "state"),
        Refusal::Decree(_) => (StatusCode::UNPROCESSABLE_ENTITY, "decree"),
        Refusal::Misconduct(_) => (StatusCode::UNPROCESSABLE_ENTITY, "misconduct"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorView {
            code: self.code,
            message: self.message,
            detail: self.detail,
        };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
