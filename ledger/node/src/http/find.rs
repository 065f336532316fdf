//! Looking for records.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use ledger::{
    Height, Id, Kind, RecordKey, Resources, Tokens,
    encoding::encode,
    geography::Place,
    quantity::{self, QuantityError},
    query::{self, Position, Query},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    ask::{Ask, PAGE_BYTES, by_text, limit, part},
    error::{ApiError, ErrorView},
    site::Site,
    tag::Known,
    view::RecordView,
};
use crate::database::{DatabaseError, Snapshot};

/// How near something is if nothing is said, in kilometres.
const NEAR_KM: u32 = 500;

/// Which records are wanted. Each filter narrows them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Find {
    /// To whom or what they belong: an owner, a farm, a customer, a farmer, a node.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    of: Option<Id>,
    /// How far they are: contracts, nodes, terms; such as active.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    state: Option<query::State>,
    /// In which country they stand, such as BE: farms, nodes, terms.
    country: Option<String>,
    /// Near which point they stand, latitude and longitude in degrees, such as 51.05,3.72; not with `country`.
    near: Option<String>,
    /// How near, in kilometres; 500 if absent.
    km: Option<u32>,
    /// Nodes that can be rented with so many threads free, and as much of the others; terms, for `max_price`.
    cru: Option<u64>,
    /// Memory, such as 512MiB.
    mru: Option<String>,
    /// Solid-state storage.
    sru: Option<String>,
    /// Rotating storage.
    hru: Option<String>,
    /// Most that these cost for an hour, in tokens, by the asking price.
    max_price: Option<String>,
    /// Only what stands above this: `next` of the page before.
    #[serde(default, deserialize_with = "by_text")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
    /// Most records, 1 to 100.
    limit: Option<u16>,
}

impl Find {
    fn query(&self, kind: Kind) -> Result<Query, ApiError> {
        let place = match (&self.country, &self.near) {
            (Some(_), Some(_)) => return Err(ApiError::malformed("either country or near, not both")),
            (Some(country), None) => Some(Place::Country(read("country", country, quantity::country)?)),
            (None, Some(near)) => {
                let (latitude, longitude) = read("near", near, quantity::point)?;
                let km = self.km.unwrap_or(NEAR_KM);
                Some(Place::Near {
                    latitude,
                    longitude,
                    km,
                })
            }
            (None, None) => None,
        };
        let max_price = self.max_price.as_deref();
        let query = Query {
            kind,
            of: self.of,
            state: self.state,
            place,
            fits: self.fits()?,
            max_hour: max_price
                .map(|price| read::<Tokens>("max_price", price, quantity::tokens))
                .transpose()?,
        };
        query.check().map_err(|error| ApiError::malformed(error.to_string()))?;
        Ok(query)
    }

    fn fits(&self) -> Result<Option<Resources>, ApiError> {
        let bytes = |name, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| read(name, text, quantity::bytes)).transpose()
        };
        let (mru, sru, hru) = (
            bytes("mru", &self.mru)?,
            bytes("sru", &self.sru)?,
            bytes("hru", &self.hru)?,
        );
        let amounts = [self.cru, mru, sru, hru];
        let [cru, mru, sru, hru] = amounts.map(Option::unwrap_or_default);
        let any = amounts.iter().any(Option::is_some);
        Ok(any.then_some(Resources { cru, mru, sru, hru }))
    }
}

fn read<T>(name: &str, text: &str, how: fn(&str) -> Result<T, QuantityError>) -> Result<T, ApiError> {
    how(text).map_err(|error| ApiError::malformed(format!("{name}: {error}")))
}

/// A page of records.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Records)]
pub(super) struct RecordsView {
    /// Height of the block after which they stand so.
    height: Height,
    /// The latest versions, by their farms where the search goes by these, then by their ids.
    records: Vec<RecordView>,
    /// What `after` is for the next page; absent at the end. A page with few records or none may have more beyond it.
    next: Option<String>,
}

/// Records of a kind, in a stable order. That none is left out is not proven. A page ends early after a MiB.
#[utoipa::path(get, path = "/v1/records/{kind}", tag = "records",
    params(("kind" = String, Path, description = "Kind of the records, such as contract."), Find),
    responses((status = 200, body = RecordsView), (status = 304), (status = 400, body = ErrorView)))]
pub(super) async fn find(
    State(site): State<Arc<Site>>,
    known: Known,
    Path(kind): Path<String>,
    Ask(asked): Ask<Find>,
) -> Result<Response, ApiError> {
    let query = asked.query(part("kind", &kind)?)?;
    let (after, most) = (asked.after, limit(asked.limit));
    let found = site.read(move |snapshot| {
        let head = snapshot.head()?;
        let view = page(snapshot, &query, after, most, head.height)?;
        Ok((head.id, view))
    });
    let (name, view) = found.await?;
    Ok(known.answer(name, Json(view)))
}

fn page(
    snapshot: &Snapshot<'_>,
    query: &Query,
    after: Option<Position>,
    most: usize,
    height: Height,
) -> Result<RecordsView, DatabaseError> {
    let found = snapshot.search(query, after, usize::MAX, most)?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut next = found.next;
    for (index, hit) in found.hits.iter().enumerate() {
        if bytes > PAGE_BYTES {
            next = index.checked_sub(1).and_then(|last| found.hits.get(last)).copied();
            break;
        }
        let record = snapshot.latest_version(&RecordKey::new(query.kind, hit.id))?;
        let record = record.ok_or(DatabaseError::Damaged("index"))?;
        bytes += encode(&record).len();
        records.push(RecordView::of(&record));
    }
    Ok(RecordsView {
        height,
        records,
        next: next.map(|next| next.to_string()),
    })
}
