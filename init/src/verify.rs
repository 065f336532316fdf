//! The image against its manifest, before anything in it is used.
//!
//! Without Secure Boot this finds corruption, not an attacker: whoever can change a file can change the manifest. Each file
//! is hashed before it is used and no sooner, since hashing all of them first would cost more than the rest of the boot:
//! services and small files before the first service starts ([`Stage::Start`]), other programs before the agent may start
//! one ([`Stage::Programs`]), a kernel module when it is loaded ([`Image::read`]), and everything else when the machine
//! idles ([`Stage::Rest`]).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use node_api::image::{AGENT, Entry, FARM_MEDIA, MANIFEST, MODULES, Manifest, ManifestError, TEST_AGENT};

use crate::{background, sys};

/// A file of at most this many bytes is hashed at once whatever it is.
const SMALL: u64 = 256 * 1024;
/// Most threads that hash.
const MOST_THREADS: usize = 4;
/// Deepest directory that is looked into.
const MOST_DEPTH: usize = 32;

/// What is wrong with the image, and where. The text begins with `image damaged: PATH:`.
#[derive(Debug, thiserror::Error)]
#[error("image damaged: {path}")]
pub struct Damage {
    /// Path inside the image.
    pub path: String,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What can be wrong with one path.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read, or is not there.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    /// The manifest contradicts itself.
    #[error("the manifest is unusable")]
    Manifest(#[source] ManifestError),
    /// It is a file where a link is listed, or the like.
    #[error("is not of the kind that is listed")]
    Kind,
    /// Its permission bits differ.
    #[error("mode is {found:04o}, not {listed:04o}")]
    Mode {
        /// What it has.
        found: u32,
        /// What it should have.
        listed: u32,
    },
    /// Its length differs.
    #[error("size is {found}, not {listed} bytes")]
    Size {
        /// What it has.
        found: u64,
        /// What it should have.
        listed: u64,
    },
    /// Its contents differ.
    #[error("contents do not match their hash")]
    Hash,
    /// The link says something else.
    #[error("link leads elsewhere")]
    Link,
    /// Nobody listed it.
    #[error("is not listed in the manifest")]
    Unlisted,
}

/// An image whose manifest was read.
#[derive(Debug)]
pub struct Image {
    root: PathBuf,
    manifest: Manifest,
}

impl Image {
    /// Reads the manifest of the image below `root` and checks it against its own last line.
    ///
    /// # Errors
    /// [`Damage`] of the manifest itself.
    pub fn open(root: &Path) -> Result<Self, Damage> {
        let damage = |problem| Damage {
            path: MANIFEST.to_owned(),
            problem,
        };
        let text = fs::read_to_string(below(root, MANIFEST)).map_err(|error| damage(Problem::Unreadable(error)))?;
        let manifest = Manifest::parse(&text).map_err(|error| damage(Problem::Manifest(error)))?;
        Ok(Self {
            root: root.to_owned(),
            manifest,
        })
    }

    /// Checks what is due at a stage, and at the first that there is no file that is not listed. Returns the number of
    /// files.
    ///
    /// # Errors
    /// The damage that is first in the manifest's order.
    pub fn check(&self, stage: Stage) -> Result<usize, Damage> {
        if stage == Stage::Start {
            self.check_unlisted()?;
            return self.check_all(stage);
        }
        // Nobody waits for these, so they take one processor at most.
        let mut checked = 0;
        for (path, entry) in self.due(stage) {
            self.check_one(path, entry)?;
            checked += 1;
        }
        Ok(checked)
    }

    fn due(&self, stage: Stage) -> impl Iterator<Item = (&String, &Entry)> {
        let entries = self.manifest.entries().iter();
        entries.filter(move |(path, entry)| Stage::of(path, entry) == stage)
    }

    /// Whether the manifest lists `path`.
    #[must_use]
    pub fn lists(&self, path: &str) -> bool {
        self.manifest.entries().contains_key(path)
    }

    /// Reads a listed file whole and checks what was read.
    ///
    /// # Errors
    /// [`Damage`] when it is not listed or differs.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Damage> {
        let damage = |problem| Damage {
            path: path.to_owned(),
            problem,
        };
        let Some(Entry::File { hash, size, .. }) = self.manifest.entries().get(path) else {
            return Err(damage(Problem::Unlisted));
        };
        let contents = fs::read(below(&self.root, path)).map_err(|error| damage(Problem::Unreadable(error)))?;
        let found = u64::try_from(contents.len()).unwrap_or(u64::MAX);
        if found != *size {
            return Err(damage(Problem::Size { found, listed: *size }));
        }
        if blake3::hash(&contents) != blake3::Hash::from_bytes(*hash) {
            return Err(damage(Problem::Hash));
        }
        Ok(contents)
    }

