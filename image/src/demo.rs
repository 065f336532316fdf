//! The demo workload: Debian's nginx as an OCI image, with a page and a volume that keeps what is put there.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::cpio::Tree;
use crate::oci::{self, Image};
use crate::sources::Sources;

/// Debian's number for www-data, user and group.
const WWW_DATA: u32 = 33;
const CONFIG: &str = include_str!("../demo/nginx.conf");
const PAGE: &str = include_str!("../demo/index.html");
const PASSWD: &str = "root:x:0:0:root:/root:/usr/sbin/nologin\nwww-data:x:33:33:www-data:/srv/www:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\n";

/// Parts of Debian's packages that a running nginx never opens.
const LEFT_OUT: [&str; 9] = [
    "/etc/nginx/nginx.conf",
    "/etc/nginx/sites-available",
    "/usr/share/bug",
    "/usr/share/doc",
    "/usr/share/lintian",
    "/usr/share/man",
    "/usr/lib/x86_64-linux-gnu/audit",
    "/usr/lib/x86_64-linux-gnu/gconv",
    "/var/www",
];

/// Directories that nginx writes to, with modes, all owned by www-data.
const WRITABLE: [(&str, u32); 4] = [
    ("/data", 0o755),
    ("/data/files", 0o1777),
    ("/var/lib/nginx", 0o700),
    ("/var/log/nginx", 0o755),
];

/// Writes the image as an OCI layout to `out`, in place of what was there.
///
/// # Errors
/// If the packages are not unpacked, or `out` cannot be written or holds something else than an OCI layout.
pub fn build(sources: &Sources, out: &Path) -> Result<()> {
    let image = image(sources)?;
    clear(out)?;
    oci::write(&image, out)
}

/// Removes the layout at `out`, if there is one. Whatever else is there is somebody's.
fn clear(out: &Path) -> Result<()> {
    let looked = || format!("look into {}", out.display());
    let mut entries = match fs::read_dir(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(looked)?,
    };
    ensure!(
        out.join(oci::MARKER).is_file() || entries.next().is_none(),
        "{} holds something else than an OCI image layout, which stays; name another directory",
        out.display()
    );
    remove(out).with_context(|| format!("clear {}", out.display()))
}

/// Removes a layout, the file by which it is known last: what is left of one that was interrupted is known as well.
fn remove(out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if entry.file_name() == oci::MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(out)
}

fn image(sources: &Sources) -> Result<Image> {
    let packages = sources.set("demo");
    let mut root = Tree::new();
    copy(&packages, &packages, &mut root)
        .with_context(|| format!("read {}: run `cargo xtask setup`", packages.display()))?;
    for (path, text) in [
        ("/etc/nginx/nginx.conf", CONFIG),
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/srv/www/index.html", PAGE),
    ] {
        root.add_file(path, 0o644, text.as_bytes().to_vec())?;
    }
    for (path, mode) in [
        ("/dev", 0o755),
        ("/proc", 0o555),
        ("/sys", 0o555),
        ("/run", 0o755),
        ("/tmp", 0o1777),
    ] {
        root.directory(path, mode)?;
    }
    let mut owners = BTreeMap::new();
    for (path, mode) in WRITABLE {
        root.directory(path, mode)?;
        owners.insert(path.to_owned(), WWW_DATA);
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Ok(Image {
        root,
        owners,
        entrypoint: words(&["/usr/sbin/nginx", "-g", "daemon off;"]),
        environment: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        ports: words(&["80/tcp"]),
        volumes: words(&["/data"]),
        reference: "nginx-demo".to_owned(),
    })
}

/// Copies `directory` and what is below it into `tree`, by paths relative to `packages`.
fn copy(packages: &Path, directory: &Path, tree: &mut Tree) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = format!(
            "/{}",
            path.strip_prefix(packages)?.to_str().context("name is not text")?
        );
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            tree.add_link(&name, target.to_str().context("link is not text")?)?;
        } else if kind.is_dir() {
            tree.directory(&name, mode(&path)?)?;
            copy(packages, &path, tree)?;
        } else if kind.is_file() {
            tree.add_file(&name, mode(&path)?, fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_layout_or_nothing_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("layout");
        clear(&out).unwrap();
        fs::create_dir(&out).unwrap();
        clear(&out).unwrap();
        assert!(!out.exists());

        fs::create_dir(&out).unwrap();
        fs::write(out.join("mine.txt"), "precious").unwrap();
        let refused = clear(&out).unwrap_err().to_string();
        assert!(refused.contains("name another directory"), "{refused}");
        assert_eq!(fs::read(out.join("mine.txt")).unwrap(), b"precious");

        // With its marker it is a layout, be it a whole one or not.
        fs::write(out.join(oci::MARKER), "{}").unwrap();
        fs::create_dir_all(out.join("blobs/sha256")).unwrap();
        clear(&out).unwrap();
        assert!(!out.exists());
    }
}
