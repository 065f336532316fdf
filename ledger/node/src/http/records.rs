//! Records: as they are, as they were, what they were before, and the proof.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use ledger::{
    CertifiedHeader, Hash, Height, Id, Kind, Record, RecordKey,
    body::{Label, Name},
    encoding::encode,
    light::RecordProof,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ask::{Ask, PAGE_BYTES, by_text, limit, part},
    chain::hex,
    error::{ApiError, ErrorView},
    site::Site,
    tag::Known,
    view::{AccountView, RecordView},
};
use crate::{database::Snapshot, serve::prove};

/// Which time is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct At {
    /// As it was after the block of this height; absent: as it is.
    at: Option<Height>,
}

fn key_of(kind: &str, id: &str) -> Result<RecordKey, ApiError> {
    Ok(RecordKey::new(part("kind", kind)?, part("id", id)?))
}

/// The header of a height, or the newest.
fn header_of(snapshot: &Snapshot<'_>, at: Option<Height>) -> Result<CertifiedHeader, ApiError> {
    match at {
        None => snapshot.certified_head()?.ok_or_else(ApiError::no_block),
        Some(height) => snapshot
            .certified(height)?
            .ok_or_else(|| ApiError::missing(format!("there is no block {height} here"))),
    }
}

/// The latest version of a record, or what it was after a block.
#[utoipa::path(get, path = "/v1/records/{kind}/{id}", tag = "records",
    params(("kind" = String, Path, description = "Its kind."), ("id" = String, Path, description = "Its id."), At),
    responses((status = 200, body = RecordView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn one(
    State(site): State<Arc<Site>>,
    known: Known,
    Path((kind, id)): Path<(String, String)>,
    Ask(At { at }): Ask<At>,
) -> Result<Response, ApiError> {
    let key = key_of(&kind, &id)?;
    let found = site.read(move |snapshot| {
        let record = match at {
            None => snapshot.latest_version(&key)?,
            Some(_) => prove(snapshot, header_of(snapshot, at)?.header.state, key)?.record,
        };
        record.ok_or_else(|| ApiError::missing(format!("there is no {key}")))
    });
    let record = found.await?;
    Ok(known.answer(record.hash(), Json(RecordView::of(&record))))
}

/// A version of a record by its hash.
#[utoipa::path(get, path = "/v1/versions/{hash}", tag = "records",
    params(("hash" = String, Path, description = "Hash of the version.")),
    responses((status = 200, body = RecordView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn version(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(hash): Path<String>,
) -> Result<Response, ApiError> {
    let hash: Hash = part("hash", &hash)?;
    let found = site.read(move |snapshot| {
        let record = snapshot.version(hash)?;
        record.ok_or_else(|| ApiError::missing(format!("version {hash} is not known")))
    });
    let record = found.await?;
    Ok(known.answer(hash, Json(RecordView::of(&record))))
}

/// Which versions are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// Hash of the newest version that is wanted; absent: the latest.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    from: Option<Hash>,
    /// Most versions, 1 to 100.
    limit: Option<u16>,
}

/// Versions of a record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub(crate) struct HistoryView {
    /// The newest first, each linked by `previous` to the next.
    versions: Vec<RecordView>,
    /// What `from` is for the next page, if there is one.
    #[schema(value_type = Option<String>)]
    next: Option<Hash>,
}

/// The versions of a record, the newest first, each linked to the one before. A page ends early after a MiB.
#[utoipa::path(get, path = "/v1/records/{kind}/{id}/history", tag = "records",
    params(("kind" = String, Path, description = "Its kind."), ("id" = String, Path, description = "Its id."), From),
    responses((status = 200, body = HistoryView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn history(
    State(site): State<Arc<Site>>,
    known: Known,
    Path((kind, id)): Path<(String, String)>,
    Ask(asked): Ask<From>,
) -> Result<Response, ApiError> {
    let (name, versions) = site.versions(&kind, &id, asked).await?;
    let view = HistoryView {
        versions: versions.records.iter().map(RecordView::of).collect(),
        next: versions.next,
    };
    Ok(known.answer(name, Json(view)))
}

/// As `history`, in bytes: the list of versions. The next page is `from` the last one's `previous`, unless that is zeros.
#[utoipa::path(get, path = "/v1/records/{kind}/{id}/history.borsh", tag = "proof",
    params(("kind" = String, Path, description = "Its kind."), ("id" = String, Path, description = "Its id."), From),
    responses((status = 200, content_type = "application/octet-stream"), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn history_bytes(
    State(site): State<Arc<Site>>,
    known: Known,
    Path((kind, id)): Path<(String, String)>,
    Ask(asked): Ask<From>,
) -> Result<Response, ApiError> {
    let (name, versions) = site.versions(&kind, &id, asked).await?;
    Ok(known.answer(name, octets(encode(&versions.records))))
}

fn octets(bytes: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes)
}

/// A page of a record's versions.
struct Versions {
    records: Vec<Record>,
    /// The newest that is left out.
    next: Option<Hash>,
}

impl Site {
    /// The versions that are wanted, and the name of the newest of them.
    async fn versions(self: Arc<Self>, kind: &str, id: &str, asked: From) -> Result<(Hash, Versions), ApiError> {
        let key = key_of(kind, id)?;
        self.read(move |snapshot| {
            let newest = match asked.from {
                None => snapshot.latest_version(&key)?,
                Some(hash) => snapshot.version(hash)?.filter(|record| record.key() == key),
            };
            let newest = newest.ok_or_else(|| ApiError::missing(format!("there is no such version of {key}")))?;
            let (name, mut bytes) = (newest.hash(), 0);
            let (mut records, mut left) = (vec![], None);
            let mut next = Some(newest);
            while let Some(record) = next {
                if records.len() == limit(asked.limit) || bytes > PAGE_BYTES {
                    left = Some(record.hash());
                    break;
                }
                bytes += encode(&record).len();
                next = match record.previous {
                    Hash::ZERO => None,
                    previous => snapshot.version(previous)?,
                };
                records.push(record);
            }
            Ok((name, Versions { records, next: left }))
        })
        .await
    }
}

/// All that shows that a record stands so, but for the handovers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Proof)]
pub(crate) struct ProofView {
    /// Hash of the genesis.
    #[schema(value_type = String)]
    chain: Hash,
    /// Height of the header that the proof leads to.
    height: Height,
    /// The header with its certificate, and the set that it hands over to: canonical bytes in hexadecimal digits.
    head: String,
    /// The record, if there is one, and the way from it to the header's state root: canonical bytes in hexadecimal digits.
    proof: String,
}

async fn proven(
    site: Arc<Site>,
    kind: &str,
    id: &str,
    at: Option<Height>,
) -> Result<(CertifiedHeader, RecordProof), ApiError> {
    let key = key_of(kind, id)?;
    let found = site.read(move |snapshot| {
        let head = header_of(snapshot, at)?;
        let proof = prove(snapshot, head.header.state, key)?;
        Ok((head, proof))
    });
    found.await
}

/// A record with the proof of it, or the proof that there is none. See `docs/format/ledger.md` for the bytes.
#[utoipa::path(get, path = "/v1/records/{kind}/{id}/proof", tag = "proof",
    params(("kind" = String, Path, description = "Its kind."), ("id" = String, Path, description = "Its id."), At),
    responses((status = 200, body = ProofView), (status = 304), (status = 404, body = ErrorView), (status = 503, body = ErrorView)))]
pub(crate) async fn proof(
    State(site): State<Arc<Site>>,
    known: Known,
    Path((kind, id)): Path<(String, String)>,
    Ask(At { at }): Ask<At>,
) -> Result<Response, ApiError> {
    let (head, proof) = proven(site, &kind, &id, at).await?;
    let view = ProofView {
        chain: head.header.chain,
        height: head.header.height,
        head: hex(&encode(&head)),
        proof: hex(&encode(&proof)),
    };
    Ok(known.answer(head.header.id(), Json(view)))
}

/// As `proof`, in bytes: the certified header, then the record's proof.
#[utoipa::path(get, path = "/v1/records/{kind}/{id}/proof.borsh", tag = "proof",
    params(("kind" = String, Path, description = "Its kind."), ("id" = String, Path, description = "Its id."), At),
    responses((status = 200, content_type = "application/octet-stream"), (status = 304), (status = 404, body = ErrorView),
        (status = 503, body = ErrorView)))]
