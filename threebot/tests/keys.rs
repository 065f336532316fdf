//! A bot whose keys are rotated, stolen, lost and recovered, on a real chain.
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

use ledger::body::Entity;
use market::{Daemon, Machine, Market, call, call_with, done, write_app};
use serde_json::Value;
use threebot::identity::{IdentityFile, Seed};

/// Runs `threebot keys` and returns the words that it prints.
fn keys(home: &Path, arguments: &[&str], input: &str) -> String {
    let all = [&["--json", "keys"], arguments].concat();
    let (code, out, err) = call_with(home, &all, input);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.last().unwrap()["done"].is_string(), "{out}");
    lines[0]["words"].as_str().unwrap_or_default().to_owned()
}

/// What `threebot keys` says when it fails with this code.
fn refused(code: i32, home: &Path, arguments: &[&str], input: &str) -> String {
    let (ended, out, err) = call_with(home, &[&["keys"], arguments].concat(), input);
    assert_eq!(ended, code, "{arguments:?}: {out}{err}");
    err.lines().last().unwrap().to_owned()
}

fn identity(home: &Path) -> PathBuf {
    home.join("identity.json")
}

/// Files of a bot, as a thief takes them.
fn stolen(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("deployments")).unwrap();
    for name in ["identity.json", "config.toml"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotated_keys_go_on_with_all_that_the_bot_had() {
    let market = Market::open().await;
    let media = tokio::task::block_in_place(|| market.farm(1));
    let _machine = Machine::join(&media, 1).await;
    let chain = market.client().await;
    let (home, id) = (market.customer.home.clone(), market.customer.id);
    let before = chain.require::<Entity>(id).await.unwrap();
    tokio::task::block_in_place(|| {
        let (layout, app) = write_app(market.directory.path(), 100, "290");
        market
            .customer
            .done(&["image", "push", layout.to_str().unwrap(), "hello"]);
        market.customer.done(&["deploy", app.to_str().unwrap()]);
        let runs = refused(1, &home, &["rotate"], "");
        assert!(runs.contains("another `threebot serve` runs"), "{runs}");
    });
    let other = market.farmer.id.to_string();
    let words = tokio::task::block_in_place(|| {
        market.customer.terminated();
        keys(&home, &["rotate"], "")
    });
    let after = chain.require::<Entity>(id).await.unwrap();
    assert_eq!(after.body.keys, Seed::from_words(&words).unwrap().keys());
    assert_eq!(after.record.previous, before.record.hash());

    tokio::task::block_in_place(|| {
        let again = Daemon::start(&home);
        assert_eq!(again.id, id);
        again.done(&["send", &other, "1"]);
        // What was sealed to the keys before is read: the workload is changed with what it was.
        let (_, app) = write_app(market.directory.path(), 120, "800");
        again.done(&["amend", app.to_str().unwrap()]);
        assert_eq!(again.json(&["ps"])[0]["state"], "active");
        again.done(&["cancel", "web"]);
    });
    // The words that are printed make the same bot, and those before none.
    let elsewhere = market.directory.path().join("elsewhere");
    let recover = [
        "recover",
        "--entity",
        &id.to_string(),
        "--no-passphrase",
        "--listen",
        "0.0.0.0:0",
    ];
    let (code, _, err) = call_with(&elsewhere, &recover, &words);
    assert_eq!(code, 0, "{err}");
    assert_eq!(call(&elsewhere, &["id"]).1.trim(), id.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_cut_off_is_finished() {
    let market = Market::open().await;
    let (home, id) = (market.customer.home.clone(), market.customer.id);
    let chain = market.client().await;
    tokio::task::block_in_place(|| market.customer.terminated());
    let before = chain.require::<Entity>(id).await.unwrap().record.version;

    // Cut off before the chain had it.
    let (file, known) = IdentityFile::open(&identity(&home), || None).unwrap();
    let begun = Seed::generate().unwrap();
    file.replace(&known.with_next(begun.clone())).unwrap();
    tokio::task::block_in_place(|| {
        let (code, _, error) = call(&home, &["serve"]);
        assert!(code == 1 && error.contains("threebot keys rotate"), "{code}: {error}");
        assert_eq!(keys(&home, &["rotate"], ""), *begun.words());
    });
    assert_eq!(chain.require::<Entity>(id).await.unwrap().body.keys, begun.keys());

    // Cut off after the chain had it and before the file did.
    let (file, known) = IdentityFile::open(&identity(&home), || None).unwrap();
    assert_eq!((known.keys(), known.next().is_none()), (begun.keys(), true));
    let next = Seed::generate().unwrap();
    file.replace(&known.with_next(next.clone())).unwrap();
    let cut_off = fs::read(identity(&home)).unwrap();
    for _ in 0..2 {
        fs::write(identity(&home), &cut_off).unwrap();
        let words = tokio::task::block_in_place(|| keys(&home, &["rotate"], ""));
        assert_eq!(words, *next.words());
    }
    let rotated = chain.require::<Entity>(id).await.unwrap();
    assert_eq!((rotated.body.keys, rotated.record.version), (next.keys(), before + 2));
    assert_eq!(tokio::task::block_in_place(|| Daemon::start(&home).id), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_the_recovery_words_takes_back_what_a_thief_took() {
    let market = Market::open().await;
    let (home, id) = (market.customer.home.clone(), market.customer.id.to_string());
    let (thief, new) = (
        market.directory.path().join("thief"),
        market.directory.path().join("new"),
    );
    tokio::task::block_in_place(|| {
        market.customer.terminated();
        let words = keys(&home, &["recovery"], "");
        let none = refused(2, &home, &["recovery"], "");
        assert!(none.contains("--replace or --remove"), "{none}");

        stolen(&home, &thief);
        keys(&thief, &["rotate"], "");
        let taken = refused(2, &thief, &["recovery", "--remove"], &Seed::generate().unwrap().words());
        assert!(taken.contains("not the words of the recovery key"), "{taken}");

        // The owner's bot says what has happened.
        let mut owner = Daemon::begin(&home);
        owner.says("has other keys on the chain than this bot");
        drop(owner);

        let genesis = market.ledger.chain().to_string();
        let peer = market.ledger.address().to_string();
        let recover = [
            "recover",
            "--entity",
            &id,
            "--no-passphrase",
            "--listen",
            "0.0.0.0:0",
            "--genesis",
            &genesis,
            "--peer",
            &peer,
        ];
        let wrong = refused(
            4,
            &market.directory.path().join("wrong"),
            &recover,
            &Seed::generate().unwrap().words(),
        );
        assert!(wrong.contains("not the words of the entity's recovery key"), "{wrong}");
        let recovered = keys(&new, &recover, &words);
        // Once more it prints the same words and changes nothing.
        assert_eq!(keys(&new, &recover, &words), recovered);
        let bot = Daemon::start(&new);
        assert_eq!(bot.id.to_string(), id);
        bot.done(&["send", &market.farmer.id.to_string(), "999"]);
        let mut robbed = Daemon::begin(&thief);
        robbed.says("has other keys on the chain than this bot");
        drop(bot);

        // The recovery key is replaced with its own words, and then taken away.
        let replaced = keys(&new, &["recovery", "--replace"], &words);
        let old = refused(2, &new, &["recovery", "--remove"], &words);
        assert!(old.contains("not the words"), "{old}");
        keys(&new, &["recovery", "--remove"], &replaced);
    });
    let chain = market.client().await;
    assert_eq!(
        chain.require::<Entity>(market.customer.id).await.unwrap().body.recovery,
        None
    );
}

#[test]
fn what_is_wrong_is_said_before_anything_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("bot");
    done(&home, &["init", "--no-passphrase"]);
    let before = fs::read(identity(&home)).unwrap();
    let no_chain = refused(1, &home, &["rotate"], "");
    assert!(no_chain.contains("no chain is configured"), "{no_chain}");
    let no_words = refused(2, &home, &["recovery", "--remove"], "abandon");
    assert!(no_words.contains("not recovery words"), "{no_words}");
    assert_eq!(fs::read(identity(&home)).unwrap(), before);
}
