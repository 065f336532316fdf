//! What every answer is made from, and the bounds that all of them share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use peer_link::Shares;
use tokio::sync::Semaphore;

use super::{
    HttpLimits,
    buckets::{Buckets, Client},
    error::ApiError,
    metrics::Watched,
};
use crate::{database::Snapshot, node::Ledger, serve::Source};

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) source: Arc<Source>,
    pub(crate) limits: HttpLimits,
    pub(super) watched: Watched,
    /// Reads under way.
    reads: Arc<Semaphore>,
    buckets: Mutex<Buckets>,
    started: Instant,
    /// Places for streams of news, in all and for each client.
    pub(super) streams: Arc<Semaphore>,
    pub(super) streams_of: Shares<Client>,
    /// Places for connections, in all and for each client.
    pub(super) places: Arc<Semaphore>,
    pub(super) connections: Shares<Client>,
}

impl Site {
    pub(crate) fn new(source: Arc<Source>, watched: Watched, limits: HttpLimits) -> Self {
        Self {
            source,
            limits,
            watched,
            reads: Arc::new(Semaphore::new(limits.reads)),
            buckets: Mutex::new(Buckets::new(limits.rate, limits.clients)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            streams_of: Shares::new(limits.streams_of_one),
            started: Instant::now(),
            places: Arc::new(Semaphore::new(limits.connections)),
            connections: Shares::new(limits.connections_of_one),
        }
    }

    /// The chain.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.source.ledger
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// [`ApiError`] when it asks too much.
    pub(crate) fn admit(&self, client: Client) -> Result<(), ApiError> {
        let now = self.started.elapsed();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets
            .take(client, now)
            .map_err(|wait| ApiError::too_many("too many requests of this address", wait.as_secs().saturating_add(1)))
    }

    /// Does what waits for a disk or a processor where it holds up no task of the links and of consensus. What was begun keeps
    /// its place among the reads until it is done, even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`ApiError`] of the work.
    pub(crate) async fn work<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = Arc::clone(&self.reads)
            .acquire_owned()
            .await
            .map_err(|_| ApiError::lost())?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&self)
        });
        done.await.map_err(|_| ApiError::lost())?
    }

    /// Reads the state after the last block, as [`Self::work`].
    ///
    /// # Errors
    /// [`ApiError`] of the read.
    pub(crate) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Snapshot<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.work(move |site| read(&site.ledger().snapshot()?)).await
    }
}
