//! The real weir as a child process: configured, started on free ports, watched, signalled.
//! The configuration is text, as a user writes it.

mod binary;
mod settings;

use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{self, Reply};
use crate::metrics::Metrics;
use crate::tools;
use crate::wait::{SOON, eventually, within};

pub use binary::{weir_command, weir_load_command};
pub use settings::Settings;

/// Longest wait for the process to end: a whole shutdown with the default stages.
const EXIT: Duration = Duration::from_secs(60);

/// A weir that will be started when awaited.
#[must_use]
#[derive(Clone, Debug)]
pub struct Start {
    settings: Settings,
    variables: Vec<(String, String)>,
    wait_until_ready: bool,
}

impl Start {
    /// Keys of `[limits]`.
    pub fn limits(self, keys: &str) -> Self {
        self.section("limits", keys)
    }

    /// Keys of `[timeouts]`.
    pub fn timeouts(self, keys: &str) -> Self {
        self.section("timeouts", keys)
    }

    /// Keys of `[shutdown]`.
    pub fn shutdown(self, keys: &str) -> Self {
        self.section("shutdown", keys)
    }

    /// Keys of any section.
    pub fn section(mut self, name: &str, keys: &str) -> Self {
        self.settings.section(name, keys);
        self
    }

    /// More keys of one of the listeners `lines`, `frames` and `http`.
    pub fn listener(mut self, name: &str, keys: &str) -> Self {
        self.settings.listener(name, keys);
        self
    }

    /// More keys of the listeners' route.
    pub fn route(mut self, keys: &str) -> Self {
        self.settings.route(keys);
        self
    }

    /// Whole tables, as they are: more listeners, routes, upstreams.
    pub fn tables(mut self, text: &str) -> Self {
        self.settings.tables(text);
        self
    }

    /// The listeners' route sends each message to this upstream instead of echoing it. `keys` are
    /// more keys of its `[[upstreams]]` table.
    pub fn answered_by(self, target: SocketAddr, keys: &str) -> Self {
        self.asking("/orders", &format!("targets = [\"http://{target}\"]\n{keys}"))
    }

    /// The listeners' route POSTs each message to `path` of an upstream instead of echoing it.
    /// `keys` are those of its `[[upstreams]]` table.
    pub fn asking(mut self, path: &str, keys: &str) -> Self {
        self.settings.asking(path, keys);
        self
    }

    /// The side port's address instead of a free loopback one.
    pub fn ops_address(mut self, address: &str) -> Self {
        self.settings.ops_address(address);
        self
    }

    /// A variable of the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does not wait for `/readyz`.
    pub fn without_waiting(mut self) -> Self {
        self.wait_until_ready = false;
        self
    }
}

impl IntoFuture for Start {
    type Output = Gateway;
    type IntoFuture = Pin<Box<dyn Future<Output = Gateway>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let variables: Vec<(&str, &str)> =
                self.variables.iter().map(|(name, value)| (&**name, &**value)).collect();
            let gateway = Gateway::run_with(&self.settings.to_toml(), &variables).await;
            if self.wait_until_ready {
                gateway.ready().await;
            }
            gateway
        })
    }
}

/// A running weir; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    pid: u32,
    config: PathBuf,
    log: watch::Receiver<Vec<String>>,
    readers: [JoinHandle<()>; 2],
}

impl Gateway {
    /// Begins a weir with listeners `lines`, `frames` (4-byte length) and `http` (`/ws` and
    /// `/echo`), all echoing, and with short shutdown stages.
    pub fn start() -> Start {
        Start { settings: Settings::default(), variables: Vec::new(), wait_until_ready: true }
    }

