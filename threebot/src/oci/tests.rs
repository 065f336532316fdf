//! Layouts built here, imported, and read back.

use std::{
    fs,
    io::{Read, Write},
};

use backhand::{FilesystemReader, InnerNode};
use sha2::{Digest as _, Sha256};

use super::{layout::digest_text, *};

/// An entry of a layer to be built.
enum Entry<'a> {
    Dir(&'a str, u32),
    File(&'a str, &'a str),
    Owned(&'a str, u64, u64, u32),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
    Device(&'a str),
}

use Entry::{Device, Dir, File as Plain, Hardlink, Owned, Symlink};

fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_000);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let (path, content) = match entry {
            Dir(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                (*path, "")
            }
            Plain(path, content) => (*path, *content),
            Owned(path, uid, gid, mode) => {
                header.set_uid(*uid);
                header.set_gid(*gid);
                header.set_mode(*mode);
                (*path, "owned")
            }
            Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(target).unwrap();
                (*path, "")
            }
            Hardlink(path, target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_link_name(target).unwrap();
                (*path, "")
            }
            Device(path) => {
                header.set_entry_type(tar::EntryType::Char);
                (*path, "")
            }
        };
        header.set_size(u64::try_from(content.len()).unwrap());
        // Written raw, so that a path may lead where the builder would not let it.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[derive(Clone, Copy)]
enum Pack {
    Plain,
    Gzip,
    Zstd,
}

struct Layout(tempfile::TempDir);

impl Layout {
    fn put(&self, bytes: &[u8]) -> String {
        let digest = digest_text(Sha256::digest(bytes).as_slice());
        let blobs = self.0.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        digest
    }

