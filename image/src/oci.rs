//! An OCI image layout with one layer, the same bytes each time.
//!
//! Formats: OCI image specification 1.1, `image-layout.md`, `manifest.md`, `config.md`, `layer.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cpio::{Node, Tree};

/// The file that makes a directory an OCI image layout.
pub(crate) const MARKER: &str = "oci-layout";

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of one layer.
#[derive(Debug, Clone)]
pub struct Image {
    /// All files.
    pub root: Tree,
    /// User and group of paths that are not root's.
    pub owners: BTreeMap<String, u32>,
    /// Program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Environment, `NAME=value` each.
    pub environment: Vec<String>,
    /// Ports, such as `80/tcp`.
    pub ports: Vec<String>,
    /// Paths that should be volumes.
    pub volumes: Vec<String>,
    /// Name by which the index refers to the image.
    pub reference: String,
}

/// Writes the image as a layout into the directory `out`, which must be empty or absent.
///
/// # Errors
/// If a file cannot be written.
pub fn write(image: &Image, out: &Path) -> Result<()> {
    let archive = layer(image)?;
    let packed = gzip(&archive)?;
    let config = serde_json::to_vec(&config(image, &digest(&archive)))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &packed)],
    }))?;
    let mut reference = descriptor(MANIFEST, &manifest);
    reference["annotations"] = json!({ "org.opencontainers.image.ref.name": image.reference });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [reference] }))?;

    let blobs = out.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("make {}", blobs.display()))?;
    // First, so that what is left of an interrupted write is known for what it is.
    write_file(&out.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for blob in [&packed, &config, &manifest] {
        write_file(&blobs.join(hex(blob)), blob)?;
    }
    write_file(&out.join("index.json"), &index)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

fn config(image: &Image, diff_id: &str) -> Value {
    let set = |names: &[String]| {
        names
            .iter()
            .map(|name| (name.clone(), json!({})))
            .collect::<serde_json::Map<_, _>>()
    };
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "Env": image.environment,
            "ExposedPorts": set(&image.ports),
            "Volumes": set(&image.volumes),
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(bytes).context("compress the layer")?;
    encoder.finish().context("compress the layer")
}

/// The tree as a tar archive, in the order of the paths.
fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, node) in image.root.nodes() {
        let mut header = tar::Header::new_gnu();
        let owner = u64::from(image.owners.get(path).copied().unwrap_or(0));
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(0);
        let name = path.trim_start_matches('/');
        match node {
            Node::Directory { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                header.set_size(0);
                builder.append_data(&mut header, format!("{name}/"), std::io::empty())
            }
            Node::File { mode, bytes } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(*mode);
                header.set_size(u64::try_from(bytes.len())?);
                builder.append_data(&mut header, name, &bytes[..])
            }
            Node::Link { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                builder.append_link(&mut header, name, target)
            }
        }
        .with_context(|| format!("archive {path}"))?;
    }
    builder.into_inner().context("archive the layer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut root = Tree::new();
        root.add_file("/bin/program", 0o755, b"program".to_vec()).unwrap();
        root.add_link("/lib", "usr/lib").unwrap();
        root.directory("/data", 0o1777).unwrap();
        Image {
            root,
            owners: BTreeMap::from([("/data".to_owned(), 33)]),
            entrypoint: vec!["/bin/program".into()],
            environment: vec!["PATH=/bin".into()],
            ports: vec!["80/tcp".into()],
            volumes: vec!["/data".into()],
            reference: "demo".into(),
        }
    }

    fn json_of(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn layout_is_linked_by_digests_from_index_to_layer() {
        let directory = tempfile::tempdir().unwrap();
        write(&image(), directory.path()).unwrap();
        let blob = |value: &Value| {
            let digest = value["digest"]
                .as_str()
                .unwrap()
                .strip_prefix("sha256:")
                .unwrap()
                .to_owned();
            let path = directory.path().join("blobs/sha256").join(&digest);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(hex(&bytes), digest);
            assert_eq!(value["size"], bytes.len());
            path
        };
        let index = json_of(&directory.path().join("index.json"));
        let manifest = json_of(&blob(&index["manifests"][0]));
        let config = json_of(&blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/program");
        assert_eq!(config["config"]["ExposedPorts"]["80/tcp"], json!({}));

        let packed = fs::read(blob(&manifest["layers"][0])).unwrap();
        let mut archive = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut archive).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&archive));
        let mut archive = tar::Archive::new(&archive[..]);
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().uid().unwrap(),
                )
            })
            .collect();
        let expected = [("bin/", 0), ("bin/program", 0), ("data/", 33), ("lib", 0)];
        assert_eq!(entries, expected.map(|(path, owner)| (path.to_owned(), owner)));
    }

    #[test]
    fn two_writes_give_the_same_bytes() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(&image(), first.path()).unwrap();
        write(&image(), second.path()).unwrap();
        let index = |directory: &tempfile::TempDir| fs::read(directory.path().join("index.json")).unwrap();
        assert_eq!(index(&first), index(&second));
    }
}
