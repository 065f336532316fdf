//! Small screens, the dark, and keyboards.

use crate::{
    chromium::Chromium,
    world::{World, eager},
};

/// Contrast of texts with what they stand on, by WCAG 2.2: those that are below 4.5 to 1.
const FAINT: &str = "(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((part) => part / 255).map((part) =>
      part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = [...document.body.querySelectorAll('*')].filter((element) => element.checkVisibility() &&
    !(element instanceof SVGElement) && [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const faint = texts.map((element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 120)];
  });
  return texts.length < 10 ? ['too few texts'] : faint.filter(([ratio]) => ratio < 4.5);
})()";

/// How far the page is wider than the window, and what sticks out.
const OVERFLOW: &str = "(() => {
  const wide = document.documentElement.clientWidth;
  const out = [...document.body.querySelectorAll('*')].filter((element) => element.checkVisibility() &&
    !element.closest('.hidden, svg') && element.getBoundingClientRect().right > wide + 0.5);
  return [document.documentElement.scrollWidth - wide, out.map((element) => element.outerHTML.slice(0, 120))];
})()";

/// What has the focus: its name, and whether that is seen.
const FOCUSED: &str = "(() => {
  const at = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(at);
  const name = at.id || at.textContent.trim();
  return [name, at.matches(':focus-visible') && outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2];
})()";

/// Controls that say nothing to whoever does not see them.
const NAMELESS: &str = "[...document.querySelectorAll('a[href], button, input, select, svg[role=img]')].filter((element) => \
    element.checkVisibility() && !element.closest('svg a') && !(element.labels?.length || element.getAttribute('aria-label') || \
    element.textContent.trim())).map((element) => element.outerHTML)";

#[tokio::test(flavor = "multi_thread")]
async fn every_view_fits_a_phone_and_is_read_in_the_dark_and_in_the_light() {
    let world = World::start(eager()).await;
    let browser = Chromium::start().await;
    let (contract, farm) = (world.contract, world.farm);
    let views = [
        (String::new(), "#farms li"),
        ("#/search?kind=node".to_owned(), "#results li"),
        (format!("#/search?q={contract}"), "#results li"),
        ("#/block/1".to_owned(), "#records"),
        (format!("#/record/contract/{contract}"), "#history li"),
        (format!("#/record/farm/{farm}"), "#history li"),
        ("#/record/planet/0".to_owned(), "main [role=alert]"),
    ];
    for (scheme, width) in [("light", 320), ("dark", 390), ("dark", 1_280)] {
        browser.size(width, 800).await;
        browser.prefer(scheme).await;
        for (index, (view, there)) in views.iter().enumerate() {
            browser
                .open(&world.page(&format!("?{scheme}{width}{index}{view}")))
                .await;
            browser.see(there).await;
            browser.see("#trust > *").await;
            let overflow = browser.eval(OVERFLOW).await;
            assert_eq!(overflow, serde_json::json!([0, []]), "{view} at {width}");
            let faint = browser.eval(FAINT).await;
            assert_eq!(faint, serde_json::json!([]), "{view}, {scheme}");
            let nameless = browser.eval(NAMELESS).await;
            assert_eq!(nameless, serde_json::json!([]), "{view}");
        }
        let motion = "getComputedStyle(document.body).animationName + document.getAnimations().length";
        assert_eq!(browser.eval(motion).await, "none0");
    }
    world.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyboard_alone_reaches_the_verdict() {
    let world = World::start(eager()).await;
    let browser = Chromium::start().await;
    browser.size(1_280, 900).await;
    browser.open(&world.contract_page()).await;
    browser.see("#pin-button").await;
    let reach = async |wanted: &str| {
        let mut seen = vec![];
        while seen.last().map(String::as_str) != Some(wanted) {
            browser.press("Tab").await;
            let focused = browser.eval(FOCUSED).await;
            let name = focused[0].as_str().unwrap().to_owned();
            assert_eq!(focused[1], true, "the focus on {name} is not seen");
            seen.push(name);
            assert!(seen.len() < 40, "{wanted} is not reached: {seen:?}");
        }
        seen
    };
    let seen = reach("skip").await;
    assert_eq!(seen, ["skip"], "the first of all skips to the content");
    browser.press("Enter").await;
    assert_eq!(browser.eval("document.activeElement.id").await, "main");
    let seen = reach("pin-button").await;
    assert!(
        !seen.iter().any(|name| name == "quick-text"),
        "what stands above is skipped: {seen:?}"
    );
    browser.press("Enter").await;
    browser.see("#verify").await;
    assert_eq!(
        browser.eval("document.activeElement.id").await,
        "verify",
        "the focus is not lost"
    );
    browser.press("Enter").await;
    let (verdict, text) = browser.read_verdict().await;
    assert_eq!(verdict, "verified", "{text}");
    world.running.stop().await.unwrap();
}
