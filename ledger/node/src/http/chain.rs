//! The chain as a whole: where it stands, what it began with, who validates it.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use ledger::{Genesis, Hash, Height, Kind, RecordKey, Timestamp, body::Charter, encoding::encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ask::{Ask, PAGE, PAGE_BYTES},
    error::{ApiError, ErrorView},
    site::Site,
    tag::Known,
    view::{CertificateView, HeaderView, RecordView, ValidatorView},
};
use crate::database::DatabaseError;

/// How this validator is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub(crate) struct StatusView {
    /// Hash of the genesis.
    #[schema(value_type = String)]
    chain: Hash,
    /// The chain's name for people.
    name: String,
    /// Version of the program.
    program: &'static str,
    /// Height of the last block, 0 before the first.
    height: Height,
    /// Its time in milliseconds since 1970.
    #[schema(value_type = u64)]
    time: Timestamp,
    /// Wanted time between two blocks in milliseconds.
    block_interval_ms: u32,
    /// Transactions that wait here for a block.
    waiting: usize,
    /// Other members of the chain whose addresses are known here.
    peers: usize,
    /// Number of validators.
    validators: usize,
    /// Sum of their voting powers.
    power: u64,
    /// Whether this member validates.
    votes: bool,
}

/// How this validator is, and where its chain stands.
#[utoipa::path(get, path = "/v1/status", tag = "chain", responses((status = 200, body = StatusView)))]
pub(crate) async fn status(State(site): State<Arc<Site>>) -> Result<Json<StatusView>, ApiError> {
    let view = site.work(|site| {
        let ledger = site.ledger();
        let (head, genesis) = (ledger.snapshot()?.head()?, ledger.genesis());
        Ok(StatusView {
            chain: genesis.hash(),
            name: genesis.name.as_str().to_owned(),
            program: env!("CARGO_PKG_VERSION"),
            height: head.height,
            time: head.time,
            block_interval_ms: genesis.block_interval_ms,
            waiting: ledger.waiting_count(),
            peers: site.source.book.peers().len(),
            validators: head.validators.validators().len(),
            power: head.validators.total_power(),
            votes: head.validators.has_link(site.source.book.own().as_bytes()),
        })
    });
    Ok(Json(view.await?))
}

/// A header and who certified it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Head)]
pub(crate) struct HeadView {
    header: HeaderView,
    certificate: CertificateView,
}

/// The newest certified header.
#[utoipa::path(get, path = "/v1/head", tag = "chain",
    responses((status = 200, body = HeadView), (status = 304), (status = 503, body = ErrorView)))]
pub(crate) async fn head(State(site): State<Arc<Site>>, known: Known) -> Result<Response, ApiError> {
    let head = site.read(|snapshot| snapshot.certified_head()?.ok_or_else(ApiError::no_block));
    let head = head.await?;
    let view = HeadView {
        header: HeaderView::of(&head.header),
        certificate: CertificateView::of(&head.certificate),
    };
    Ok(known.answer(view.header.id, Json(view)))
}

/// What the chain began with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Genesis)]
pub(crate) struct GenesisView {
    /// Its hash, which names the chain and is all that a reader needs to trust.
    #[schema(value_type = String)]
    chain: Hash,
    /// Its canonical bytes in hexadecimal digits.
    borsh: String,
    /// What it says.
    #[schema(value_type = Object)]
    genesis: Genesis,
}

/// What the chain began with.
#[utoipa::path(get, path = "/v1/genesis", tag = "chain", responses((status = 200, body = GenesisView), (status = 304)))]
pub(crate) async fn genesis(State(site): State<Arc<Site>>, known: Known) -> Response {
    let genesis = site.ledger().genesis();
    let chain = genesis.hash();
    let view = GenesisView {
        chain,
        borsh: hex(&encode(genesis)),
        genesis: genesis.clone(),
    };
    known.answer(chain, Json(view))
}

/// Which handovers are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// Height up to which handovers are known.
    #[serde(default)]
    after: Height,
}

/// Headers that hand over to another validator set.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Handovers)]
pub(crate) struct HandoversView {
    /// Certified headers with their sets, in ascending order of height, each in the canonical bytes as hexadecimal digits.
    handovers: Vec<String>,
    /// Height of the last of them, if there are more after it.
    next: Option<Height>,
}

/// The headers by which the validators of the genesis handed over to those of now, as a reader walks them.
#[utoipa::path(get, path = "/v1/handovers", tag = "proof", params(After),
    responses((status = 200, body = HandoversView), (status = 304), (status = 400, body = ErrorView)))]
pub(crate) async fn handovers(
    State(site): State<Arc<Site>>,
    known: Known,
    Ask(After { after }): Ask<After>,
) -> Result<Response, ApiError> {
    let found = site.read(move |snapshot| {
        let (mut view, mut bytes) = (
            HandoversView {
                handovers: vec![],
                next: None,
            },
            0,
        );
        let mut last = (after, Hash::ZERO);
        for height in snapshot.handovers(after, Height::MAX, PAGE + 1)? {
            if view.handovers.len() == PAGE || bytes > PAGE_BYTES {
                view.next = Some(last.0);
                break;
            }
            let certified = snapshot.certified(height)?;
            let certified = certified.ok_or(DatabaseError::Damaged("certified header"))?;
            last = (height, certified.header.id());
            let encoded = encode(&certified);
            bytes += encoded.len();
            view.handovers.push(hex(&encoded));
        }
        let more = if view.next.is_some() { "-more" } else { "" };
        Ok((format!("{}{more}", last.1), view))
    });
    let (name, view) = found.await?;
    Ok(known.answer(name, Json(view)))
}

/// Who validates the next block, and by which rules.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Charter)]
pub(crate) struct CharterView {
    /// Hash of the validator set.
    #[schema(value_type = String)]
    set: Hash,
    /// The validators.
    validators: Vec<ValidatorView>,
    /// Sum of their voting powers.
    power: u64,
    /// The record that says all of it.
    record: RecordView,
}

/// Who validates the next block, and by which rules.
#[utoipa::path(get, path = "/v1/charter", tag = "chain", responses((status = 200, body = CharterView), (status = 304)))]
pub(crate) async fn charter(State(site): State<Arc<Site>>, known: Known) -> Result<Response, ApiError> {
    let found = site.read(|snapshot| {
        let record = snapshot.latest_version(&RecordKey::new(Kind::Charter, Charter::ID))?;
        let record = record.ok_or(DatabaseError::Damaged("charter"))?;
        let set = snapshot.head()?.validators;
        let view = CharterView {
            set: set.hash(),
            validators: ValidatorView::all(&set),
            power: set.total_power(),
            record: RecordView::of(&record),
        };
        Ok((record.hash(), view))
    });
    let (name, view) = found.await?;
    Ok(known.answer(name, Json(view)))
}

/// The text form of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