pub(crate) async fn proof_bytes(
    State(site): State<Arc<Site>>,
    known: Known,
    Path((kind, id)): Path<(String, String)>,
    Ask(At { at }): Ask<At>,
) -> Result<Response, ApiError> {
    let answer = proven(site, &kind, &id, at).await?;
    Ok(known.answer(answer.0.header.id(), octets(encode(&answer))))
}

/// For whom a name stands.
#[utoipa::path(get, path = "/v1/names/{label}", tag = "records",
    params(("label" = String, Path, description = "The name.")),
    responses((status = 200, body = RecordView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn name(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(label): Path<String>,
) -> Result<Response, ApiError> {
    let label = Label::new(label).map_err(|error| ApiError::malformed(error.to_string()))?;
    let found = site.read(move |snapshot| {
        let record = snapshot.latest_version(&RecordKey::new(Kind::Name, Name::founding_id(&label)))?;
        record.ok_or_else(|| ApiError::missing(format!("nobody has claimed the name {}", label.as_str())))
    });
    let record = found.await?;
    Ok(known.answer(record.hash(), Json(RecordView::of(&record))))
}

/// Balance and next nonce of an entity or a node. One that has no account yet has nothing.
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "records",
    params(("id" = String, Path, description = "Whose it is.")),
    responses((status = 200, body = AccountView), (status = 304), (status = 400, body = ErrorView)))]