    fn check_all(&self, stage: Stage) -> Result<usize, Damage> {
        let entries: Vec<_> = self.due(stage).collect();
        let next = AtomicUsize::new(0);
        let check_next = || {
            let mut first: Option<(usize, Damage)> = None;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((path, entry)) = entries.get(index) else {
                    return first;
                };
                if let Err(damage) = self.check_one(path, entry)
                    && first.is_none()
                {
                    first = Some((index, damage));
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS));
        let first = thread::scope(|scope| {
            let others = background::helpers(scope, threads - 1, check_next);
            let mut damages: Vec<_> = check_next().into_iter().collect();
            damages.extend(others.into_iter().filter_map(|thread| thread.join().ok().flatten()));
            damages.into_iter().min_by_key(|(index, _)| *index)
        });
        first.map_or(Ok(entries.len()), |(_, damage)| Err(damage))
    }

    fn check_one(&self, path: &str, entry: &Entry) -> Result<(), Damage> {
        let place = below(&self.root, path);
        let found = match entry {
            Entry::Link { target } => check_link(&place, target),
            Entry::File { hash, mode, size } => check_file(&place, hash, *mode, *size),
        };
        found.map_err(|problem| Damage {
            path: path.to_owned(),
            problem,
        })
    }

    fn check_unlisted(&self) -> Result<(), Damage> {
        let device = fs::symlink_metadata(&self.root)
            .map_err(|error| Damage {
                path: "/".to_owned(),
                problem: Problem::Unreadable(error),
            })?
            .dev();
        self.check_directory(&self.root, "", device, 0)
    }

    /// Other file systems are mount points and not the image's.
    fn check_directory(&self, place: &Path, name: &str, device: u64, depth: usize) -> Result<(), Damage> {
        let damage = |path: &str, problem| Damage {
            path: path.to_owned(),
            problem,
        };
        if depth > MOST_DEPTH {
            return Err(damage(name, Problem::Unlisted));
        }
        let entries = fs::read_dir(place).map_err(|error| damage(name, Problem::Unreadable(error)))?;
        for entry in entries {
            let entry = entry.map_err(|error| damage(name, Problem::Unreadable(error)))?;
            let path = format!("{name}/{}", entry.file_name().to_string_lossy());
            let metadata = entry
                .metadata()
                .map_err(|error| damage(&path, Problem::Unreadable(error)))?;
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                self.check_directory(&entry.path(), &path, device, depth + 1)?;
            } else if !self.lists(&path) && !is_expected(&path, &metadata) {
                return Err(damage(&path, Problem::Unlisted));
            }
        }
        Ok(())
    }
}

/// The manifest itself, what the farm adds, and the console that the kernel's own initramfs has.
fn is_expected(path: &str, metadata: &fs::Metadata) -> bool {
    path == MANIFEST || path == FARM_MEDIA || (path == "/dev/console" && metadata.file_type().is_char_device())
}

/// When a file is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the first service starts: services, links and small files.
    Start,
    /// Before the agent starts another program: everything else that is executable.
    Programs,
    /// When nobody else wants the processor.
    Rest,
}

impl Stage {
    fn of(path: &str, entry: &Entry) -> Self {
        match entry {
            Entry::Link { .. } => Self::Start,
            Entry::File { .. } if Path::new(path).starts_with(MODULES) && path.ends_with(".ko.zst") => Self::Rest,
            Entry::File { .. } if [AGENT, TEST_AGENT].contains(&path) => Self::Start,
            Entry::File { mode, .. } if mode & 0o111 != 0 => Self::Programs,
            Entry::File { size, .. } if *size <= SMALL => Self::Start,
            Entry::File { .. } => Self::Rest,
        }
    }
}

fn check_link(place: &Path, target: &str) -> Result<(), Problem> {
    let metadata = fs::symlink_metadata(place).map_err(Problem::Unreadable)?;
    if !metadata.is_symlink() {
        return Err(Problem::Kind);
    }
    let found = fs::read_link(place).map_err(Problem::Unreadable)?;
    if found == Path::new(target) {
        Ok(())
    } else {
        Err(Problem::Link)
    }
}

fn check_file(place: &Path, hash: &[u8; 32], mode: u32, size: u64) -> Result<(), Problem> {
    let metadata = fs::symlink_metadata(place).map_err(Problem::Unreadable)?;
    if !metadata.is_file() {
        return Err(Problem::Kind);
    }
    let found = metadata.mode() & 0o7777;
    if found != mode {
        return Err(Problem::Mode { found, listed: mode });
    }
    if metadata.len() != size {
        return Err(Problem::Size {
            found: metadata.len(),
            listed: size,
        });
    }
    if hash_file(place).map_err(Problem::Unreadable)? == blake3::Hash::from_bytes(*hash) {
        Ok(())
    } else {
        Err(Problem::Hash)
    }
}

