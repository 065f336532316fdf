//! What a reader does with a page: looks, clicks, types, waits until something is there.

use serde_json::{Value, json};

use crate::chromium::Chromium;

/// Resolves when an expression holds, looking again after each change of the document.
const UNTIL: &str = "new Promise((done) => {
  const look = () => { let value; try { value = (EXPRESSION); } catch { value = null; } if (value) done(value); return value; };
  if (look()) return;
  const observer = new MutationObserver(() => look() && observer.disconnect());
  observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
})";

/// Most clicks on something that moves away.
const CLICKS: usize = 10;
/// Where the middle of an element is, once it is in sight and nothing covers it; also has it say that it was clicked.
const MIDDLE: &str = "(() => {
  const element = document.querySelector(SELECTOR);
  window.clicked = false;
  element.addEventListener('click', () => { window.clicked = true; }, { capture: true, once: true });
  element.scrollIntoView({ block: 'center', behavior: 'instant' });
  const { x, y, width, height } = element.getBoundingClientRect();
  const at = [x + width / 2, y + height / 2];
  const top = document.elementFromPoint(...at);
  return element.contains(top) || top?.contains(element) ? at : `covered by ${top?.outerHTML}`;
})()";

impl Chromium {
    /// Opens an address.
    pub(crate) async fn open(&self, address: &str) {
        let opened = self.call("Page.navigate", json!({"url": address})).await;
        assert!(opened["errorText"].is_null(), "{address}: {opened}");
    }

    /// The value of an expression, also of one that is a promise.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", asked).await;
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression holds; gives its value.
    pub(crate) async fn until(&self, expression: &str) -> Value {
        self.eval(&UNTIL.replace("EXPRESSION", expression)).await
    }

    /// Waits until an element is there.
    pub(crate) async fn see(&self, selector: &str) {
        self.until(&format!("document.querySelector({}) !== null", json!(selector)))
            .await;
    }

    /// The text of an element.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let text = self
            .eval(&format!("document.querySelector({}).textContent", json!(selector)))
            .await;
        text.as_str().unwrap().to_owned()
    }

    /// Clicks on an element with the mouse, once it is there; again where the page grew and moved it meanwhile.
    pub(crate) async fn click(&self, selector: &str) {
        for _ in 0..CLICKS {
            self.see(selector).await;
            let middle = self
                .eval(&MIDDLE.replace("SELECTOR", &json!(selector).to_string()))
                .await;
            assert!(middle.is_array(), "{selector}: {middle}");
            for kind in ["mousePressed", "mouseReleased"] {
                let event = json!({"type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1});
                self.call("Input.dispatchMouseEvent", event).await;
            }
            if self.eval("window.clicked").await == true {
                return;
            }
        }
        panic!("{selector} is not hit");
    }

    /// Types into an element.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        self.click(selector).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses a key: Tab or Enter.
    pub(crate) async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            other => panic!("no key {other}"),
        };
        let event = |kind: &str, text: &str| json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
        self.call("Input.dispatchKeyEvent", event("keyDown", text)).await;
        self.call("Input.dispatchKeyEvent", event("keyUp", "")).await;
    }

    /// Presses the button that verifies, and gives the verdict with its text.
    pub(crate) async fn verdict(&self) -> (String, String) {
        self.click("#verify").await;
        self.read_verdict().await
    }

    /// Waits for the verdict.
    pub(crate) async fn read_verdict(&self) -> (String, String) {
        let ended = "['verified', 'refused', 'failed'].includes(document.querySelector('#verdict').dataset.verdict) && \
                     document.querySelector('#verdict')";
        let verdict = self
            .until(&format!("({ended}) && [{ended}.dataset.verdict, {ended}.textContent]"))
            .await;
        let part = |index: usize| verdict[index].as_str().unwrap().to_owned();
        (part(0), part(1))
    }

    /// Takes the size of a phone, or of a desk.
    pub(crate) async fn size(&self, width: u32, height: u32) {
        let phone = width < 600;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone});
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Asks for a colour scheme, and for no motion.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }
}