pub(crate) async fn account(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id: Id = part("id", &id)?;
    let view = site.work(move |site| {
        let account = site.ledger().snapshot()?.account(id)?;
        Ok(AccountView {
            id,
            balance: account.balance,
            nonce: account.nonce,
            next_nonce: site.ledger().next_nonce(id)?,
            last: account.last,
        })
    });
    let view = view.await?;
    let name = format!("{}-{}-{}-{}", view.balance, view.nonce, view.next_nonce, view.last);
    Ok(known.answer(name, Json(view)))
}

/// What is looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// A height, a name, or the 64 digits of an id or of a version's hash.
    q: String,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Found)]
pub(crate) struct FoundView {
    /// A block of this height.
    block: Option<Height>,
    /// Records of this id, of this name, or with a version of this hash.
    records: Vec<RecordView>,
}

/// Looks for a block, a name, or records of an id.
#[utoipa::path(get, path = "/v1/search", tag = "records", params(Search),
    responses((status = 200, body = FoundView), (status = 400, body = ErrorView)))]
pub(crate) async fn search(
    State(site): State<Arc<Site>>,
    Ask(Search { q }): Ask<Search>,
) -> Result<Json<FoundView>, ApiError> {
    let found = site.read(move |snapshot| {
        let q = q.trim();
        let (mut block, mut records) = (None, Vec::new());
        if let Ok(height) = q.parse::<Height>() {
            block = snapshot.header_at(height)?.map(|header| header.height);
        }
        if let Ok(label) = Label::new(q) {
            records.extend(snapshot.latest_version(&RecordKey::new(Kind::Name, Name::founding_id(&label)))?);
        }
        if let Ok(hash) = q.parse::<Hash>() {
            for kind in Kind::ALL {
                records.extend(snapshot.latest_version(&RecordKey::new(*kind, Id::from_hash(hash)))?);
            }
            records.extend(snapshot.version(hash)?);
        }
        let records = records.iter().map(RecordView::of).collect();
        Ok(FoundView { block, records })
    });
    Ok(Json(found.await?))
}
