//! The explorer: a page for people, kept in `ledger/node/explorer/` and a part of the program. It knows the chain by the endpoints
//! alone, and checks proofs in the browser.

use std::sync::Arc;

use axum::{
    http::header,
    routing::{MethodRouter, get},
};

use super::{site::Site, tag::Known};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the page: where it is in the folder, and what it is.
struct File {
    name: &'static str,
    media: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($($media:ident: $($name:literal),*;)*) => {
        /// All files of the page but its first.
        const FILES: &[File] = &[$($(File {
            name: $name,
            media: $media,
            content: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/explorer/", $name)),
        }),*),*];
    };
}

files! {
    CSS: "base.css", "parts.css";
    SVG: "icon.svg";
    SCRIPT: "api.js", "capacity.js", "dom.js", "format.js", "kinds.js", "live.js", "main.js", "map.js", "trust.js",
        "verify/borsh.js", "verify/bytes.js", "verify/ed25519.js", "verify/hash.js", "verify/light.js", "verify/schema.js",
        "verify/session.js", "verify/tree.js",
        "views/block.js", "views/history.js", "views/overview.js", "views/parts.js", "views/record.js", "views/says.js",
        "views/search.js", "views/verify.js",
        "vendor/noble-ed25519/index.js",
        "vendor/noble-hashes/_blake.js", "vendor/noble-hashes/_md.js", "vendor/noble-hashes/_u64.js",
        "vendor/noble-hashes/blake2.js", "vendor/noble-hashes/blake3.js", "vendor/noble-hashes/sha2.js",
        "vendor/noble-hashes/utils.js";
    TEXT: "vendor/noble-ed25519/LICENSE", "vendor/noble-hashes/LICENSE";
}

const FIRST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/explorer/index.html"));

/// How long a browser keeps what never changes: a year, in seconds.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// A hash of all files, so that those of another version stand elsewhere and none is asked for twice.
fn version() -> String {
    let mut hasher = blake3::Hasher::new();
    for file in FILES {
        hasher.update(blake3::hash(file.content.as_bytes()).as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// What serves the page and each of its files, under its path.
pub(super) fn files() -> Vec<(String, MethodRouter<Arc<Site>>)> {
    let folder = format!("/explorer/{}/", version());
    let page = FIRST.replace("\"/explorer/", &format!("\"{folder}"));
    let name = blake3::hash(page.as_bytes()).to_hex();
    let first = async move |known: Known| known.answer(name, ([(header::CONTENT_TYPE, HTML)], page.clone()));
    let others = FILES.iter().map(|file| {
        let name = blake3::hash(file.content.as_bytes()).to_hex();
        let answer = async move |known: Known| {
            let media = (header::CONTENT_TYPE, file.media);
            let answer = known.answer(name, ([media], file.content));
            ([(header::CACHE_CONTROL, FOR_EVER)], answer)
        };
        (format!("{folder}{}", file.name), get(answer))
    });
    std::iter::once(("/".to_owned(), get(first))).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/explorer");

    /// Blake3 of what came from elsewhere; `VENDOR.md` says from where.
    const PINNED: [(&str, &str); 10] = [
        (
            "noble-ed25519/LICENSE",
            "38833a94918e6e6e451add73debcd9e27e382f44d5cebb832368a2711f302523",
        ),
        (
            "noble-ed25519/index.js",
            "a52110a53afb108468dab772e0a0698b71b78069f88824e9ae4b64302772ea72",
        ),
        (
            "noble-hashes/LICENSE",
            "ea32bd015a92fce181fc9b33bc86ea36ce534e601c73a67fec240d0d0f826ffa",
        ),
        (
            "noble-hashes/_blake.js",
            "b3c007eb409be24936a8f4f3c2b022c83fac79ee98eab3ca61d17a706304c48e",
        ),
        (
            "noble-hashes/_md.js",
            "d0fedf61cb69f7a7cd5a1ee6ece06b3efe98087952bd87b9988aa110dfa0598d",
        ),
        (
            "noble-hashes/_u64.js",
            "3e740fd442ca5fa0840914f0150e4a0c120578df457f035e3908c0981dd157d6",
        ),
        (
            "noble-hashes/blake2.js",
            "28041d68adf5e7f27d3240d7875bc7ce828d81cd87dec4b70a9ecd66852bc7d8",
        ),
        (
            "noble-hashes/blake3.js",
            "f72d8e292bd3c0577e403751626f311ea255b62fc19fda08feb09654265160c3",
        ),
        (
            "noble-hashes/sha2.js",
            "df95795ef6bfeccb7d5b2e5297122cc2cabacad4eb95b47ef6640ffcf599ac05",
        ),
        (
            "noble-hashes/utils.js",
            "7f670108afa3f82270e8552d089c02c1dc138c4c373e9c846e88d57fa757aecb",
        ),
    ];

    fn list(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                list(&path, found);
            } else {
                found.insert(path.strip_prefix(FOLDER).unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let mut found = BTreeSet::new();
        list(Path::new(FOLDER), &mut found);
        let unserved = ["index.html", "vendor/VENDOR.md"].map(PathBuf::from);
        let served = FILES.iter().map(|file| file.name.into());
        assert_eq!(served.chain(unserved).collect::<BTreeSet<PathBuf>>(), found);
    }

    #[test]
    fn vendored_files_are_those_of_their_packages() {
        let mut found = BTreeSet::new();
        list(&Path::new(FOLDER).join("vendor"), &mut found);
        let pinned = PINNED.iter().map(|(name, _)| Path::new("vendor").join(name));
        let pinned: BTreeSet<PathBuf> = pinned.chain([PathBuf::from("vendor/VENDOR.md")]).collect();
        assert_eq!(found, pinned);
        for (name, hash) in PINNED {
            let content = fs::read(Path::new(FOLDER).join("vendor").join(name)).unwrap();
            assert_eq!(blake3::hash(&content).to_hex().as_str(), hash, "{name}");
        }
    }

    #[test]
    fn what_the_chain_says_is_never_read_as_markup() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "setHTMLUnsafe",
            "srcdoc",
        ];
        for file in FILES.iter().filter(|file| !file.name.starts_with("vendor/")) {
            for word in forbidden {
                assert!(!file.content.contains(word), "{} has {word}", file.name);
            }
        }
        let page = FIRST;
        let scripts = page.matches("<script").count();
        assert_eq!(
            (
                scripts,
                page.matches("<script type=\"module\" src=\"/explorer/main.js\"></script>")
                    .count()
            ),
            (1, 1)
        );
        assert!(
            !page.contains("<style") && !page.contains(" style=") && !page.contains("http"),
            "{page}"
        );
    }
}
