//! Images: fetched from whoever has them, verified while they arrive and when they are laid out for a VM.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use error_line::with_causes;
use ledger::{Id, body::Blob};
use peer_link::{BlobError, BlobHash, BlobStore, Endpoint, PeerAddress};
use tracing::{info, warn};

use super::{
    docket::image_file,
    unused::{Room, Unused},
};
use crate::{durable, reconcile::ImageHash};

/// Largest image configuration in bytes.
pub const MAX_CONFIG: u64 = 256 * 1024;
/// Longest time in which an image's configuration is fetched.
pub const CONFIG_DEADLINE: Duration = Duration::from_secs(60);

/// How long a provider may take before the next one is asked. What came until then is kept.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Time after which it is seen what has come.
    window: Duration,
    /// Bytes that must have come in it.
    least: u64,
    /// Time of one provider's turn.
    turn: Duration,
}

/// At least 16 KiB a second, and two minutes at any pace: whoever drips holds up an image no longer.
const PACE: Pace = Pace {
    window: Duration::from_secs(20),
    least: 20 * 16 * 1024,
    turn: Duration::from_secs(120),
};

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// Nobody gave it.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It was not fetched in time.
    #[error("not fetched in {} s", CONFIG_DEADLINE.as_secs())]
    Late,
    /// Every provider had its turn, and the last one was slow.
    #[error("not fetched yet, {0} bytes are here; the last provider was too slow or had its turn")]
    Slow(u64),
    /// Nobody is said to have it.
    #[error("nobody is said to have it")]
    NoProvider,
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
    /// Fetches that were begun, so that the next one begins with the next provider.
    begun: Arc<AtomicUsize>,
    /// Contracts whose image's configuration is being fetched.
    asking: Arc<Mutex<BTreeSet<Id>>>,
    unused: Arc<Mutex<Unused>>,
    room_wanted: Arc<AtomicBool>,
}

/// The right to fetch the configuration for a contract; only one is out at a time.
#[derive(Debug)]
pub struct Asking {
    asking: Arc<Mutex<BTreeSet<Id>>>,
    contract: Id,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.asking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.contract);
    }
}