    fn new(layers: &[(Vec<u8>, Pack)]) -> Self {
        let layout = Self(tempfile::tempdir().unwrap());
        let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
        for (tar, pack) in layers {
            diff_ids.push(digest_text(Sha256::digest(tar).as_slice()));
            let (bytes, suffix) = match pack {
                Pack::Plain => (tar.clone(), ""),
                Pack::Gzip => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(tar).unwrap();
                    (encoder.finish().unwrap(), "+gzip")
                }
                Pack::Zstd => (zstd::encode_all(tar.as_slice(), 1).unwrap(), "+zstd"),
            };
            let media = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
            let digest = layout.put(&bytes);
            descriptors.push(serde_json::json!({"mediaType": media, "digest": digest, "size": bytes.len()}));
        }
        let config = serde_json::json!({
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["nginx"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let digest = layout.put(&config);
        let manifest = serde_json::json!({
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
            "layers": descriptors,
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let digest = layout.put(&manifest);
        let index = serde_json::json!({"manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
        }]});
        fs::write(layout.0.path().join("index.json"), index.to_string()).unwrap();
        fs::write(layout.0.path().join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        layout
    }

    fn import(&self) -> Result<Imported, ImportError> {
        import(self.0.path(), Platform::NODE, &self.0.path().join("root.squashfs"))
    }

    /// What the squashfs holds, a line each: path, kind, mode, owner, content.
    fn listing(&self) -> Vec<String> {
        let imported = self.import().unwrap();
        let file = std::io::BufReader::new(fs::File::open(&imported.root).unwrap());
        let reader = FilesystemReader::from_reader(file).unwrap();
        let mut lines = Vec::new();
        for node in reader.files() {
            let header = node.header;
            let what = match &node.inner {
                InnerNode::File(file) => {
                    let mut content = String::new();
                    reader.file(file).reader().read_to_string(&mut content).unwrap();
                    format!("= {content}")
                }
                InnerNode::Symlink(link) => format!("-> {}", link.link.display()),
                InnerNode::Dir(_) => "dir".into(),
                other => format!("{other:?}"),
            };
            let path = node.fullpath.display();
            lines.push(format!(
                "{path} {:o} {}:{} {what}",
                header.permissions, header.uid, header.gid
            ));
        }
        lines
    }
}

#[test]
fn layers_of_every_compression_are_flattened_with_whiteouts() {
    let base = tar(&[
        Dir("etc/", 0o755),
        Plain("etc/keep", "1"),
        Plain("etc/gone", "2"),
        Dir("old/", 0o700),
        Plain("old/a", "3"),
        Plain("old/b", "4"),
        Dir("swap/", 0o755),
        Plain("swap/x", "5"),
    ]);
    let middle = tar(&[
        Plain("etc/.wh.gone", ""),
        Plain("old/.wh..wh..opq", ""),
        Plain("old/new", "6"),
    ]);
    let top = tar(&[Plain("swap", "now a file"), Owned("bin/tool", 1000, 33, 0o4755)]);
    let layout = Layout::new(&[(base, Pack::Plain), (middle, Pack::Gzip), (top, Pack::Zstd)]);
    let expected = [
        "/ 755 0:0 dir",
        "/bin 755 0:0 dir",
        "/bin/tool 4755 1000:33 = owned",
        "/etc 755 0:0 dir",
        "/etc/keep 644 0:0 = 1",
        "/old 700 0:0 dir",
        "/old/new 644 0:0 = 6",
        "/swap 644 0:0 = now a file",
    ];
    assert_eq!(layout.listing(), expected);
}

#[test]
fn links_stay_inside_the_root_and_devices_are_left_out() {
    let layer = tar(&[
        Dir("usr/lib", 0o755),
        Symlink("lib", "usr/lib"),
        Plain("lib/so", "library"),
        Hardlink("lib/so.1", "usr/lib/so"),
        Symlink("abs", "/usr"),
        Plain("abs/share", "shared"),
        Device("dev/null"),
        Symlink("out", "../../../etc/passwd"),
    ]);
    let layout = Layout::new(&[(layer, Pack::Plain)]);
    let expected = [
        "/ 755 0:0 dir",
        "/abs 644 0:0 -> /usr",
        "/lib 644 0:0 -> usr/lib",
        "/out 644 0:0 -> ../../../etc/passwd",
        "/usr 755 0:0 dir",
        "/usr/lib 755 0:0 dir",
        "/usr/lib/so 644 0:0 = library",
        "/usr/lib/so.1 644 0:0 = library",
        "/usr/share 644 0:0 = shared",
    ];
    assert_eq!(layout.listing(), expected);
    assert_eq!(layout.import().unwrap().devices, 1);
}

#[test]
fn the_same_layout_gives_the_same_bytes() {
    let long = "x".repeat(300_000);
    let layer = tar(&[
        Plain("b", &long),
        Plain("a", "1"),
        Dir("c/", 0o755),
        Plain("c/d", &long),
    ]);
    let layout = Layout::new(&[(layer, Pack::Zstd)]);
    let first = fs::read(layout.import().unwrap().root).unwrap();
    assert_eq!(fs::read(layout.import().unwrap().root).unwrap(), first);
    assert!(first.len().is_multiple_of(4096) && first.starts_with(b"hsqs"));
}

#[test]
fn what_leads_out_of_the_image_or_in_circles_is_refused() {
    for entries in [
        vec![Plain("../evil", "x")],
        vec![Hardlink("a", "../../etc/shadow")],
        vec![Hardlink("a", "missing")],
        vec![Symlink("a", "b"), Symlink("b", "a"), Plain("a/x", "x")],
        vec![Plain("a", "file"), Plain("a/b", "x")],
    ] {
        let layout = Layout::new(&[(tar(&entries), Pack::Plain)]);
        assert!(matches!(layout.import(), Err(ImportError::Layer { .. })));
    }
}

#[test]
fn damage_to_any_blob_is_noticed() {
    let layer = tar(&[Plain("a", "content")]);
    let layout = Layout::new(&[(layer, Pack::Gzip)]);
    layout.import().unwrap();
    for blob in fs::read_dir(layout.0.path().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(
            matches!(layout.import(), Err(ImportError::Digest { .. })),
            "{}",
            path.display()
        );
        fs::write(&path, good).unwrap();
    }
    layout.import().unwrap();
}

#[test]
fn a_missing_or_foreign_layout_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let root = empty.path().join("root");
    let missing = import(empty.path(), Platform::NODE, &root);
    assert!(matches!(missing, Err(ImportError::NoLayout(_))));
    let layout = Layout::new(&[(tar(&[Plain("a", "x")]), Pack::Plain)]);
    let foreign = import(layout.0.path(), Platform { architecture: "arm64" }, &root);
    assert!(matches!(foreign, Err(ImportError::Layout { .. })));
}
