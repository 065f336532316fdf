//! Reading a layout directory: every blob is verified by its sha256 before it is used.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::ImportError;

/// Longest JSON document in bytes.
const MAX_JSON: u64 = 4 << 20;
/// Most layers.
const MAX_LAYERS: usize = 256;
/// Most indexes inside each other.
const MAX_INDEX_DEPTH: usize = 4;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// For what kind of machine an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// As the OCI specification writes it.
    pub architecture: &'static str,
}

impl Platform {
    /// What nodes are: Linux on x86-64.
    pub const NODE: Self = Self { architecture: "amd64" };
}

/// An image whose documents were read and verified.
pub(super) struct Image {
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<Layer>,
}

/// A layer that is to be read.
pub(super) struct Layer {
    pub(super) path: PathBuf,
    pub(super) compression: Compression,
    pub(super) digest: String,
    pub(super) size: u64,
    /// Digest of the tar inside.
    pub(super) diff_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

#[derive(Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<PlatformField>,
}

#[derive(Debug, Clone, Deserialize)]
struct PlatformField {
    os: String,
    architecture: String,
}

#[derive(Deserialize)]
struct Config {
    os: String,
    architecture: String,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Reads index, manifest and configuration of the image for a platform.
pub(super) fn open(directory: &Path, platform: Platform) -> Result<Image, ImportError> {
    let marker = directory.join("oci-layout");
    if !marker.exists() {
        return Err(ImportError::NoLayout(directory.to_owned()));
    }
    let layout: LayoutFile = parse(&marker, &read_plain(&marker)?)?;
    if !layout.version.starts_with("1.") {
        return Err(wrong(
            &marker,
            format!("version {} of the layout is not known", layout.version),
        ));
    }
    let path = directory.join("index.json");
    let index: Index = parse(&path, &read_plain(&path)?)?;
    let manifest = choose(directory, &path, index, platform, 0)?;
    let path = blob_path(directory, &manifest.digest)?;
    let Manifest { config, layers } = parse(&path, &read_blob(directory, &manifest)?)?;
    if layers.len() > MAX_LAYERS {
        return Err(wrong(
            &path,
            format!("{} layers, at most {MAX_LAYERS} are allowed", layers.len()),
        ));
    }
    let config_path = blob_path(directory, &config.digest)?;
    let config = read_blob(directory, &config)?;
    let described: Config = parse(&config_path, &config)?;
    if described.os != "linux" || described.architecture != platform.architecture {
        let Config { os, architecture, .. } = described;
        let wanted = platform.architecture;
        return Err(wrong(
            &config_path,
            format!("the image is for {os}/{architecture}, nodes are linux/{wanted}"),
        ));
    }
    let diff_ids = described.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(wrong(
            &config_path,
            "it names another number of layers than the manifest".into(),
        ));
    }
    let layers = layers.into_iter().zip(diff_ids).map(|(descriptor, diff_id)| {
        let path = blob_path(directory, &descriptor.digest)?;
        let compression = compression(&descriptor.media_type).ok_or_else(|| {
            wrong(
                &path,
                format!("layers of type {} cannot be read", descriptor.media_type),
            )
        })?;
        Ok(Layer {
            path,
            compression,
            digest: descriptor.digest,
            size: descriptor.size,
            diff_id,
        })
    });
    let layers = layers.collect::<Result<_, ImportError>>()?;
    Ok(Image { config, layers })
}

/// The manifest for a platform: the only one, or the one that names it.
fn choose(
    directory: &Path,
    path: &Path,
    index: Index,
    platform: Platform,
    depth: usize,
) -> Result<Descriptor, ImportError> {
    let fits = |descriptor: &&Descriptor| {
        let named = descriptor.platform.as_ref();
        named.is_some_and(|named| named.os == "linux" && named.architecture == platform.architecture)
    };
    let chosen = match index.manifests.as_slice() {
        [only] => Some(only),
        many => many.iter().find(fits),
    };
    let chosen = chosen
        .ok_or_else(|| wrong(path, format!("it has no image for linux/{}", platform.architecture)))?
        .clone();
    match chosen.media_type.as_str() {
        MANIFEST => Ok(chosen),
        INDEX if depth < MAX_INDEX_DEPTH => {
            let path = blob_path(directory, &chosen.digest)?;
            let index = parse(&path, &read_blob(directory, &chosen)?)?;
            choose(directory, &path, index, platform, depth + 1)
        }
        other => Err(wrong(path, format!("a manifest of type {other:?} cannot be read"))),
    }
}

fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar" => Some(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Some(Compression::Gzip)
        }
        "application/vnd.oci.image.layer.v1.tar+zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

fn wrong(path: &Path, reason: String) -> ImportError {
    ImportError::Layout {
        path: path.to_owned(),
        reason,
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ImportError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(path, error.to_string()))
}

fn read_plain(path: &Path) -> Result<Vec<u8>, ImportError> {
    let failed = |source| ImportError::File {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_JSON).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Path of a blob; only sha256 is known, and the digest has no other characters than its digits.
fn blob_path(directory: &Path, digest: &str) -> Result<PathBuf, ImportError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() != 64 || !hex.bytes().all(digits) {
        return Err(wrong(directory, format!("digest {digest:?} is not a sha256")));
    }
    Ok(directory.join("blobs").join("sha256").join(hex))
}

fn read_blob(directory: &Path, descriptor: &Descriptor) -> Result<Vec<u8>, ImportError> {
    let path = blob_path(directory, &descriptor.digest)?;
    if descriptor.size > MAX_JSON {
        return Err(wrong(
            &path,
            format!("a document of {} bytes is too long", descriptor.size),
        ));
    }
    let bytes = read_plain(&path)?;
    let actual = digest_text(Sha256::digest(&bytes).as_slice());
    if actual != descriptor.digest {
        return Err(ImportError::Digest { path, actual });
    }
    Ok(bytes)
}

/// Checks a layer's file as a whole, before anything in it is believed.
pub(super) fn verify(layer: &Layer) -> Result<(), ImportError> {
    let failed = |source| ImportError::File {
        path: layer.path.clone(),
        source,
    };
    let mut hasher = Hashing::new(File::open(&layer.path).map_err(failed)?);
    let size = io::copy(&mut hasher, &mut io::sink()).map_err(failed)?;
    let actual = hasher.digest();
    if actual != layer.digest || size != layer.size {
        let path = layer.path.clone();
        return Err(ImportError::Digest { path, actual });
    }
    Ok(())
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        let hasher = Sha256::new();
        Self { inner, hasher }
    }

    pub(super) fn digest(self) -> String {
        digest_text(self.hasher.finalize().as_slice())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

pub(super) fn digest_text(digest: &[u8]) -> String {
    digest.iter().fold(String::from("sha256:"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
