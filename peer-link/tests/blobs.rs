//! Content fetched between stores on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use peer_link::{
    BlobError, BlobHash, BlobPolicy, BlobSource, BlobStore, Endpoint, LinkKey, PeerAddress, Protocols, Serving,
    protocol,
};
use tempfile::TempDir;

struct Peer {
    endpoint: Endpoint,
    store: BlobStore,
    directory: TempDir,
    _serving: Serving,
}

impl Peer {
    async fn new(seed: u8, policy: BlobPolicy) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = BlobStore::open(&directory.path().join("blobs")).await.unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::bind(&LinkKey::from_seed(&[seed; 32]), listen).await.unwrap();
        let served = store.clone();
        let serving = endpoint.serve(Protocols::new().with(protocol::BLOBS, move |connection| {
            served.clone().serve(connection, Arc::clone(&policy))
        }));
        Self {
            endpoint,
            store,
            directory,
            _serving: serving,
        }
    }

    fn address(&self) -> PeerAddress {
        PeerAddress::new(self.endpoint.id(), self.endpoint.bound()).unwrap()
    }

    async fn fetch(&self, hash: BlobHash, maximum: u64, from: &[&Self]) -> Result<u64, BlobError> {
        let providers: Vec<_> = from.iter().map(|peer| peer.address()).collect();
        (self.endpoint.clone(), self.store.clone())
            .fetch(hash, maximum, &providers, &|_, _| {})
            .await
    }
}

fn everyone() -> BlobPolicy {
    Arc::new(|_, _| true)
}

/// Bytes that do not repeat within any block.
fn content(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"test content");
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test]
async fn large_content_arrives_equal_from_the_second_provider() {
    let [empty, holder, fetcher] = [
        Peer::new(31, everyone()).await,
        Peer::new(32, everyone()).await,
        Peer::new(33, everyone()).await,
    ];
    let bytes = content(20 << 20);
    let file = holder.directory.path().join("image");
    std::fs::write(&file, &bytes).unwrap();
    let (hash, size) = holder.store.add_file(&file).await.unwrap();
    assert_eq!((hash, size), (BlobHash::of(&bytes), 20 << 20));

    let seen = AtomicU64::new(0);
    let providers = [empty.address(), holder.address()];
    let progress = |here, all| {
        assert_eq!(all, 20 << 20);
        seen.fetch_max(here, Ordering::Relaxed);
    };
    let fetched = fetcher
        .store
        .fetch(&fetcher.endpoint, hash, 20 << 20, &providers, &progress)
        .await
        .unwrap();
    assert_eq!(fetched, 20 << 20);
    assert!(seen.load(Ordering::Relaxed) > 10 << 20);
    let copy = fetcher.directory.path().join("copy");
    assert_eq!(fetcher.store.export(hash, &copy).await.unwrap(), 20 << 20);
    assert!(std::fs::read(&copy).unwrap() == bytes);
    // What was fetched is served on.
    assert!(empty.fetch(hash, 20 << 20, &[&fetcher]).await.is_ok());
}

#[tokio::test]
async fn content_nobody_has_is_refused_and_leaves_nothing() {
    let (holder, fetcher) = (Peer::new(34, everyone()).await, Peer::new(35, everyone()).await);
    let absent = BlobHash::of(b"nobody has this");
    let error = fetcher.fetch(absent, 1 << 20, &[&holder]).await.unwrap_err();
    assert!(matches!(error, BlobError::Provider { .. }), "{error:?}");
    assert!(matches!(
        fetcher.fetch(absent, 1 << 20, &[]).await,
        Err(BlobError::NoProvider(_))
    ));
    assert!(!fetcher.store.has(absent).await.unwrap());
    let target = fetcher.directory.path().join("out");
    assert!(matches!(
        fetcher.store.export(absent, &target).await,
        Err(BlobError::Absent(_))
    ));
    assert!(!target.exists());
}

#[tokio::test]
async fn content_larger_than_announced_is_refused() {
    let (holder, fetcher) = (Peer::new(36, everyone()).await, Peer::new(37, everyone()).await);
    let (hash, _) = holder.store.add_bytes(content(100_000)).await.unwrap();
    let error = fetcher.fetch(hash, 99_999, &[&holder]).await.unwrap_err();
    assert!(
        matches!(
            error,
            BlobError::TooLarge {
                size: 100_000,
                maximum: 99_999,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!fetcher.store.has(hash).await.unwrap());
    assert!(matches!(
        holder.store.bytes(hash, 99_999).await,
        Err(BlobError::TooLarge { .. })
    ));
    assert_eq!(holder.store.bytes(hash, 100_000).await.unwrap(), content(100_000));
}

#[tokio::test]
async fn policy_decides_who_reads() {
    let friend = LinkKey::from_seed(&[38; 32]).id();
    let holder = Peer::new(39, Arc::new(move |peer, _| peer == friend)).await;
    let (friend, stranger) = (Peer::new(38, everyone()).await, Peer::new(40, everyone()).await);
    let (hash, _) = holder.store.add_bytes(b"for one pair of eyes".to_vec()).await.unwrap();
    assert!(stranger.fetch(hash, 1024, &[&holder]).await.is_err());
    assert_eq!(friend.fetch(hash, 1024, &[&holder]).await.unwrap(), 20);
}

#[tokio::test]
async fn removed_content_is_served_no_more() {
    let (holder, fetcher) = (Peer::new(41, everyone()).await, Peer::new(42, everyone()).await);
    let (hash, _) = holder.store.add_bytes(b"short-lived".to_vec()).await.unwrap();
    holder.store.remove(hash).await.unwrap();
    assert!(!holder.store.has(hash).await.unwrap());
    assert!(fetcher.fetch(hash, 1024, &[&holder]).await.is_err());
}

#[tokio::test]
async fn content_survives_reopening_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = BlobStore::open(directory.path()).await.unwrap();
    let (hash, _) = store.add_bytes(content(300_000)).await.unwrap();
    store.close().await;
    drop(store);
    let store = BlobStore::open(directory.path()).await.unwrap();
    assert_eq!(store.bytes(hash, 300_000).await.unwrap(), content(300_000));
}

/// Flips a byte of what the holder has on its disk.
fn damage(directory: &TempDir) {
    let data = directory.path().join("blobs/data");
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "data") {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn damaged_content_is_neither_exported_nor_accepted_from_a_peer() {
    let (holder, fetcher) = (Peer::new(43, everyone()).await, Peer::new(44, everyone()).await);
    let (hash, _) = holder.store.add_bytes(content(1 << 20)).await.unwrap();
    damage(&holder.directory);
    let target = holder.directory.path().join("out");
    let error = holder.store.export(hash, &target).await.unwrap_err();
    assert!(matches!(error, BlobError::Damaged { .. }), "{error:?}");
    assert_eq!(
        std::fs::read_dir(holder.directory.path()).unwrap().count(),
        1,
        "only the store's directory is left"
    );
    assert!(fetcher.fetch(hash, 1 << 20, &[&holder]).await.is_err());
    assert!(!fetcher.store.has(hash).await.unwrap());
}
