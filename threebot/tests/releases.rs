//! Releases: drafted by a bot, signed where no bot is, put on a real chain and given to nodes.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a test may fail so; other tests use the rest of the market"
)]

#[path = "market/mod.rs"]
mod market;

use std::{
    fs,
    path::{Path, PathBuf},
};

use ledger::{
    Hash, Id,
    body::{Channel, Release},
};
use market::{Market, call, done};

/// Release keys in files, in a directory in which no bot is.
struct Signers {
    directory: tempfile::TempDir,
}

impl Signers {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn call(&self, arguments: &[&str]) -> (i32, String, String) {
        call(self.directory.path(), &[&["release"], arguments].concat())
    }

    /// Makes keys and returns their public halves.
    fn keys(&self, names: &[&str]) -> Vec<String> {
        let make = |name: &&str| {
            let (code, out, err) = self.call(&["key", self.path(name).to_str().unwrap()]);
            assert_eq!(code, 0, "{err}");
            out.trim().to_owned()
        };
        names.iter().map(make).collect()
    }

    /// Signs a draft by each of the keys, in copies of their own.
    fn sign(&self, draft: &str, names: &[&str]) -> Vec<String> {
        let file = self.path("draft.json");
        fs::write(&file, draft).unwrap();
        let sign = |name: &&str| {
            let key = self.path(name);
            let (code, out, err) = self.call(&["sign", "--key", key.to_str().unwrap(), file.to_str().unwrap()]);
            assert_eq!((code, err.lines().count()), (0, 1), "{err}");
            let copy = self.path(&format!("draft-{name}.json"));
            fs::write(&copy, out).unwrap();
            copy.display().to_string()
        };
        names.iter().map(sign).collect()
    }
}

fn words<'a>(first: &[&'a str], more: &'a [String]) -> Vec<&'a str> {
    first.iter().copied().chain(more.iter().map(String::as_str)).collect()
}

fn with_keys<'a>(first: &[&'a str], keys: &'a [String]) -> Vec<&'a str> {
    let named = keys.iter().flat_map(|key| ["--key", key.as_str()]);
    first.iter().copied().chain(named).collect()
}

