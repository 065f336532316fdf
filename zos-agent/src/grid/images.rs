//! Images: fetched from whoever has them, verified while they arrive and when they are laid out for a VM.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ledger::body::Blob;
use peer_link::{BlobError, BlobHash, BlobStore, Endpoint, PeerAddress};
use tracing::{info, warn};

use super::docket::image_file;
use crate::{reconcile::ImageHash, text::chain};

/// Largest image configuration in bytes.
pub const MAX_CONFIG: u64 = 256 * 1024;

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// Nobody gave it.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It could not be laid out.
    #[error("lay out image {path}")]
    Layout {
        /// Where.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The images of this node. Clones share them.
#[derive(Debug, Clone)]
pub struct Images {
    endpoint: Endpoint,
    store: BlobStore,
    directory: PathBuf,
    fetching: Arc<Mutex<BTreeMap<ImageHash, u64>>>,
}

impl Images {
    /// Images on the data disk at `directory`.
    ///
    /// # Errors
    /// [`ImageFault`] when the directory or the store cannot be opened.
    pub async fn open(endpoint: Endpoint, directory: &Path) -> Result<Self, ImageFault> {
        let images = directory.join("images");
        fs::create_dir_all(&images).map_err(|source| ImageFault::Layout { path: images, source })?;
        let store = BlobStore::open(&directory.join("blobs")).await?;
        Ok(Self {
            endpoint,
            store,
            directory: directory.to_owned(),
            fetching: Arc::default(),
        })
    }

    fn fetches(&self) -> MutexGuard<'_, BTreeMap<ImageHash, u64>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an image is or will be.
    #[must_use]
    pub fn path(&self, hash: &ImageHash) -> PathBuf {
        image_file(&self.directory, hash)
    }

    /// Images that are laid out whole.
    #[must_use]
    pub fn present(&self) -> BTreeSet<ImageHash> {
        let names = fs::read_dir(self.directory.join("images"))
            .into_iter()
            .flatten()
            .flatten();
        let parse = |name: &str| data_encoding::HEXLOWER.decode(name.as_bytes()).ok()?.try_into().ok();
        names.filter_map(|entry| parse(entry.file_name().to_str()?)).collect()
    }

    /// Images that are being fetched.
    #[must_use]
    pub fn fetching(&self) -> BTreeSet<ImageHash> {
        self.fetches().keys().copied().collect()
    }

    /// Bytes of an image that are here, while it is being fetched.
    #[must_use]
    pub fn progress(&self, hash: &ImageHash) -> Option<u64> {
        self.fetches().get(hash).copied()
    }

    /// Begins to fetch an image from one of `providers`, and returns at once.
    pub fn begin(&self, blob: Blob, providers: Vec<PeerAddress>) {
        let hash = *blob.hash.as_bytes();
        if self.fetches().insert(hash, 0).is_some() {
            return;
        }
        let images = self.clone();
        tokio::spawn(async move {
            match images.fetch(blob, &providers).await {
                Ok(()) => info!(image = %blob.hash, bytes = blob.size, "image is here and verified"),
                Err(error) => warn!(image = %blob.hash, "image not fetched: {}", chain(&error)),
            }
            images.fetches().remove(&hash);
        });
    }

    async fn fetch(&self, blob: Blob, providers: &[PeerAddress]) -> Result<(), ImageFault> {
        let hash = *blob.hash.as_bytes();
        let note = |done: u64, _: u64| _ = self.fetches().insert(hash, done);
        let name = BlobHash::from(hash);
        self.store
            .fetch(&self.endpoint, name, blob.size, providers, &note)
            .await?;
        let path = self.path(&hash);
        let beside = path.with_extension("new");
        let lay_out = |source| ImageFault::Layout {
            path: path.clone(),
            source,
        };
        if beside.exists() {
            fs::remove_file(&beside).map_err(lay_out)?;
        }
        self.store.export(name, &beside).await?;
        fs::File::open(&beside)
            .and_then(|file| file.sync_all())
            .map_err(lay_out)?;
        crate::durable::rename(&beside, &path).map_err(lay_out)?;
        // The laid-out copy is the one that VMs read; the store's is of no more use.
        self.store.remove(name).await?;
        Ok(())
    }

    /// Fetches an image's configuration.
    ///
    /// # Errors
    /// [`BlobError`] when nobody gave it.
    pub async fn config(&self, blob: Blob, providers: &[PeerAddress]) -> Result<Vec<u8>, BlobError> {
        let name = BlobHash::from(*blob.hash.as_bytes());
        self.store
            .fetch(&self.endpoint, name, blob.size.min(MAX_CONFIG), providers, &|_, _| {})
            .await?;
        self.store.bytes(name, MAX_CONFIG).await
    }
}
