//! What those who run a validator watch, in the form in which Prometheus asks for it.

use std::{fs, path::PathBuf, sync::Arc};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};

use super::{error::ApiError, site::Site};
use crate::{engine::Linked, metrics::Sample};

/// Media type of the text format of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is looked at besides the chain.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Who is linked for consensus.
    pub(crate) linked: Linked,
    /// The file that holds the chain.
    pub(crate) database: PathBuf,
}

/// How this member of the chain and its process are, in the text format of OpenMetrics 1.0, for Prometheus to ask for now and then.
#[utoipa::path(get, path = "/metrics", tag = "chain",
    responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Result<Response, ApiError> {
    let text = site.work(|site| {
        let text = site.ledger().metrics().text(&sample(site)?);
        text.map_err(|_| ApiError::lost())
    });
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text.await?).into_response())
}

fn sample(site: &Site) -> Result<Sample, ApiError> {
    let (ledger, watched) = (site.ledger(), &site.watched);
    let head = ledger.snapshot()?.head()?;
    let database = &watched.database;
    let free = rustix::fs::statvfs(database).ok();
    Ok(Sample {
        height: head.height,
        time: head.time,
        now: ledger.now(),
        highest: watched.linked.highest().max(ledger.metrics().heard_of()),
        waiting: ledger.waiting_count(),
        power: ledger.own_power(),
        total_power: head.validators.total_power(),
        validators: head.validators.validators().len(),
        peers: watched.linked.count(),
        database: fs::metadata(database).ok().map(|file| file.len()),
        free: free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        connections: site.limits.connections - site.places.available_permits(),
        streams: site.limits.streams - site.streams.available_permits(),
    })
}
