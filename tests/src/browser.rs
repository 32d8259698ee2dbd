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
}

impl Browser {
    /// Starts Chromium and opens `url`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn open(url: &str) -> Self {
        Self::start(&profile(), url).await
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
        Self::start(&profile, url).await
    }

    async fn start(profile: &Path, url: &str) -> Self {
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
        let mut browser = Self { _child: child, _stderr: stderr, profile, page, calls: 0 };
        browser.call("Page.navigate", json!({ "url": url })).await;
        let origin = eventually("the page", async || {
            let origin = browser.run("location.href").await;
            origin.as_str().is_some_and(|href| href.starts_with(url)).then_some(origin)
        });
        origin.await;
        browser
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