fn ask(asking: &Arc<Mutex<BTreeSet<Id>>>, contract: Id) -> Option<Asking> {
    let first = asking.lock().unwrap_or_else(PoisonError::into_inner).insert(contract);
    first.then(|| Asking {
        asking: Arc::clone(asking),
        contract,
    })
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
            begun: Arc::default(),
            asking: Arc::default(),
            unused: Arc::default(),
            room_wanted: Arc::default(),
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

    /// Begins to fetch an image from `providers`, each of which has a turn, and returns at once. It begins with another one
    /// each time.
    pub fn begin(&self, blob: Blob, mut providers: Vec<PeerAddress>) {
        let hash = *blob.hash.as_bytes();
        if self.fetches().insert(hash, 0).is_some() {
            return;
        }
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let first = begun.checked_rem(providers.len()).unwrap_or(0);
        providers.rotate_left(first);
        let images = self.clone();
        tokio::spawn(async move {
            match images.fetch(blob, &providers).await {
                Ok(()) => info!(image = %blob.hash, bytes = blob.size, "image is here and verified"),
                Err(error) => warn!(image = %blob.hash, "image not fetched: {}", with_causes(&error)),
            }
            images.fetches().remove(&hash);
        });
    }

    async fn fetch(&self, blob: Blob, providers: &[PeerAddress]) -> Result<(), ImageFault> {
        let hash = *blob.hash.as_bytes();
        let name = BlobHash::from(hash);
        let progress = || self.progress(&hash).unwrap_or(0);
        let note = |done: u64, _: u64| _ = self.fetches().insert(hash, done);
        let turns = providers.iter().map(|provider| async {
            let fetch = self
                .store
                .fetch(&self.endpoint, name, blob.size, std::slice::from_ref(provider), &note);
            turn(fetch, progress, PACE).await
        });
        in_turn(turns).await?;
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

    /// The right to fetch the configuration for a contract, unless somebody does already.
    #[must_use]
    pub fn ask(&self, contract: Id) -> Option<Asking> {
        ask(&self.asking, contract)
    }

    /// Fetches an image's configuration, in at most [`CONFIG_DEADLINE`].
    ///
    /// # Errors
    /// [`ImageFault`] when nobody gave it in time.
    pub async fn config(&self, blob: Blob, providers: &[PeerAddress]) -> Result<Vec<u8>, ImageFault> {
        let name = BlobHash::from(*blob.hash.as_bytes());
        let fetch = async {
            self.store
                .fetch(&self.endpoint, name, blob.size.min(MAX_CONFIG), providers, &|_, _| {})
                .await?;
            self.store.bytes(name, MAX_CONFIG).await
        };
        let fetched = tokio::time::timeout(CONFIG_DEADLINE, fetch).await;
        Ok(fetched.map_err(|_| ImageFault::Late)??)
    }

    /// Gives back what the store holds of some content; it is of no more use here.
    ///
    /// # Errors
    /// [`ImageFault::Blob`].
    pub async fn discard(&self, blob: Blob) -> Result<(), ImageFault> {
        Ok(self.store.remove(BlobHash::from(*blob.hash.as_bytes())).await?)
    }

    /// Says that something found no room on the disk: images that no contract refers to go with the next [`Images::collect`].
    pub fn want_room(&self) {
        self.room_wanted.store(true, Ordering::Relaxed);
    }

    /// Removes images that no contract refers to and that are due; `now` is the time since the machine's start. Blocks.
    ///
    /// # Errors
    /// [`ImageFault::Layout`] for the first that could not be removed; the next call tries again.
    pub fn collect(&self, wanted: &BTreeSet<ImageHash>, now: Duration) -> Result<Vec<ImageHash>, ImageFault> {
        let room = if self.room_wanted.swap(false, Ordering::Relaxed) || is_nearly_full(&self.directory) {
            Room::Needed
        } else {
            Room::Enough
        };
        let mut wanted = wanted.clone();
        wanted.extend(self.fetching());
        let due = {
            let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
            unused.due(&self.present(), &wanted, room, now)
        };
        for image in &due {
            let path = self.path(image);
            durable::remove_if_there(&path).map_err(|source| ImageFault::Layout { path, source })?;
        }
        Ok(due)
    }
}

/// Asks provider after provider until one has given all of it.
async fn in_turn(turns: impl Iterator<Item = impl Future<Output = Result<(), ImageFault>>>) -> Result<(), ImageFault> {
    let mut last = ImageFault::NoProvider;
    for turn in turns {
        match turn.await {
            Ok(()) => return Ok(()),
            // The next one can prove nothing else, and the store is the same.
            Err(error @ ImageFault::Blob(BlobError::TooLarge { .. } | BlobError::Store(_))) => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One provider's turn: it ends when all is here, when it fails, when it is too slow, and when its time is over.
async fn turn<T>(
    fetch: impl Future<Output = Result<T, BlobError>>,
    progress: impl Fn() -> u64,
    pace: Pace,
) -> Result<(), ImageFault> {
    let mut fetch = std::pin::pin!(fetch);
    let began = tokio::time::Instant::now();
    let mut before = progress();
    loop {
        if let Ok(fetched) = tokio::time::timeout(pace.window, &mut fetch).await {
            return Ok(fetched.map(drop)?);
        }
        let now = progress();
        if now.saturating_sub(before) < pace.least || began.elapsed() >= pace.turn {
            return Err(ImageFault::Slow(now));
        }
        before = now;
    }
}

/// Whether less than a tenth of a file system is free.
fn is_nearly_full(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|stat| stat.f_bavail < stat.f_blocks / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Hash;
    use std::cell::Cell;

    const FAST: Pace = Pace {
        window: Duration::from_millis(200),
        least: 100,
        turn: Duration::from_millis(1000),
    };

    /// A provider that gives so many bytes every ten milliseconds or later.
    async fn provider(bytes: u64, rate: u64, done: &Cell<u64>) -> Result<(), BlobError> {
        while done.get() < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
            done.set(done.get().saturating_add(rate));
        }
        Ok(())
    }

    #[tokio::test]
    async fn provider_that_drips_is_left_for_the_next_one() {
        let done = Cell::new(0);
        let turns = [1, 0, 1 << 20].map(|rate| turn(provider(64 << 20, rate, &done), || done.get(), FAST));
        let waited = tokio::time::timeout(Duration::from_secs(20), in_turn(turns.into_iter())).await;
        waited.unwrap().unwrap();
        assert!(done.get() >= 64 << 20);
    }

    #[tokio::test]
    async fn provider_that_never_ends_has_one_turn_and_what_it_gave_is_kept() {
        let done = Cell::new(0);
        let endless = turn(provider(u64::MAX, 1 << 20, &done), || done.get(), FAST);
        let waited = tokio::time::timeout(Duration::from_secs(20), in_turn([endless].into_iter())).await;
        let Ok(Err(ImageFault::Slow(bytes))) = waited else {
            panic!("{waited:?}")
        };
        assert!(bytes >= 1 << 20, "{bytes}");
        let none = in_turn(std::iter::empty::<std::future::Ready<_>>()).await;
        assert!(matches!(none, Err(ImageFault::NoProvider)));
    }

    #[test]
    fn configuration_is_asked_for_once_at_a_time() {
        let all = Arc::default();
        let id = Id::from_hash(Hash::from_bytes([1; 32]));
        let first = ask(&all, id);
        assert!(first.is_some() && ask(&all, id).is_none());
        drop(first);
        assert!(ask(&all, id).is_some());
    }
}
