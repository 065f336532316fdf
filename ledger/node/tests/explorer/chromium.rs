//! A headless Chromium, driven by the Chrome DevTools Protocol over its pipe: JSON with a zero byte after each message.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Longest wait for anything here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "/usr/bin/chromium";
/// The browser reads from 3 and writes to 4; the shell puts this side's pipes there.
const START: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// Changes the body of an answer.
pub(crate) struct Tamper {
    /// What stands in its address.
    pub(crate) address: String,
    /// Whether the address ends with that.
    pub(crate) exact: bool,
    pub(crate) change: Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>,
}

/// A browser with one page.
pub(crate) struct Chromium {
    _child: Child,
    _profile: tempfile::TempDir,
    link: Arc<Link>,
}

/// The pipe.
struct Link {
    outbox: mpsc::Sender<Value>,
    next: AtomicU64,
    session: Mutex<Option<String>>,
    calls: Mutex<BTreeMap<u64, oneshot::Sender<Value>>>,
    complaints: Mutex<Vec<String>>,
    tamper: Mutex<Option<Arc<Tamper>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Chromium {
    /// Starts the browser.
    pub(crate) async fn start() -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: run `cargo xtask setup`"
        );
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", START, PROGRAM])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-pipe",
                "--disable-gpu",
            ])
            .args(["--disable-dev-shm-usage", "--no-first-run", "--disable-extensions"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (outbox, sent) = mpsc::channel(64);
        let link = Arc::new(Link {
            outbox,
            next: AtomicU64::new(1),
            session: Mutex::default(),
            calls: Mutex::default(),
            complaints: Mutex::default(),
            tamper: Mutex::default(),
        });
        tokio::spawn(write(child.stdin.take().unwrap(), sent));
        tokio::spawn(read(child.stdout.take().unwrap(), Arc::clone(&link)));
        let browser = Self {
            _child: child,
            _profile: profile,
            link,
        };
        browser.attach().await;
        browser
    }

    async fn attach(&self) {
        let target = self.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call("Target.attachToTarget", attach).await;
        *lock(&self.link.session) = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), json!({})).await;
        }
    }

    /// A command and its result.
    pub(crate) async fn call(&self, method: &str, parameters: Value) -> Value {
        self.link.call(method, parameters).await
    }

    /// What scripts threw and the browser refused since the last time that this was asked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.link.complaints))
    }

    /// From now on changes an answer, or none.
    pub(crate) async fn tamper(&self, tamper: Option<Tamper>) {
        let patterns = tamper.iter().map(|tamper| {
            let end = if tamper.exact { "" } else { "*" };
            let address = tamper.address.replace('?', "\\?");
            json!({"urlPattern": format!("*{address}{end}"), "requestStage": "Response"})
        });
        let patterns: Vec<Value> = patterns.collect();
        self.call("Fetch.disable", json!({})).await;
        let on = !patterns.is_empty();
        *lock(&self.link.tamper) = tamper.map(Arc::new);
        if on {
            self.call("Fetch.enable", json!({"patterns": patterns})).await;
        }
    }
}

impl Link {
    async fn call(&self, method: &str, parameters: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.calls).insert(id, answer);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &*lock(&self.session) {
            message["sessionId"] = session.as_str().into();
        }
        self.outbox.send(message).await.unwrap();
        let answer = timeout(PATIENCE, answered).await;
        let answer = answer.unwrap_or_else(|_| panic!("{method} {parameters} has no answer"));
        let mut answer = answer.unwrap_or_else(|_| panic!("the browser has ended: {method}"));
        assert!(answer["error"].is_null(), "{method} {parameters}: {}", answer["error"]);
        answer["result"].take()
    }

    fn take(self: &Arc<Self>, mut message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(call) = lock(&self.calls).remove(&id) {
                // Whoever asked may have given up.
                let _ = call.send(message);
            }
            return;
        }
        let event = message["params"].take();
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => lock(&self.complaints).push(event["exceptionDetails"].to_string()),
            Some("Log.entryAdded") => lock(&self.complaints).push(event["entry"].to_string()),
            Some("Fetch.requestPaused") => {
                tokio::spawn(Arc::clone(self).answer(event));
            }
            _ => {}
        }
    }

    /// Answers a request that waits, with what the tamperer makes of the true answer.
    async fn answer(self: Arc<Self>, event: Value) {
        let request = &event["requestId"];
        let tamper = lock(&self.tamper).clone();
        let Some(tamper) = tamper else {
            self.call("Fetch.continueRequest", json!({"requestId": request})).await;
            return;
        };
        let body = self.call("Fetch.getResponseBody", json!({"requestId": request})).await;
        let text = body["body"].as_str().unwrap();
        let bytes = match body["base64Encoded"].as_bool() {
            Some(true) => data_encoding::BASE64.decode(text.as_bytes()).unwrap(),
            _ => text.as_bytes().to_vec(),
        };
        let altered = data_encoding::BASE64.encode(&(tamper.change)(bytes));
        let status = &event["responseStatusCode"];
        let fulfil = json!({"requestId": request, "responseCode": status, "body": altered});
        self.call("Fetch.fulfillRequest", fulfil).await;
    }
}

async fn write(mut pipe: ChildStdin, mut sent: mpsc::Receiver<Value>) {
    while let Some(message) = sent.recv().await {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        if pipe.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read(pipe: ChildStdout, link: Arc<Link>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut bytes = Vec::new();
        match pipe.read_until(0, &mut bytes).await {
            Ok(length) if length > 0 => {}
            _ => break,
        }
        bytes.pop();
        link.take(serde_json::from_slice(&bytes).unwrap());
    }
    // Nobody is answered any more.
    lock(&link.calls).clear();
}
