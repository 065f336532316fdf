//! Blocks: what was decided, and what it changed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use ledger::{Hash, Height, PublicKey, Record, Timestamp, encoding::encode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ask::{Ask, PAGE_BYTES, limit, part},
    error::{ApiError, ErrorView},
    site::Site,
    tag::Known,
    view::{CertificateView, HeaderView, RecordView, TransactionView},
};
use crate::database::{DatabaseError, Snapshot};

/// A block in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BlockSummary)]
pub(crate) struct SummaryView {
    /// Its height.
    pub(crate) height: Height,
    /// Names the block.
    #[schema(value_type = String)]
    pub(crate) id: Hash,
    /// Block time in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub(crate) time: Timestamp,
    /// Key of the validator that proposed it.
    #[schema(value_type = String)]
    pub(crate) proposer: PublicKey,
    /// How many transactions it has.
    pub(crate) transactions: u32,
    /// How many versions of records it wrote.
    pub(crate) records: usize,
}

impl SummaryView {
    /// The block of a height in short, if there is one.
    pub(crate) fn read(snapshot: &Snapshot<'_>, height: Height) -> Result<Option<Self>, DatabaseError> {
        let Some(header) = snapshot.header_at(height)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            height,
            id: header.id(),
            time: header.time,
            proposer: header.proposer,
            transactions: snapshot.transaction_count(height)?.unwrap_or_default(),
            records: snapshot.written_count(height)?,
        }))
    }
}

/// Which blocks are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Before {
    /// Only blocks below this height; absent: from the newest on.
    before: Option<Height>,
    /// Most blocks, 1 to 100.
    limit: Option<u16>,
}

/// A page of blocks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Blocks)]
pub(crate) struct BlocksView {
    /// The newest first.
    blocks: Vec<SummaryView>,
    /// What `before` is for the next page, if there is one.
    next: Option<Height>,
}

/// Blocks, the newest first.
#[utoipa::path(get, path = "/v1/blocks", tag = "blocks", params(Before),
    responses((status = 200, body = BlocksView), (status = 304), (status = 400, body = ErrorView)))]
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    known: Known,
    Ask(asked): Ask<Before>,
) -> Result<Response, ApiError> {
    let found = site.read(move |snapshot| {
        let newest = snapshot.height()?;
        let first = asked
            .before
            .map_or(newest, |before| newest.min(before.saturating_sub(1)));
        let mut view = BlocksView {
            blocks: vec![],
            next: None,
        };
        for height in (1..=first).rev().take(limit(asked.limit)) {
            view.blocks.extend(SummaryView::read(snapshot, height)?);
        }
        view.next = view.blocks.last().map(|last| last.height).filter(|height| *height > 1);
        Ok(view)
    });
    let view = found.await?;
    let newest = view.blocks.first().map_or(Hash::ZERO, |block| block.id);
    Ok(known.answer(newest, Json(view)))
}

/// A block.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Block)]
pub(crate) struct BlockView {
    header: HeaderView,
    certificate: CertificateView,
    /// How many transactions it has.
    transactions: u32,
    /// How many versions of records it wrote.
    records: usize,
    /// The set that certifies the next block, where this one hands over to another.
    handover: bool,
}

fn no_block(height: Height) -> ApiError {
    ApiError::missing(format!("there is no block {height} here"))
}

/// A block.
#[utoipa::path(get, path = "/v1/blocks/{height}", tag = "blocks", params(("height" = u64, Path, description = "Its height.")),
    responses((status = 200, body = BlockView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn one(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(height): Path<String>,
) -> Result<Response, ApiError> {
    let height: Height = part("height", &height)?;
    let found = site.read(move |snapshot| {
        let certified = snapshot.certified(height)?.ok_or_else(|| no_block(height))?;
        Ok(BlockView {
            header: HeaderView::of(&certified.header),
            certificate: CertificateView::of(&certified.certificate),
            transactions: snapshot.transaction_count(height)?.unwrap_or_default(),
            records: snapshot.written_count(height)?,
            handover: certified.handover.is_some(),
        })
    });
    let view = found.await?;
    Ok(known.answer(view.header.id, Json(view)))
}

/// Which part of a block is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Part {
    /// How many are left out at the start.
    #[serde(default)]
    skip: u32,
    /// Most entries, 1 to 100.
    limit: Option<u16>,
}

impl Part {
    fn skip(&self) -> usize {
        usize::try_from(self.skip).unwrap_or(usize::MAX)
    }
}

/// Transactions of a block.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transactions)]
pub(crate) struct TransactionsView {
    /// In the order in which they were applied.
    transactions: Vec<TransactionView>,
    /// What `skip` is for the next page, if there is one.
    next: Option<usize>,
}

/// The transactions of a block. A page ends early after a MiB.
#[utoipa::path(get, path = "/v1/blocks/{height}/transactions", tag = "blocks",
    params(("height" = u64, Path, description = "The block's height."), Part),
    responses((status = 200, body = TransactionsView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn transactions(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(height): Path<String>,
    Ask(asked): Ask<Part>,
) -> Result<Response, ApiError> {
    let height: Height = part("height", &height)?;
    let found = site.read(move |snapshot| {
        let block = snapshot.block(height)?.ok_or_else(|| no_block(height))?;
        let (mut view, mut bytes) = (
            TransactionsView {
                transactions: vec![],
                next: None,
            },
            0,
        );
        let wanted = block.transactions.iter().skip(asked.skip()).take(limit(asked.limit));
        for transaction in wanted {
            view.transactions.push(TransactionView::of(transaction));
            bytes += encode(transaction).len();
            if bytes > PAGE_BYTES {
                break;
            }
        }
        let end = asked.skip().saturating_add(view.transactions.len());
        view.next = (end < block.transactions.len()).then_some(end);
        Ok((block.header.id(), view))
    });
    let (name, view) = found.await?;
    Ok(known.answer(name, Json(view)))
}

/// Versions of records that a block wrote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Written)]
pub(crate) struct WrittenView {
    /// In the order in which they were made.
    records: Vec<RecordView>,
    /// What `skip` is for the next page, if there is one.
    next: Option<usize>,
}

/// The versions of records that a block wrote; block 0 is the genesis. A page ends early after a MiB.
#[utoipa::path(get, path = "/v1/blocks/{height}/records", tag = "blocks",
    params(("height" = u64, Path, description = "The block's height, 0 for the genesis."), Part),
    responses((status = 200, body = WrittenView), (status = 304), (status = 404, body = ErrorView)))]
pub(crate) async fn records(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(height): Path<String>,
    Ask(asked): Ask<Part>,
) -> Result<Response, ApiError> {
    let height: Height = part("height", &height)?;
    let found = site.read(move |snapshot| {
        let id = match snapshot.header_at(height)? {
            Some(header) => header.id(),
            None if height == 0 => Hash::ZERO,
            None => return Err(no_block(height)),
        };
        let mut view = WrittenView {
            records: vec![],
            next: None,
        };
        let mut bytes = 0;
        for version in snapshot.written(height, asked.skip(), limit(asked.limit))? {
            let record: Record = snapshot.version(version)?.ok_or(DatabaseError::Damaged("written"))?;
            view.records.push(RecordView::of(&record));
            bytes += encode(&record).len();
            if bytes > PAGE_BYTES {
                break;
            }
        }
        let end = asked.skip().saturating_add(view.records.len());
        view.next = (end < snapshot.written_count(height)?).then_some(end);
        Ok((id, view))
    });
    let (name, view) = found.await?;
    Ok(known.answer(name, Json(view)))
}
