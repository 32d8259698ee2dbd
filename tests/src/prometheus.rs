//! Debian's Prometheus, which scrapes weir and evaluates our rules as one in production would.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::http;
use crate::tools::repository;
use crate::wait::eventually;

/// A running Prometheus with a job `weir`; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts one that scrapes `targets` and evaluates `dashboards/*.yml`, both twice a second.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start(targets: &[SocketAddr]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-tests-prometheus-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("a bound socket");
        drop(free);
        std::fs::write(folder.join("prometheus.yml"), configuration()).expect("writable");
        let mut command = Command::new("prometheus");
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.args(["--enable-feature=exemplar-storage", "--log.level=error"]);
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("prometheus is installed");
        let prometheus = Self { child, address, folder };
        prometheus.scrape(targets);
        eventually("Prometheus to be ready", async || {
            tokio::net::TcpStream::connect(address).await.ok()?;
            (http::get(address, "/-/ready").await.status == 200).then_some(())
        })
        .await;
        prometheus
    }

    /// Scrapes these targets from now on.
    ///
    /// # Panics
    ///
    /// When its folder cannot be written.
    pub fn scrape(&self, targets: &[SocketAddr]) {
        let targets = targets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let list = json!([{ "targets": targets }]).to_string();
        // Moved into place: half a file would be a fault in it.
        let (new, file) = (self.folder.join("targets.new"), self.folder.join("targets.json"));
        std::fs::write(&new, list).expect("the folder is ours");
        std::fs::rename(new, file).expect("the folder is ours");
    }

    /// The result of an instant query: a list of series, each with a value.
    ///
    /// # Panics
    ///
    /// When Prometheus does not take the expression.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/query?query={}", escaped(expression))).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The answer of its API to a GET.
    ///
    /// # Panics
    ///
    /// When the answer is not JSON.
    pub async fn get(&self, path: &str) -> Value {
        http::get(self.address, path).await.json()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It goes on writing until it is dead; what stays in the temporary folder harms nobody.
        self.child.start_kill().ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn configuration() -> String {
    let rules = repository().join("dashboards");
    let rules = rules.display();
    format!(
        "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
         rule_files: [\"{rules}/recording.yml\", \"{rules}/alerts.yml\"]\n\
         scrape_configs:\n\
         - job_name: weir\n\
         \x20 file_sd_configs: [{{ files: [targets.json], refresh_interval: 1s }}]\n"
    )
}

/// A text as a part of a query string.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
