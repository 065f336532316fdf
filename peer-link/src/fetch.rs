//! Fetching content from whoever has it.

use std::{future::Future, pin::Pin, time::Duration};

use futures_lite::StreamExt;
use iroh_blobs::{
    HashAndFormat,
    api::remote::{GetProgress, GetProgressItem},
    get::request::get_verified_size,
};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::{BlobError, BlobHash, BlobStore, Connection, Endpoint, PeerAddress, blobs::store_error, protocol};

/// A provider that sends nothing for so long is left for the next one.
const STALL: Duration = Duration::from_secs(10);

/// Told bytes that are here and bytes in all, now and then during a fetch.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// What [`BlobSource::fetch`] returns: the content's size in bytes.
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<u64, BlobError>> + Send + 'a>>;

/// Where content comes from.
pub trait BlobSource: Send + Sync {
    /// Brings content of at most `maximum` bytes here from one of `providers`, tried in turn. What an earlier attempt
    /// brought is not fetched again. Every byte is verified against the hash before it is kept.
    fn fetch<'a>(
        &'a self,
        hash: BlobHash,
        maximum: u64,
        providers: &'a [PeerAddress],
        progress: Progress<'a>,
    ) -> FetchFuture<'a>;
}

/// Fetches over an endpoint into a store.
impl BlobSource for (Endpoint, BlobStore) {
    fn fetch<'a>(
        &'a self,
        hash: BlobHash,
        maximum: u64,
        providers: &'a [PeerAddress],
        progress: Progress<'a>,
    ) -> FetchFuture<'a> {
        Box::pin(self.1.fetch(&self.0, hash, maximum, providers, progress))
    }
}

impl BlobStore {
    /// See [`BlobSource::fetch`].
    ///
    /// # Errors
    /// [`BlobError::TooLarge`] as soon as a provider proves it; otherwise the last provider's error.
    pub async fn fetch(
        &self,
        endpoint: &Endpoint,
        hash: BlobHash,
        maximum: u64,
        providers: &[PeerAddress],
        progress: Progress<'_>,
    ) -> Result<u64, BlobError> {
        // Keeps the sweep away from what is half here.
        let content = HashAndFormat::raw(hash.inner());
        let _protected = self.inner.tags().temp_tag(content).await.map_err(store_error)?;
        if hash == BlobHash::of(&[]) {
            return self.add_bytes(Vec::new()).await.map(|(_, size)| size);
        }
        if let Some(size) = self.stored_size(hash).await? {
            within(hash, size, maximum)?;
            return self.keep(hash).await.map(|(_, size)| size);
        }
        let mut last = BlobError::NoProvider(hash);
        for provider in providers {
            match self.fetch_from(endpoint, hash, maximum, provider, progress).await {
                Ok(()) => {
                    let (_, size) = self.keep(hash).await?;
                    info!(%hash, size, peer = %provider.id(), "blob fetched");
                    return Ok(size);
                }
                Err(error @ (BlobError::TooLarge { .. } | BlobError::Store(_))) => return Err(error),
                Err(error) => {
                    debug!(%error, "provider failed");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn fetch_from(
        &self,
        endpoint: &Endpoint,
        hash: BlobHash,
        maximum: u64,
        provider: &PeerAddress,
        progress: Progress<'_>,
    ) -> Result<(), BlobError> {
        let failed = |reason: String| BlobError::Provider {
            hash,
            provider: provider.clone(),
            reason,
        };
        let dialled = endpoint.dial(provider, protocol::BLOBS).await;
        let connection = dialled.map_err(|source| BlobError::Dial { hash, source })?;
        let fetched = self.fetch_over(&connection, hash, maximum, progress).await;
        connection.close();
        fetched.map_err(|error| match error {
            FetchError::Blob(error) => error,
            FetchError::Provider(reason) => failed(reason),
        })
    }

    async fn fetch_over(
        &self,
        connection: &Connection,
        hash: BlobHash,
        maximum: u64,
        progress: Progress<'_>,
    ) -> Result<(), FetchError> {
        let stalled = || FetchError::Provider(format!("nothing came for {STALL:?}"));
        let refused = |error: iroh_blobs::get::GetError| FetchError::Provider(format!("{error:#}"));
        let asked = timeout(STALL, get_verified_size(connection.inner(), &hash.inner())).await;
        let (size, _) = asked.map_err(|_| stalled())?.map_err(refused)?;
        within(hash, size, maximum)?;
        let content = HashAndFormat::raw(hash.inner());
        let local = self.inner.remote().local(content).await.map_err(store_error)?;
        let before = local.local_bytes();
        let getting: GetProgress = self
            .inner
            .remote()
            .execute_get(connection.inner().clone(), local.missing());
        let mut items = std::pin::pin!(getting.stream());
        while let Some(item) = timeout(STALL, items.next()).await.map_err(|_| stalled())? {
            match item {
                GetProgressItem::Progress(bytes) => progress(before.saturating_add(bytes).min(size), size),
                GetProgressItem::Done(_) => return Ok(()),
                GetProgressItem::Error(error) => return Err(refused(error)),
            }
        }
        Err(FetchError::Provider("the stream ended early".into()))
    }
}

/// Tells the store's own failures from a provider's.
enum FetchError {
    Blob(BlobError),
    Provider(String),
}

impl From<BlobError> for FetchError {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

fn within(hash: BlobHash, size: u64, maximum: u64) -> Result<(), BlobError> {
    if size > maximum {
        Err(BlobError::TooLarge { hash, size, maximum })
    } else {
        Ok(())
    }
}
