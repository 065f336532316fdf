//! The one thing that changes anything: a signed transaction, which goes the way of those that come over the peer link.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
};
use ledger::{
    Hash, SignedTransaction,
    encoding::{MAX_TRANSACTION, decode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    error::{ApiError, ErrorView},
    site::Site,
};
use crate::node::Submission;

/// A signed transaction in canonical bytes, as text: one of the fields.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Submit)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum SubmitView {
    /// In hexadecimal digits.
    Hex(String),
    /// In base64, with padding.
    Base64(String),
}

impl SubmitView {
    fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Hex(text) => data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok(),
            Self::Base64(text) => data_encoding::BASE64.decode(text.as_bytes()).ok(),
        }
    }
}

/// What became of a transaction that was not refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Taken)]
pub(crate) struct TakenView {
    /// Names the transaction.
    #[schema(value_type = String)]
    hash: Hash,
    /// Whether it has waited before.
    waited: bool,
}

/// The transaction of a request, whichever form it has.
#[derive(Debug)]
pub(crate) struct Submitted(SignedTransaction);

impl FromRequest<Arc<Site>> for Submitted {
    type Rejection = ApiError;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, ApiError> {
        let media = request.headers().get(header::CONTENT_TYPE);
        let media = media.map_or(Ok("application/octet-stream"), |media| media.to_str());
        let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_json = match media {
            "application/json" => true,
            "application/octet-stream" => false,
            other => {
                let text = format!("{other:?} is neither application/octet-stream nor application/json");
                return Err(ApiError::media(text));
            }
        };
        let body = Bytes::from_request(request, site).await;
        let mut bytes = match body {
            Ok(body) => body.to_vec(),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(ApiError::too_large(site.limits.body));
            }
            Err(rejection) => return Err(ApiError::malformed(rejection.body_text())),
        };
        if is_json {
            let view: SubmitView =
                serde_json::from_slice(&bytes).map_err(|error| ApiError::malformed(error.to_string()))?;
            bytes = view
                .bytes()
                .ok_or_else(|| ApiError::malformed("not hexadecimal digits or base64"))?;
        }
        decode(&bytes, MAX_TRANSACTION)
            .map(Self)
            .map_err(|error| ApiError::malformed(format!("no signed transaction: {error}")))
    }
}

/// Lets a signed transaction wait for a block. Sent again it goes on waiting.
///
/// It is refused with one of these codes: `replayed` (its nonce was used), `nonce-ahead` (others must come before), `bad-signature`
/// (also one for another chain), `unknown-author`, `funds`, `wrong-id`, `exists`, `missing-record`, `not-allowed`, `invalid`,
/// `enrolment`, `capacity`, `agreement-signature`, `agreement`, `state`, `decree`, `misconduct`; `busy` if there is no room.
#[utoipa::path(post, path = "/v1/transactions", tag = "transactions",
    request_body(description = "A signed transaction.", content((SubmitView = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 202, body = TakenView), (status = 400, body = ErrorView), (status = 402, body = ErrorView),
        (status = 403, body = ErrorView), (status = 409, body = ErrorView), (status = 413, body = ErrorView),
        (status = 415, body = ErrorView), (status = 422, body = ErrorView), (status = 503, body = ErrorView)))]
pub(crate) async fn submit(
    State(site): State<Arc<Site>>,
    Submitted(transaction): Submitted,
) -> Result<(StatusCode, Json<TakenView>), ApiError> {
    let hash = transaction.hash();
    let submission = site.work(move |site| Ok(site.source.submit(None, transaction)?));
    let waited = match submission.await? {
        Submission::Taken => false,
        Submission::Waits => true,
        Submission::Refused(refusal) => return Err(refusal.into()),
        Submission::Full(reason) => return Err(ApiError::busy(reason)),
    };
    Ok((StatusCode::ACCEPTED, Json(TakenView { hash, waited })))
}
