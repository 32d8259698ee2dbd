//! A side port on loopback with providers that tests can move, and a client that speaks HTTP/1.1
//! over a plain socket, so that what is sent and what comes back are bytes.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::{Value, json};
use weir_ops::{
    ConnectionState, ConnectionsPage, ConnectionsQuery, ConnectionsView, Health, LiveConnection,
    LogControl, Ops, OpsHandle, OpsOptions, OpsState, Position, Reload, Reloaded,
};

/// The clock of tests.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A running side port. It stops when dropped.
pub(crate) struct Side {
    pub address: SocketAddr,
    pub health: Arc<Health>,
    pub filter: Arc<Filter>,
    pub drains: Arc<AtomicUsize>,
    pub handle: Option<OpsHandle>,
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop(Duration::from_secs(1));
        }
    }
}

/// A side port with the defaults.
pub(crate) fn start() -> Side {
    start_with(|_, _| {})
}

/// A side port on any free port of loopback, after `change`.
pub(crate) fn start_with(change: impl FnOnce(&mut OpsOptions, &mut OpsState)) -> Side {
    let health = Health::new(Duration::from_secs(10), now());
    let filter = Arc::new(Filter(Mutex::new("info".to_owned())));
    let drains = Arc::new(AtomicUsize::new(0));
    let counted = drains.clone();
    let mut options = OpsOptions::new(([127, 0, 0, 1], 0).into());
    let mut state = OpsState {
        registry: Registry::new(),
        exemplars: Arc::new(Vec::new),
        health: health.clone(),
        connections: Arc::new(View { delay: Duration::ZERO }),
        config: Arc::new(|| json!({ "ops": { "token": "[redacted]" } })),
        logs: filter.clone(),
        drain: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }),
        reload: Arc::new(Nothing),
        background: Vec::new(),
    };
    change(&mut options, &mut state);
    let bound = Ops::bind(options).expect("a free port");
    let address = ([127, 0, 0, 1], bound.local_addr().port()).into();
    let handle = bound.start(state).expect("a thread");
    Side { address, health, filter, drains, handle: Some(handle) }
}

/// A configuration that never changes.
struct Nothing;

impl Reload for Nothing {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, Vec<String>>> + Send + '_>> {
        Box::pin(async { Ok(Reloaded::default()) })
    }
}

/// A filter that is any text without "==".
pub(crate) struct Filter(Mutex<String>);

impl LogControl for Filter {
    fn filter(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }

    fn configured(&self) -> String {
        "info".to_owned()
    }

    fn set(&self, filter: &str) -> Result<(), String> {
        if filter.contains("==") {
            return Err("invalid filter directive".to_owned());
        }
        *self.0.lock().expect("no panic") = filter.to_owned();
        Ok(())
    }
}

/// Three connections with the ids 1 to 3, told after a while.
pub(crate) struct View {
    pub delay: Duration,
}

impl ConnectionsView for View {
    fn query(
        &self,
        query: ConnectionsQuery,
    ) -> Pin<Box<dyn Future<Output = ConnectionsPage> + Send + '_>> {
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            let after = query.after.map_or(0, |position| position.id);
            let live: Vec<LiveConnection> =
                (after + 1..=3).take(query.limit).map(connection).collect();
            let last = after + live.len() as u64;
            let next = (last < 3).then_some(Position { value: 0, id: last });
            ConnectionsPage { live, next, ..ConnectionsPage::default() }
        })
    }
}

fn connection(id: u64) -> LiveConnection {
    LiveConnection {
        id: format!("{id:016x}"),
        listener: "lines".to_owned(),
        route: "echo".to_owned(),
        state: ConnectionState::Open,
        peer: ([127, 0, 0, 1], 40_000).into(),
        age_seconds: 1.5,
        idle_seconds: 0.5,
        received: 1,
        sent: 1,
        received_bytes: 6,
        sent_bytes: 6,
        outbox_bytes: 0,
        in_flight: 0,
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let line = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(line)
    }
}

impl Side {
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "Host: localhost\r\n", b"")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("a head");
        stream.write_all(body).expect("a body");
        read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout");
        stream
    }
}

/// Reads to the end of the stream.
pub(crate) fn read(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer and an end");
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("an ASCII head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { status, head, body: bytes[end + 4..].to_vec() }
}

/// Waits until `done`, at most ten seconds.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = now() + Duration::from_secs(10);
    while !done() {
        assert!(now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}
