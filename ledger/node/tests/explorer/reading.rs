//! Looking around, and verifying what is seen.

use ledger_node::HttpLimits;
use serde_json::json;

use crate::{
    chromium::Chromium,
    world::{FARM, World},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_clicks_from_live_blocks_to_a_verified_contract() {
    let world = World::start(HttpLimits::default()).await;
    let browser = Chromium::start().await;
    browser.size(1_280, 900).await;
    browser.open(&world.page("")).await;

    // Blocks come by themselves, and stay while they are paused.
    browser.see("#blocks li").await;
    let newest = "Number(document.querySelector('#blocks li').dataset.height)";
    let first = browser.eval(newest).await;
    browser.until(&format!("{newest} > {first} + 1")).await;
    browser.click("#pause").await;
    let paused = browser.eval(newest).await;
    let height = "Number(document.querySelector('#height').textContent.replaceAll(',', ''))";
    browser.until(&format!("{height} > {paused} + 1")).await;
    assert_eq!(browser.eval(newest).await, paused);

    let threads = browser
        .until("document.querySelector('[data-resource=cru]')?.textContent")
        .await;
    assert_eq!(threads, "Threads6 free of 8");
    let farm = browser.until("document.querySelector('#farms li')?.textContent").await;
    assert_eq!(farm, format!("{FARM} BE, 1 node"));
    assert_eq!(browser.eval("document.querySelectorAll('main img').length").await, 0);

    // From the farm on the map by its nodes to those that fit, to the contract.
    browser.click("#farms a").await;
    browser
        .until(&format!(
            "document.querySelector('h1')?.textContent.includes({})",
            json!(FARM)
        ))
        .await;
    browser.click("nav a[href='#/search']").await;
    browser.write("#filter-country", "BE").await;
    browser.write("#filter-cru", "6").await;
    browser.click("#filter-button").await;
    browser
        .until("location.hash.includes('cru=6') && document.querySelectorAll('#results li').length === 1")
        .await;
    browser.open(&world.page("#/search?kind=node&cru=7")).await;
    browser
        .until("document.querySelector('main [role=status]')?.textContent === 'Nothing fits.'")
        .await;
    browser.open(&world.page("#/search?kind=contract&state=active")).await;
    browser.click("#results a").await;
    browser
        .until("document.querySelectorAll('#history li.version').length === 3")
        .await;
    let states = "[...document.querySelectorAll('#history .badge')].map((badge) => badge.textContent)";
    assert_eq!(browser.eval(states).await, json!(["active", "deploying", "agreed"]));
    let linked = "[...document.querySelectorAll('#history li.version')].slice(0, -1).every((version) => \
                  version.querySelectorAll('code')[1].title === version.nextElementSibling.dataset.hash)";
    assert_eq!(browser.eval(linked).await, true);

    // Nothing is verified before somebody says what is trusted.
    assert_eq!(browser.eval("document.querySelector('#verify')").await, json!(null));
    browser.click("#pin-button").await;
    let (verdict, text) = browser.verdict().await;
    assert_eq!(verdict, "verified", "{text}");
    assert_eq!(
        browser
            .eval("document.querySelectorAll('#history li.verified').length")
            .await,
        3
    );
    assert_eq!(browser.text("#pinned").await, world.running.chain().to_string()[..8]);

    // Another version is told, shown and verified; the one before stays provable.
    let height = world.fund(3).await;
    browser.click("#newer:not([hidden]) button").await;
    browser
        .until("document.querySelectorAll('#history li.version').length === 4")
        .await;
    assert!(browser.text("#history li .changes").await.contains("funded: 2 → 3"));
    assert_eq!(browser.verdict().await.0, "verified");
    browser
        .open(&format!("{}?at={}", world.contract_page(), height - 1))
        .await;
    browser
        .until("document.querySelectorAll('#history li.version').length === 3")
        .await;
    let (verdict, text) = browser.verdict().await;
    assert_eq!(verdict, "verified", "{text}");
    assert!(text.contains(&format!("after block {}", height - 1)), "{text}");

    // By its height a block is found, with what it wrote.
    browser.write("#quick-text", &height.to_string()).await;
    browser.press("Enter").await;
    browser
        .until("document.querySelector('h1')?.textContent === 'Found'")
        .await;
    browser.click("main a[href^='#/block/']").await;
    browser.see("#records li").await;
    browser.see("#transactions li").await;
    assert_eq!(browser.complaints(), Vec::<String>::new());
    world.running.stop().await.unwrap();
}