fn submit(home: &Path, papers: &[String]) -> Result<Id, (i32, String)> {
    let (code, out, err) = call(home, &words(&["release", "submit"], papers));
    if code == 0 {
        Ok(out.trim().parse().unwrap())
    } else {
        assert_eq!(err.lines().count(), 1, "{err}");
        Err((code, err))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_signed_by_its_keys_and_given_to_a_share_of_the_nodes() {
    let market = Market::open().await;
    let chain = market.client().await;
    let (home, other) = (&market.customer.home, &market.farmer.home);
    let signers = Signers::new();
    let first = signers.keys(&["a", "b", "c"]);
    let manifest = signers.path("manifest");
    fs::write(&manifest, b"what the image is made of").unwrap();
    let manifest = manifest.to_str().unwrap();

    let (channel, release) = tokio::task::block_in_place(|| {
        let draft = done(
            home,
            &with_keys(&["release", "draft-channel", "stable", "--threshold", "2"], &first),
        );
        let signed = signers.sign(&draft, &["a", "c"]);
        let (code, err) = submit(home, &signed[..1]).unwrap_err();
        assert!(
            code == 4 && err.contains("1 of the release keys signed, 2 must"),
            "{code}: {err}"
        );
        let channel = submit(home, &signed).unwrap();
        let id = channel.to_string();

        let draft = ["release", "draft", "--channel", &id, "--name", "1.2.0", manifest];
        let draft = done(home, &draft);
        let signed = signers.sign(&draft, &["b", "c"]);
        let (code, err) = submit(other, &signed).unwrap_err();
        assert!(code == 4 && err.contains("the channel is another's"), "{code}: {err}");
        (channel, submit(home, &signed).unwrap())
    });
    let published = chain.require::<Release>(release).await.unwrap().body;
    assert_eq!((published.signed.manifest.number, published.permille), (1, 0));
    let hash = Hash::from_bytes(*blake3::hash(b"what the image is made of").as_bytes());
    assert_eq!((published.image().hash, published.image().size), (hash, 25));

    let id = channel.to_string();
    tokio::task::block_in_place(|| {
        done(home, &["release", "stage", "--channel", &id, "1", "2.5%"]);
        let (code, _, err) = call(other, &["release", "stage", "--channel", &id, "1", "100%"]);
        assert!(code == 4 && err.contains("the channel is another's"), "{code}: {err}");
    });
    assert_eq!(chain.require::<Release>(release).await.unwrap().body.permille, 25);

    // Other keys and another owner, by those before and those after.
    let second = signers.keys(&["d"]);
    let farmer = market.farmer.id;
    tokio::task::block_in_place(|| {
        let owner = farmer.to_string();
        let draft = [
            "release",
            "draft-rotation",
            "--channel",
            &id,
            "--owner",
            &owner,
            "--threshold",
            "1",
        ];
        let draft = done(home, &with_keys(&draft, &second));
        let few = signers.sign(&draft, &["a", "b"]);
        let (code, err) = submit(home, &few).unwrap_err();
        assert!(
            code == 4 && err.contains("0 of the release keys signed, 1 must"),
            "{code}: {err}"
        );
        // Whoever has the signatures may put it on the chain.
        assert_eq!(submit(other, &signers.sign(&draft, &["a", "b", "d"])), Ok(channel));
        done(other, &["release", "stage", "--channel", &id, "1", "100%"]);
    });
    let rotated = chain.require::<Channel>(channel).await.unwrap().body;
    assert_eq!((rotated.owner, rotated.rotations, rotated.staged), (farmer, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_draft_or_no_key_is_said_in_one_line() {
    let market = Market::open().await;
    let home = market.customer.home.clone();
    let signers = Signers::new();
    tokio::task::block_in_place(|| {
        let keys = signers.keys(&["a", "b"]);
        let a = signers.path("a");
        let (code, _, err) = signers.call(&["key", a.to_str().unwrap()]);
        assert!(code == 1 && err.contains("exists"), "{code}: {err}");
        let readable_by_owner = fs::metadata(&a).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&readable_by_owner.permissions()) & 0o777,
            0o600
        );

        let draft = |label: &str, threshold: &str| {
            call(
                &home,
                &with_keys(&["release", "draft-channel", label, "--threshold", threshold], &keys),
            )
        };
        for threshold in ["0", "3"] {
            let (code, _, err) = draft("stable", threshold);
            assert!(code == 2 && err.contains("from 1 to their number"), "{code}: {err}");
        }
        let one = signers.sign(&draft("stable", "1").1, &["a"]);
        fs::copy(signers.path("draft-a.json"), signers.path("one.json")).unwrap();
        let another = signers.sign(&draft("testing", "1").1, &["a"]);
        let one = [signers.path("one.json").display().to_string(), one[0].clone()];
        assert_eq!(another[0], one[1]);
        let (code, err) = submit(&home, &one).unwrap_err();
        assert!(code == 2 && err.contains("not copies of one draft"), "{code}: {err}");

        let (code, err) = submit(&home, &[a.display().to_string()]).unwrap_err();
        assert!(code == 2 && err.contains("no draft of a release"), "{code}: {err}");
        let (code, _, err) = signers.call(&["sign", "--key", &one[0], &one[0]]);
        assert!(code == 2 && err.contains("no release key"), "{code}: {err}");
        let nobody = Id::CHAIN.to_string();
        let draft = [
            "release",
            "draft",
            "--channel",
            &nobody,
            "--name",
            "1",
            a.to_str().unwrap(),
        ];
        let (code, _, err) = call(&home, &draft);
        assert!(
            code == 5 && err.contains("there is no release channel"),
            "{code}: {err}"
        );
        for share in ["101%", "1.25%", "-1", "", "100.1%", "x"] {
            let (code, _, err) = call(&home, &["release", "stage", "--channel", &nobody, "1", share]);
            assert!(code == 2, "{share}: {code}: {err}");
        }
    });
}