fn hash_file(place: &Path) -> io::Result<blake3::Hash> {
    sys::with_contents(&File::open(place)?, blake3::hash)
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// An image with an executable, a module, a large file and a link.
    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new();
        let files: [(&str, u32, usize); 5] = [
            (AGENT, 0o755, 100_000),
            ("/init", 0o755, 100_000),
            ("/lib/modules/a.ko.zst", 0o644, 50),
            ("/lib/guest/k", 0o644, 300_000),
            ("/etc/x", 0o644, 3),
        ];
        for (path, mode, size) in files {
            let contents: Vec<u8> = (0..size).map(|n| u8::try_from(n % 255).unwrap()).collect();
            let place = below(dir.path(), path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(&place, &contents).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
            manifest.insert(path, Entry::file(&contents, mode)).unwrap();
        }
        symlink("init", dir.path().join("sbin")).unwrap();
        manifest
            .insert(
                "/sbin",
                Entry::Link {
                    target: "init".to_owned(),
                },
            )
            .unwrap();
        fs::create_dir_all(dir.path().join("etc/zos")).unwrap();
        fs::write(below(dir.path(), MANIFEST), manifest.to_string()).unwrap();
        dir
    }

    fn essential(dir: &tempfile::TempDir) -> Result<usize, String> {
        let checked = Image::open(dir.path()).and_then(|image| image.check(Stage::Start));
        checked.map_err(|damage| error_line::with_causes(&damage))
    }

    fn flip_middle_byte(place: &Path) {
        let mut contents = fs::read(place).unwrap();
        let middle = contents.len() / 2;
        contents[middle] ^= 1;
        fs::write(place, contents).unwrap();
    }

    #[test]
    fn an_intact_image_passes() {
        let dir = image();
        assert_eq!(essential(&dir), Ok(3));
        let image = Image::open(dir.path()).unwrap();
        assert_eq!(
            [Stage::Programs, Stage::Rest].map(|stage| image.check(stage).unwrap()),
            [1, 2]
        );
    }

    #[test]
    fn one_flipped_byte_names_the_file() {
        let dir = image();
        flip_middle_byte(&dir.path().join("bin/zos-agent"));
        assert_eq!(
            essential(&dir).unwrap_err(),
            "image damaged: /bin/zos-agent: contents do not match their hash"
        );
        flip_middle_byte(&dir.path().join("init"));
        let image = Image::open(dir.path()).unwrap();
        assert_eq!(image.check(Stage::Programs).unwrap_err().path, "/init");
    }

    #[test]
    fn a_flipped_byte_in_a_module_is_found_when_it_is_read_and_by_the_rest() {
        let dir = image();
        flip_middle_byte(&dir.path().join("lib/modules/a.ko.zst"));
        assert_eq!(essential(&dir), Ok(3));
        let image = Image::open(dir.path()).unwrap();
        assert_eq!(
            image.read("/lib/modules/a.ko.zst").unwrap_err().path,
            "/lib/modules/a.ko.zst"
        );
        assert_eq!(image.check(Stage::Rest).unwrap_err().path, "/lib/modules/a.ko.zst");
    }

    #[test]
    fn a_flipped_byte_in_the_manifest_names_the_manifest() {
        let dir = image();
        flip_middle_byte(&below(dir.path(), MANIFEST));
        assert!(
            essential(&dir)
                .unwrap_err()
                .starts_with("image damaged: /etc/zos/manifest: ")
        );
    }

    #[test]
    fn what_nobody_listed_is_refused_except_the_farms_media() {
        let dir = image();
        fs::write(below(dir.path(), FARM_MEDIA), "{}").unwrap();
        assert_eq!(essential(&dir), Ok(3));
        fs::write(dir.path().join("etc/extra"), "").unwrap();
        assert_eq!(
            essential(&dir).unwrap_err(),
            "image damaged: /etc/extra: is not listed in the manifest"
        );
    }

    #[test]
    fn missing_file_wrong_mode_wrong_size_and_wrong_link_are_named() {
        type Spoil = (&'static str, fn(&Path));
        let spoil: [Spoil; 4] = [
            ("image damaged: /etc/x: cannot be read: No such file", |root| {
                fs::remove_file(root.join("etc/x")).unwrap()
            }),
            ("image damaged: /etc/x: mode is 0600, not 0644", |root| {
                fs::set_permissions(root.join("etc/x"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("image damaged: /etc/x: size is 1, not 3 bytes", |root| {
                fs::write(root.join("etc/x"), "x").unwrap()
            }),
            ("image damaged: /sbin: link leads elsewhere", |root| {
                fs::remove_file(root.join("sbin")).unwrap();
                symlink("elsewhere", root.join("sbin")).unwrap();
            }),
        ];
        for (expected, act) in spoil {
            let dir = image();
            act(dir.path());
            let found = essential(&dir).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