    /// Starts weir with this `weir.toml` and does not wait for anything.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    pub async fn run(config: &str) -> Self {
        Self::run_with(config, &[]).await
    }

    /// Starts weir with this `weir.toml` and these variables, and does not wait for anything.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    pub async fn run_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let path = config_file(config);
        let mut command = weir_command().await;
        command.envs(variables.iter().copied());
        command.arg("--config").arg(&path).arg("serve");
        Self::spawn(command, path)
    }

    /// Starts weir without a configuration, on the ports that are built in, and waits until it is
    /// ready.
    ///
    /// # Panics
    ///
    /// When it does not start: another weir may have the ports.
    pub async fn built_in() -> Self {
        let mut command = weir_command().await;
        // Nobody's weir.toml lies in a folder of our own.
        let folder = config_file("").with_extension("folder");
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        command.current_dir(&folder);
        let gateway = Self::spawn(command, folder);
        gateway.ready().await;
        gateway
    }

    /// Starts weir with the settings that are built in, as it prints them itself, but on free ports.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn built_in_on_free_ports() -> Self {
        let mut command = weir_command().await;
        command.arg("print-config");
        let printed = tools::run(command, "").await.succeeded();
        let elsewhere = |line: &str| match line.rsplit_once(':') {
            Some((address, _)) if line.starts_with("address = ") => format!("{address}:0\"\n"),
            _ => format!("{line}\n"),
        };
        let gateway = Self::run(&printed.lines().map(elsewhere).collect::<String>()).await;
        gateway.ready().await;
        gateway
    }

    fn spawn(mut command: Command, config: PathBuf) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().expect("weir starts");
        let pid = child.id().expect("a child that has not ended has an id");
        let (lines, log) = watch::channel(Vec::new());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers =
            [tokio::spawn(collect(stdout, lines.clone())), tokio::spawn(collect(stderr, lines))];
        Self { child, pid, config, log, readers }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The address that a listener bound, or the side port's for `ops`, from the log.
    ///
    /// # Panics
    ///
    /// When no such listener was logged.
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.bound(listener).unwrap_or_else(|| panic!("{listener} is not among the listening"))
    }

    fn bound(&self, listener: &str) -> Option<SocketAddr> {
        let log = self.log.borrow();
        let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|l| l["msg"] == "listening" && l["listener"] == listener)?;
        line["address"].as_str()?.parse().ok()
    }

    /// Waits until `/readyz` is 200.
    pub async fn ready(&self) {
        eventually("weir to be ready", async || {
            self.assert_alive();
            self.bound("ops")?;
            (self.ops("/readyz").await.status == 200).then_some(())
        })
        .await;
    }

    fn assert_alive(&self) {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let gone = state.map_or(true, |stat| stat.contains(") Z "));
        assert!(!gone, "weir ended at its start:\n{}", self.log.borrow().join("\n"));
    }

    /// A GET of the side port.
    pub async fn ops(&self, path: &str) -> Reply {
        http::get(self.address("ops"), path).await
    }

    /// A scrape.
    ///
    /// # Panics
    ///
    /// When `/metrics` is not 200.
    pub async fn metrics(&self) -> Metrics {
        let reply = self.ops("/metrics").await;
        assert_eq!(reply.status, 200, "/metrics: {}", reply.text());
        Metrics::parse(reply.text())
    }

    /// Scrapes until `holds`, and gives the page that did.
    ///
    /// # Panics
    ///
    /// When it does not hold in time; the message says `what` was waited for.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        eventually(what, async || Some(self.metrics().await).filter(|metrics| holds(metrics))).await
    }

    /// Waits until a listener has closed `count` connections for `reason`.
    pub async fn wait_for_closed(&self, listener: &str, reason: &str, count: u64) {
        let labels = [("listener", listener), ("reason", reason)];
        let name = "weir_connections_closed_total";
        let what = format!("{count} closed {labels:?}");
        self.wait_for(&what, |metrics| metrics.count(name, &labels) == count).await;
    }

    /// Waits until a listener has `count` open connections.
    pub async fn wait_for_open(&self, listener: &str, count: u64) {
        let (name, labels) = ("weir_connections_open", [("listener", listener)]);
        let what = format!("{count} open on {listener}");
        self.wait_for(&what, |metrics| metrics.count(name, &labels) == count).await;
    }

    /// Waits for a log line that `holds`, and gives the first. Lines that are not JSON are skipped.
    ///
    /// # Panics
    ///
    /// When none comes in time; the message says `what` was waited for.
    pub async fn logged(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut log = self.log.clone();
        let find = |lines: &Vec<String>| {
            let mut lines = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line| holds(line))
        };
        within(&format!("the log line: {what}"), SOON, async {
            loop {
                if let Some(line) = find(&log.borrow_and_update()) {
                    return line;
                }
                if log.changed().await.is_err() {
                    return find(&log.borrow()).expect("weir ended without the line");
                }
            }
        })
        .await
    }

    /// Writes the configuration file anew, changed; nothing reads it before a reload.
    ///
    /// # Panics
    ///
    /// When the change changes nothing, or the file cannot be written.
    #[track_caller]
    pub fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let before = std::fs::read_to_string(&self.config).expect("the file is there");
        let after = change(before.clone());
        assert_ne!(after, before, "the change changed nothing");
        std::fs::write(&self.config, after).expect("the temporary folder is writable");
    }

    /// Changes the configuration file and has weir read it again.
    ///
    /// # Panics
    ///
    /// When weir refuses it.
    pub async fn reload(&self, change: impl FnOnce(String) -> String) -> Value {
        self.rewrite(change);
        let reply = self.post_reload().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// Has weir read its configuration again.
    pub async fn post_reload(&self) -> Reply {
        http::post(self.address("ops"), "/reload", b"").await
    }

    /// Every line so far, of both standard output and standard error.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// When the process has ended already.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("weir is running");
    }

    /// Waits for the end of the process and gives its exit code; -1 when a signal ended it.
    /// All it wrote has been read then.
    ///
    /// # Panics
    ///
    /// When it does not end within a minute.
    pub async fn exit_code(&mut self) -> i32 {
        let status = within("weir to exit", EXIT, self.child.wait()).await.expect("a child");
        for reader in &mut self.readers {
            within("the end of weir's output", SOON, reader).await.expect("the reader ends");
        }
        status.code().unwrap_or(-1)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log.borrow();
            let start = log.len().saturating_sub(40);
            eprintln!("the last log lines of weir {}:\n{}", self.pid, log[start..].join("\n"));
        }
        // A file that stays behind in the temporary folder harms nobody.
        std::fs::remove_file(&self.config).ok();
    }
}

/// Writes a configuration where only this process' tests look.
///
/// # Panics
///
/// When the temporary folder cannot be written.
pub fn config_file(text: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("weir-tests-{}-{number}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("the temporary folder is writable");
    path
}

async fn collect(output: impl AsyncRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut reader = BufReader::new(output).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}
