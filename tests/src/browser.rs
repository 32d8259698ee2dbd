//! A real browser, headless: opens a page and runs a script in it, over the browser's own
//! DevTools protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use crate::http;
use crate::pki::Pki;
use crate::tools;
use crate::wait::{eventually, within};
use crate::websocket::WebSocket;

/// A browser's first start on a busy machine of two cores takes its time.
const START: Duration = Duration::from_secs(60);

/// Chromium with one page; killed when dropped.
#[derive(Debug)]
pub struct Browser {
    /// Held for its end: killed when dropped.
    _child: Child,
    /// Held open, or the browser dies of a broken pipe.
    _stderr: BufReader<ChildStderr>,
    profile: PathBuf,
    page: WebSocket,
    calls: u64,
    /// What it told of without being asked, of a page that is watched.
    events: Vec<Value>,
}

/// More than any page here causes.
const EVENTS_MAX: usize = 100_000;

impl Browser {
    /// Starts Chromium and opens `url`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn open(url: &str) -> Self {
        Self::start(&profile(), url, false).await
    }

    /// Starts Chromium and opens `url`, and takes note of everything that the page asks for and of every
    /// error: [`Browser::requests`], [`Browser::errors`].
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn open_watched(url: &str) -> Self {
        Self::start(&profile(), url, true).await
    }

    /// Starts a Chromium that trusts this authority as its user has told it to, and opens `url`.
    /// The hosts of `.example` are this one.
    ///
    /// # Panics
    ///
    /// When it does not start, or does not find the page to be who it should be.
    pub async fn open_trusting(pki: &Pki, url: &str) -> Self {
        let profile = profile();
        let store = profile.join(".pki/nssdb");
        std::fs::create_dir_all(&store).expect("the temporary folder is writable");
        let (store, ca) = (store.display(), pki.ca());
        let trust = format!(
            "certutil -d sql:{store} -N --empty-password && \
             certutil -d sql:{store} -A -n tests -t C,, -i {}",
            ca.display()
        );
        tools::shell(&trust, "").await.succeeded();
        Self::start(&profile, url, false).await
    }

    async fn start(profile: &Path, url: &str, is_watched: bool) -> Self {
        let mut command = Command::new("chromium");
        command
            .args(["--headless=new", "--remote-debugging-port=0", "--disable-gpu"])
            // The sandbox refuses to run as root, which CI is; the page is our own.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"])
            .arg("--host-resolver-rules=MAP *.example 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank");
        // Where it looks for the authorities that its user trusts.
        command.env("HOME", profile);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("chromium is installed");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let listening = devtools_address(&mut stderr);
        let address = within("chromium's DevTools", START, listening).await;
        let page = WebSocket::connect_to(address, &page_path(address).await, "").await;
        let profile = profile.to_owned();
        let (calls, events) = (0, Vec::new());
        let mut browser = Self { _child: child, _stderr: stderr, profile, page, calls, events };
        if is_watched {
            for domain in ["Network", "Runtime", "Log"] {
                browser.call(&format!("{domain}.enable"), json!({})).await;
            }
        }
        browser.go(url).await;
        browser
    }

    /// Opens another page in place of this one.
    ///
    /// # Panics
    ///
    /// When it is not there in time.
    pub async fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        let origin = eventually("the page", async || {
            let origin = self.run("location.href").await;
            origin.as_str().is_some_and(|href| href.starts_with(url)).then_some(origin)
        });
        origin.await;
    }

    /// Waits until a condition holds in the page; it may be read while the page is still loading.
    ///
    /// # Panics
    ///
    /// When it does not hold in time; the message says `what` was waited for.
    pub async fn until(&mut self, what: &str, condition: &str) {
        let condition =
            format!("(() => {{ try {{ return {condition} }} catch {{ return null }} }})()");
        eventually(what, async || (self.run(&condition).await == true).then_some(())).await;
    }

    /// Takes the network away from the page, or gives it back.
    ///
    /// # Panics
    ///
    /// When the browser does not.
    pub async fn set_offline(&mut self, is_offline: bool) {
        let unlimited = -1;
        let conditions = json!({
            "offline": is_offline, "latency": 0,
            "downloadThroughput": unlimited, "uploadThroughput": unlimited,
        });
        self.call("Network.emulateNetworkConditions", conditions).await;
    }

    /// Pretends to prefer light or dark pages, and to have a window of this width.
    ///
    /// # Panics
    ///
    /// When the browser does not.
    pub async fn look(&mut self, scheme: &str, width: u32) {
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": feature })).await;
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Every URL that the page has asked for so far, those of WebSockets too. Only of a watched one.
    pub async fn requests(&mut self) -> Vec<String> {
        let plain = self.told("Network.requestWillBeSent", "/request/url").await;
        [plain, self.told("Network.webSocketCreated", "/url").await].concat()
    }

    /// Every error so far: of scripts, and what the browser itself writes into the console. Only of a
    /// watched page.
    pub async fn errors(&mut self) -> Vec<String> {
        let thrown = self.told("Runtime.exceptionThrown", "/exceptionDetails").await;
        let logged =
            self.events_of("Log.entryAdded").filter(|about| about["entry"]["level"] == "error");
        let logged: Vec<String> = logged.map(|about| about["entry"].to_string()).collect();
        let said =
            self.events_of("Runtime.consoleAPICalled").filter(|about| about["type"] == "error");
        let said: Vec<String> = said.map(|about| about["args"].to_string()).collect();
        [thrown, logged, said].concat()
    }

    /// One value of each event of this name that has come, as text.
    async fn told(&mut self, name: &str, pointer: &str) -> Vec<String> {
        // What came before the answer has been read with it.
        self.run("0").await;
        let values = self.events_of(name).filter_map(|about| about.pointer(pointer));
        values
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect()
    }

    fn events_of(&self, name: &str) -> impl Iterator<Item = &Value> {
        let events = self.events.iter().filter(move |event| event["method"] == name);
        events.map(|event| &event["params"])
    }

    /// Runs a script in the page, awaits what it gives, and returns that.
    ///
    /// # Panics
    ///
    /// When the script throws.
    pub async fn run(&mut self, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters).await;
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "the script threw: {thrown}");
        answer["result"]["value"].clone()
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let call = json!({ "id": self.calls, "method": method, "params": parameters });
        self.page.say(&call.to_string()).await;
        loop {
            let text = self.page.hear().await;
            let mut message: Value = serde_json::from_str(&text).expect("DevTools speaks JSON");
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            assert!(self.events.len() < EVENTS_MAX, "the page never rests");
            self.events.push(message);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser may still be writing; what stays behind lies in the temporary folder.
        std::fs::remove_dir_all(&self.profile).ok();
    }
}

/// A folder for one browser alone.
fn profile() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("weir-tests-chromium-{}-{number}", std::process::id()))
}

/// Reads `DevTools listening on ws://127.0.0.1:PORT/...`.
async fn devtools_address(stderr: &mut BufReader<ChildStderr>) -> SocketAddr {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        let count = stderr.read_line(&mut line).await.expect("a pipe");
        assert!(count > 0, "chromium ended: {said}");
        if let Some(url) = line.trim().strip_prefix("DevTools listening on ws://") {
            let address = url.split('/').next().expect("an address");
            return address.parse().expect("an address with a port");
        }
        said.push_str(&line);
    }
}

/// The path of the one page's own WebSocket.
async fn page_path(address: SocketAddr) -> String {
    let pages = eventually("chromium's page", async || {
        let pages = http::get(address, "/json/list").await.json();
        let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?;
        page["webSocketDebuggerUrl"].as_str().map(str::to_owned)
    });
    let url = pages.await;
    let start = url.find("/devtools/").expect("a path");
    url[start..].to_owned()
}
