//! A member of the chain that lies, in one answer at a time.

use serde_json::Value;

use crate::{
    chromium::{Chromium, Tamper},
    world::{World, eager},
};

/// Bytes of a certified header before the certificate: eight hashes and keys, height and time.
const HEADER: usize = 7 * 32 + 2 * 8;
/// Where a signature of one validator begins: after the certificate's height, round, block, count, and the key.
const SIGNATURE: usize = HEADER + 8 + 4 + 32 + 4 + 32;

/// What a lie does to an answer.
type Change = fn(Vec<u8>) -> Vec<u8>;

fn flip(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

fn altered(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    value.to_string().into_bytes()
}

/// Each with the answer that it changes, and the check that refuses it.
const LIES: &[(&str, Change, &str)] = &[
    ("proof.borsh", |bytes| flip(bytes, 0), "other chain"),
    // The state root of the header.
    (
        "proof.borsh",
        |bytes| flip(bytes, 32 + 16 + 64),
        "certificate of another block",
    ),
    ("proof.borsh", |bytes| flip(bytes, SIGNATURE), "forged certificate"),
    ("proof.borsh", |bytes| flip(bytes, SIGNATURE + 40), "forged certificate"),
    // After the one signature, no handover and the mark of a record comes the record's id; then its version.
    ("proof.borsh", |bytes| flip(bytes, SIGNATURE + 64 + 2), "altered record"),
    (
        "proof.borsh",
        |bytes| flip(bytes, SIGNATURE + 64 + 2 + 32),
        "altered record",
    ),
    (
        "proof.borsh",
        |bytes| {
            let last = bytes.len() - 1;
            flip(bytes, last)
        },
        "bad proof",
    ),
    (
        "proof.borsh",
        |mut bytes| {
            bytes.pop();
            bytes
        },
        "malformed",
    ),
    (
        "proof.borsh",
        |mut bytes| {
            bytes.push(0);
            bytes
        },
        "malformed",
    ),
    ("history.borsh", |bytes| flip(bytes, 4 + 32), "broken history"),
    ("history.borsh", |_| vec![0; 4], "broken history"),
    (
        "/v1/genesis",
        |bytes| {
            altered(&bytes, |genesis| {
                let other = genesis["borsh"].as_str().unwrap().replacen("74657374", "74657375", 1);
                genesis["borsh"] = other.into();
            })
        },
        "wrong genesis",
    ),
    // What is shown, and what the hashes are of, are different things to somebody who lies.
    (
        "/history?",
        |bytes| {
            altered(&bytes, |history| {
                history["versions"][1]["body"]["contract"]["funded"] = 49.into();
            })
        },
        "altered record",
    ),
    (
        "?shown",
        |bytes| {
            altered(&bytes, |record| {
                record["body"]["contract"]["signed"]["agreement"]["price"] = 1.into();
            })
        },
        "altered record",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_answer_is_refused_by_the_name_of_the_check() {
    let world = World::start(eager()).await;
    let browser = Chromium::start().await;
    browser.size(1_280, 900).await;
    browser.open(&world.page("")).await;
    browser.click("#trust summary").await;
    browser.click("#pin-claimed").await;
    browser.see("#pinned").await;
    let record = format!("/v1/records/contract/{}", world.contract);
    for (index, (address, change, check)) in LIES.iter().enumerate() {
        let address = if *address == "?shown" {
            record.clone()
        } else {
            (*address).to_owned()
        };
        let exact = address == record;
        let tamper = Tamper {
            address,
            exact,
            change: Box::new(*change),
        };
        browser.tamper(Some(tamper)).await;
        // Another address, so that the page begins anew.
        browser
            .open(&world.page(&format!("?{index}#/record/contract/{}", world.contract)))
            .await;
        browser
            .until("document.querySelectorAll('#history li.version').length === 3")
            .await;
        let (verdict, text) = browser.verdict().await;
        assert_eq!(verdict, "refused", "lie {index}, {check}: {text}");
        assert!(
            text.contains(&format!("Refused: {check}.")),
            "lie {index}, {check}: {text}"
        );
        assert_eq!(browser.eval("document.querySelectorAll('li.verified').length").await, 0);
        browser.tamper(None).await;
        let (verdict, text) = browser.verdict().await;
        let shown = address_is_shown(&LIES[index]);
        assert_eq!(
            verdict,
            if shown { "refused" } else { "verified" },
            "after lie {index}: {text}"
        );
    }
    // Somebody who pinned another chain believes nothing of this one.
    browser
        .eval("localStorage.setItem('zos-explorer-genesis', 'a'.repeat(64))")
        .await;
    browser
        .open(&world.page(&format!("?other#/record/contract/{}", world.contract)))
        .await;
    browser.see("#trust [role=alert]").await;
    let (verdict, text) = browser.verdict().await;
    assert_eq!(verdict, "refused", "{text}");
    assert!(text.contains("wrong genesis"), "{text}");
    world.running.stop().await.unwrap();
}

/// Whether a lie is about what stays on the page, so that a true proof refuses it as well.
fn address_is_shown((address, _, _): &(&str, Change, &str)) -> bool {
    matches!(*address, "/history?" | "?shown")
}
