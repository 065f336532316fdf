//! Content by its blake3 hash: kept, served to peers, exported verified.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use data_encoding::HEXLOWER_PERMISSIVE;
use iroh_blobs::{
    HashAndFormat,
    api::blobs::BlobStatus,
    provider::{
        self,
        events::{AbortReason, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode},
    },
    store::{
        GcConfig,
        fs::{FsStore, options::Options},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::debug;

use crate::{AddressError, Connection, DialError, PeerAddress, PeerId};

/// How often content that was removed gives its space back.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Requests of one peer that wait for the policy's word.
const WAITING_REQUESTS: usize = 16;

/// The blake3 hash of some content. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash([u8; 32]);

impl BlobHash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn inner(self) -> iroh_blobs::Hash {
        iroh_blobs::Hash::from_bytes(self.0)
    }

    fn tag(self) -> String {
        self.to_string()
    }
}

impl From<[u8; 32]> for BlobHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for BlobHash {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| AddressError::NotHex)?;
        bytes.try_into().map(Self).map_err(|_| AddressError::NotHex)
    }
}

impl Serialize for BlobHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlobHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why content could not be kept, fetched or exported.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The store's directory or database cannot be used.
    #[error("open blob store {path}: {reason}")]
    Open {
        /// The store's directory.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The store failed.
    #[error("blob store: {0}")]
    Store(String),
    /// The content is not here, or not whole.
    #[error("blob {0} is not here")]
    Absent(BlobHash),
    /// The content is larger than it may be; its true size is proven by its hash.
    #[error("blob {hash} has {size} bytes where {maximum} are allowed")]
    TooLarge {
        /// The content.
        hash: BlobHash,
        /// Its size in bytes.
        size: u64,
        /// Allowed size in bytes.
        maximum: u64,
    },
    /// What lies on the disk is not what its hash says.
    #[error("blob {expected} is damaged on disk: its bytes hash to {found}")]
    Damaged {
        /// The content's hash.
        expected: BlobHash,
        /// Hash of what was read.
        found: BlobHash,
    },
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No provider was named.
    #[error("blob {0}: no peer is known to have it")]
    NoProvider(BlobHash),
    /// A provider could not be reached.
    #[error("fetch blob {hash}")]
    Dial {
        /// The content.
        hash: BlobHash,
        /// The cause.
        #[source]
        source: DialError,
    },
    /// A provider does not have the content, refused it, sent something else, or stalled.
    #[error("fetch blob {hash} from {provider}: {reason}")]
    Provider {
        /// The content.
        hash: BlobHash,
        /// The provider.
        provider: PeerAddress,
        /// The reason.
        reason: String,
    },
}

/// Says whether a peer may read some content.
pub type BlobPolicy = Arc<dyn Fn(PeerId, BlobHash) -> bool + Send + Sync>;

/// Content on disk, in a directory of its own. Clones share it.
#[derive(Debug, Clone)]
pub struct BlobStore {
    pub(crate) inner: FsStore,
}

impl BlobStore {
    /// Opens or makes the store in the directory `path`.
    ///
    /// # Errors
    /// [`BlobError::Open`] with the reason.
    pub async fn open(path: &Path) -> Result<Self, BlobError> {
        let failed = |reason: String| BlobError::Open {
            path: path.to_owned(),
            reason,
        };
        std::fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        let mut options = Options::new(path);
        options.gc = Some(GcConfig {
            interval: SWEEP_INTERVAL,
            add_protected: None,
        });
        let inner = FsStore::load_with_opts(path.join("blobs.db"), options).await;
        Ok(Self {
            inner: inner.map_err(|error| failed(error.to_string()))?,
        })
    }

    /// Keeps the content of a file. Returns its hash and size in bytes.
    ///
    /// # Errors
    /// [`BlobError::File`] or [`BlobError::Store`].
    pub async fn add_file(&self, path: &Path) -> Result<(BlobHash, u64), BlobError> {
        let file_error = |source| BlobError::File {
            path: path.to_owned(),
            source,
        };
        let path = path.canonicalize().map_err(file_error)?;
        let added = self
            .inner
            .blobs()
            .add_path(&path)
            .temp_tag()
            .await
            .map_err(store_error)?;
        self.keep(BlobHash(*added.hash().as_bytes())).await
    }

