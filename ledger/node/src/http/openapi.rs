//! What the endpoints take and give, as OpenAPI says it: made from the code, and kept in `docs/openapi.json`.

use axum::{Json, http::header, response::IntoResponse};
use utoipa::OpenApi;

use super::{blocks, chain, events, find, metrics, records, transactions};

/// The description of all endpoints.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "ledgerd",
        description = "What stands on the contract chain, as one member of it says. Believe it by the proofs, or ask several. \
                       Everything is read-only, but for transactions that their author has signed. Hashes, ids and keys are \
                       lower-case hexadecimal digits, times milliseconds since 1970, money micro-tokens; integers have up to 64 \
                       bits. Answers have strong entity tags; `If-None-Match` asks for what is new.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        chain::status,
        chain::head,
        chain::genesis,
        chain::handovers,
        chain::charter,
        blocks::list,
        blocks::one,
        blocks::transactions,
        blocks::records,
        events::events,
        metrics::metrics,
        find::find,
        records::one,
        records::history,
        records::history_bytes,
        records::proof,
        records::proof_bytes,
        records::version,
        records::name,
        records::account,
        records::search,
        transactions::submit,
    ),
    tags(
        (name = "chain", description = "The chain as a whole."),
        (name = "blocks", description = "What was decided, and what it changed."),
        (name = "records", description = "What stands on the chain, and what stood before."),
        (name = "proof", description = "What a reader needs to believe it."),
        (name = "transactions", description = "What changes it."),
    )
)]
struct Description;

/// The description as JSON.
///
/// # Panics
/// Never: the description is written down in the code.
#[must_use]
pub fn openapi() -> String {
    let mut text = Description::openapi()
        .to_pretty_json()
        .expect("the description has a JSON form");
    text.push('\n');
    text
}

/// The description of all endpoints.
pub(crate) async fn get() -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-cache")], Json(Description::openapi()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_endpoint_is_described_and_every_description_has_its_endpoint() {
        let described: BTreeSet<String> = Description::openapi().paths.paths.into_keys().collect();
        let served: BTreeSet<String> = super::super::endpoints()
            .into_iter()
            .map(|(path, _)| path.to_owned())
            .collect();
        assert_eq!(described, served);
    }
}
