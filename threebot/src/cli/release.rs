//! `threebot release`: what needs the bot is asked of it, what needs a release key is done here.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ledger::{
    Hash, SigningKey,
    body::{Blob, ReleaseKeys},
    release::Paper,
    text::Text,
};
use threebot::{
    control::{Draft, Failure, FailureKind, Request},
    home::Home,
};
use zeroize::Zeroizing;

use super::{
    arguments::{Release, ReleaseKeysArguments},
    client,
    commands::show,
    failure, print,
};

/// Longest file that is read as a paper, in bytes.
const MAX_PAPER: u64 = 64 * 1024;
/// Characters of a release key in its file.
const KEY_DIGITS: usize = 64;

/// Does it.
pub(super) fn perform(home: &Home, release: Release, json: bool) -> Result<(), Failure> {
    let request = match release {
        Release::Key { file } => return make_key(&file, json),
        Release::Sign { key, draft } => {
            let paper = read_paper(&draft)?;
            print::note(&paper.signed.to_string());
            print::json(&paper.sign(&read_key(&key)?));
            return Ok(());
        }
        Release::DraftChannel { name, keys } => Request::ReleaseDraft {
            draft: Draft::Channel {
                label: name,
                keys: release_keys(keys)?,
            },
        },
        Release::DraftRotation { channel, owner, keys } => Request::ReleaseDraft {
            draft: Draft::Rotation {
                channel,
                keys: release_keys(keys)?,
                owner,
            },
        },
        Release::Draft {
            channel,
            name,
            number,
            manifest,
        } => Request::ReleaseDraft {
            draft: Draft::Release {
                channel,
                number,
                name: Text::new(name).map_err(|error| failure(FailureKind::Usage, format!("--name: {error}")))?,
                image: blob(&manifest)?,
            },
        },
        Release::Submit { papers } => {
            let mut all = papers.iter().map(|path| read_paper(path));
            let first = all.next().expect("one is required")?;
            let other = || failure(FailureKind::Usage, "the files are not copies of one draft");
            let merged = all.try_fold(first, |merged, paper| merged.merged(paper?).ok_or_else(other))?;
            Request::ReleaseSubmit {
                paper: Box::new(merged),
            }
        }
        Release::Stage { channel, number, share } => Request::ReleaseStage {
            channel,
            number,
            permille: share,
        },
    };
    show(&client::ask(home, &request, |_| ())?, json)
}

fn release_keys(arguments: ReleaseKeysArguments) -> Result<ReleaseKeys, Failure> {
    let ReleaseKeysArguments { mut keys, threshold } = arguments;
    keys.sort();
    let keys = ReleaseKeys { threshold, keys };
    if keys.is_valid() {
        Ok(keys)
    } else {
        let text = "release keys are 1 to 16 different ones, and --threshold is from 1 to their number";
        Err(failure(FailureKind::Usage, text))
    }
}

fn named(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| failure(FailureKind::Local, format!("{}: {error}", path.display()))
}

fn make_key(path: &Path, json: bool) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| failure(FailureKind::Local, format!("draw a release key: {error}")))?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(Zeroizing::new(data_encoding::HEXLOWER.encode(seed.as_slice()) + "\n").as_bytes())?;
        file.sync_all()
    })();
    written.map_err(named(path))?;
    let key = SigningKey::from_seed(&seed).public();
    if json {
        print::json(&serde_json::json!({"key": key}));
    } else {
        print::line(&key.to_string());
    }
    Ok(())
}

fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_DIGITS + 2));
    let file = File::open(path).map_err(named(path))?;
    file.take(128).read_to_string(&mut text).map_err(named(path))?;
    let digits = data_encoding::HEXLOWER
        .decode(text.trim().as_bytes())
        .map(Zeroizing::new);
    let seed = digits
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let seed = seed.map(Zeroizing::new).ok_or_else(|| {
        let text = format!("{}: no release key; `threebot release key` makes one", path.display());
        failure(FailureKind::Usage, text)
    })?;
    Ok(SigningKey::from_seed(&seed))
}

fn read_paper(path: &Path) -> Result<Paper, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(named(path))?;
    file.take(MAX_PAPER).read_to_string(&mut text).map_err(named(path))?;
    serde_json::from_str(&text).map_err(|error| {
        let text = format!(
            "{}: no draft of a release ({error}); `threebot release draft` writes one",
            path.display()
        );
        failure(FailureKind::Usage, text)
    })
}

fn blob(path: &Path) -> Result<Blob, Failure> {
    let mut hasher = blake3::Hasher::new();
    let size = File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(named(path))?;
    let hash = Hash::from_bytes(*hasher.finalize().as_bytes());
    Ok(Blob { hash, size })
}