    /// Keeps some bytes. Returns their hash and size.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn add_bytes(&self, bytes: Vec<u8>) -> Result<(BlobHash, u64), BlobError> {
        let added = self
            .inner
            .blobs()
            .add_bytes(bytes)
            .temp_tag()
            .await
            .map_err(store_error)?;
        self.keep(BlobHash(*added.hash().as_bytes())).await
    }

    /// Size in bytes of content that is here, whole and not removed.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn size(&self, hash: BlobHash) -> Result<Option<u64>, BlobError> {
        if self.inner.tags().get(hash.tag()).await.map_err(store_error)?.is_none() {
            return Ok(None);
        }
        self.stored_size(hash).await
    }

    /// Whether content is here, whole and not removed.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn has(&self, hash: BlobHash) -> Result<bool, BlobError> {
        Ok(self.size(hash).await?.is_some())
    }

    /// Reads small content into memory.
    ///
    /// # Errors
    /// [`BlobError::Absent`], [`BlobError::TooLarge`] above `maximum` bytes, [`BlobError::Damaged`], [`BlobError::Store`].
    pub async fn bytes(&self, hash: BlobHash, maximum: u64) -> Result<Vec<u8>, BlobError> {
        let size = self.size(hash).await?.ok_or(BlobError::Absent(hash))?;
        if size > maximum {
            return Err(BlobError::TooLarge { hash, size, maximum });
        }
        let bytes = self.inner.blobs().get_bytes(hash.inner()).await.map_err(store_error)?;
        match BlobHash::of(&bytes) {
            found if found == hash => Ok(bytes.to_vec()),
            found => Err(BlobError::Damaged { expected: hash, found }),
        }
    }

    /// Writes content to a file, which appears under its name whole, verified and on disk, or not at all.
    ///
    /// # Errors
    /// [`BlobError::Absent`], [`BlobError::Damaged`], [`BlobError::File`], [`BlobError::Store`].
    pub async fn export(&self, hash: BlobHash, path: &Path) -> Result<u64, BlobError> {
        if !self.has(hash).await? {
            return Err(BlobError::Absent(hash));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", &hash.to_string()[..16]));
        let partial = PathBuf::from(partial);
        // The store needs an absolute path.
        let partial = std::path::absolute(&partial).map_err(|source| BlobError::File { path: partial, source })?;
        self.inner
            .blobs()
            .export(hash.inner(), &partial)
            .finish()
            .await
            .map_err(store_error)?;
        let path = path.to_owned();
        let finished = tokio::task::spawn_blocking(move || finish_export(hash, &partial, &path));
        finished.await.map_err(|error| BlobError::Store(error.to_string()))?
    }

    /// Forgets content: it is served no more, and its space is given back within a minute or so.
    ///
    /// # Errors
    /// [`BlobError::Store`].
    pub async fn remove(&self, hash: BlobHash) -> Result<(), BlobError> {
        self.inner
            .tags()
            .delete(hash.tag())
            .await
            .map(drop)
            .map_err(store_error)
    }

    /// Answers the connections of [`crate::protocol::BLOBS`]: what is here and what `policy` lets the peer read. Nothing can
    /// be written or listed.
    pub async fn serve(self, connection: Connection, policy: BlobPolicy) {
        let mask = EventMask {
            get: RequestMode::Intercept,
            get_many: RequestMode::Disabled,
            push: RequestMode::Disabled,
            observe: ObserveMode::Intercept,
            ..EventMask::DEFAULT
        };
        let (events, requests) = EventSender::channel(WAITING_REQUESTS, mask);
        let deciding = self.clone().decide(connection.peer(), policy, requests);
        let serving = provider::handle_connection(connection.inner().clone(), (*self.inner).clone(), events);
        // The connection's end drops the sender of requests, but streams still hold clones of it: whichever ends first.
        tokio::select! {
            () = serving => {}
            () = deciding => {}
        }
    }

    /// Writes everything out. The store is of no use afterwards.
    pub async fn close(&self) {
        if let Err(error) = self.inner.shutdown().await {
            debug!(%error, "close blob store");
        }
    }

    async fn decide(self, peer: PeerId, policy: BlobPolicy, mut requests: mpsc::Receiver<ProviderMessage>) {
        while let Some(request) = requests.recv().await {
            match request {
                ProviderMessage::GetRequestReceived(get) => {
                    let hash = BlobHash(*get.inner.request.hash.as_bytes());
                    let single = get.inner.request.ranges.is_blob();
                    let allowed = single && policy(peer, hash) && self.has(hash).await.unwrap_or(false);
                    if !allowed {
                        debug!(%peer, %hash, "blob refused");
                    }
                    let answer = if allowed { Ok(()) } else { Err(AbortReason::Permission) };
                    // The peer may be gone already.
                    let _ = get.tx.send(answer).await;
                }
                ProviderMessage::ObserveRequestReceived(observe) => {
                    let _ = observe.tx.send(Err(AbortReason::Permission)).await;
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn stored_size(&self, hash: BlobHash) -> Result<Option<u64>, BlobError> {
        match self.inner.blobs().status(hash.inner()).await.map_err(store_error)? {
            BlobStatus::Complete { size } => Ok(Some(size)),
            _ => Ok(None),
        }
    }

    /// Marks content that is whole as wanted. Returns its hash and size.
    pub(crate) async fn keep(&self, hash: BlobHash) -> Result<(BlobHash, u64), BlobError> {
        let size = self.stored_size(hash).await?.ok_or(BlobError::Absent(hash))?;
        let content = HashAndFormat::raw(hash.inner());
        self.inner.tags().set(hash.tag(), content).await.map_err(store_error)?;
        self.inner.sync_db().await.map_err(store_error)?;
        Ok((hash, size))
    }
}

fn finish_export(hash: BlobHash, partial: &Path, path: &Path) -> Result<u64, BlobError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| BlobError::File { path, source }
    };
    let verified = (|| {
        let file = std::fs::File::open(partial).map_err(at(partial))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(at(partial))?;
        let found = BlobHash(*hasher.finalize().as_bytes());
        if found != hash {
            return Err(BlobError::Damaged { expected: hash, found });
        }
        file.sync_all().map_err(at(partial))?;
        std::fs::rename(partial, path).map_err(at(path))?;
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(at(directory))?;
        Ok(hasher.count())
    })();
    if verified.is_err() {
        // What is left over is of no use, and a failure to remove it changes nothing.
        let _ = std::fs::remove_file(partial);
    }
    verified
}

pub(crate) fn store_error(error: impl fmt::Display) -> BlobError {
    BlobError::Store(format!("{error:#}"))
}
