//! One connection served over an in-memory pipe, on a paused clock.

mod deadlines;
mod paths;
mod refusals;
mod served;
mod sockets;
mod stopping;
mod streams;
mod upgrades;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus::Registry;
use tokio::io::{DuplexStream, duplex};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::asks::Asks;
use crate::context::ConnId;
use crate::http::{HttpMetrics, HttpPath, HttpStop, HttpTraffic, Origins, PathKind};
use crate::limits::{Limits, Timeouts};
use crate::service::{
    Actions, Answer, Message, MessageKind, Opening, Response, Service, Session, Ticket,
};
use crate::wire::stream::Form;

/// Does what the message says.
struct Obedient;

impl Service for Obedient {
    fn route(&self) -> &str {
        "obedient"
    }

    fn open(&self, _opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(Obedient)
    }
}

impl Session for Obedient {
    fn on_message(
        &mut self,
        message: Message<'_>,
        _request: &RequestId,
        _now: std::time::Instant,
        actions: &mut Actions,
    ) {
        match message.payload {
            b"quiet" => {}
            b"panic" => panic!("as the test wants"),
            b"teapot" => actions.reply_with_status(418, MessageKind::Text, &[b"short and stout"]),
            b"big" => actions.reply(MessageKind::Binary, &[&[b'b'; 100_000]]),
            b"exit" => actions.close(CloseReason::Exit),
            b"ask" => actions.ask(
                Ticket(1),
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    Ok(Response { status: 201, body: Bytes::from_static(b"asked") })
                }),
            ),
            payload => actions.reply(message.kind, &[b"echo ", payload]),
        }
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        answer: Answer,
        _request: &RequestId,
        _now: std::time::Instant,
        actions: &mut Actions,
    ) {
        let response = answer.unwrap();
        actions.reply_with_status(response.status, MessageKind::Text, &[&response.body]);
    }
}

#[derive(Default)]
struct Tally {
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
}

impl HttpTraffic for Tally {
    fn bytes_received(&self, n: u64) {
        self.bytes_received.fetch_add(n, Relaxed);
    }
    fn bytes_sent(&self, n: u64) {
        self.bytes_sent.fetch_add(n, Relaxed);
    }
    fn message_received(&self, path: usize) {
        assert!([1, 4].contains(&path), "only a POST is a message here");
        self.received.fetch_add(1, Relaxed);
    }
    fn message_sent(&self, path: usize) {
        assert!([1, 4].contains(&path), "only a POST is a message here");
        self.sent.fetch_add(1, Relaxed);
    }
    fn message_answered(&self, path: usize, _: Duration) {
        assert!([1, 4].contains(&path), "only a POST is a message here");
        self.answered.fetch_add(1, Relaxed);
    }
}

/// A connection to a site with `/ws` and `/post`.
struct Client {
    io: DuplexStream,
    served: JoinHandle<HttpEnd<DuplexStream>>,
    stop: HttpStop,
    tally: Arc<Tally>,
    registry: Registry,
}

fn connect() -> Client {
    connect_through(256 * 1024)
}

/// Paths of every kind, with small limits.
fn site(registry: &Registry) -> HttpSite {
    let origins = Origins::new(["same-host", "https://app.example.com"]);
    let path = |path: &str, kind| HttpPath { path: path.into(), kind, service: Arc::new(Obedient) };
    let limits = Limits {
        message_bytes_max: 1000,
        header_bytes_max: 500,
        headers_max: 10,
        ..Limits::default()
    };
    HttpSite::new(
        "web".to_owned(),
        vec![
            path("/ws", PathKind::WebSocket { origins: origins.clone() }),
            path("/post", PathKind::Post { origins: Origins::default() }),
            path("/events", PathKind::Stream { form: Form::Sse, origins: origins.clone() }),
            path("/stream", PathKind::Stream { form: Form::HttpStream, origins: origins.clone() }),
            path("/emulation", PathKind::Post { origins }),
        ],
        limits,
        Timeouts::default(),
        &HttpMetrics::register(registry).unwrap(),
    )
}

fn stop() -> HttpStop {
    let force = CancellationToken::new();
    let drain = force.child_token();
    HttpStop { notice: drain.child_token(), drain, force, pressure: Arc::default() }
}

/// Through a pipe of `room` bytes each way.
fn connect_through(room: usize) -> Client {
    let registry = Registry::new();
    let site = site(&registry);
    connect_to(site, registry, room)
}

/// To this site, which counts in `registry`.
fn connect_to(site: HttpSite, registry: Registry, room: usize) -> Client {
    let stop = stop();
    let tally = Arc::new(Tally::default());
    let peer = HttpPeer {
        addr: ([127, 0, 0, 1], 9).into(),
        conn: ConnId::from_raw(0xc0),
        tls: None,
        accepted: Instant::now(),
        readmit: None,
        stop: stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::clone(&tally) as Arc<dyn HttpTraffic>,
    };
    let (io, socket) = duplex(room);
    let served = TaskTracker::new().spawn(serve(socket, CurrentSite::new(site), peer));
    Client { io, served, stop, tally, registry }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to the end of the connection.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.io.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// One response: its head in lower case and its body.
    async fn response(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// The next response has this status; yields its head and body.
    #[track_caller]
    fn expect(&mut self, status: u16) -> impl Future<Output = (String, String)> {
        let caller = std::panic::Location::caller();
        async move {
            let (head, body) = self.response().await;
            let start = format!("http/1.1 {status} ");
            assert!(head.starts_with(&start), "{caller}: {status} expected: {head}{body}");
            (head, body)
        }
    }

    /// Waits for the end; the peer closes too.
    async fn end(self) -> CloseReason {
        drop(self.io);
        match self.served.await.unwrap() {
            HttpEnd::Closed { reason } => reason,
            HttpEnd::Upgraded { .. } => panic!("upgraded"),
        }
    }

    fn refused(&self, status: u16) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "weir_http_refused_total").unwrap();
        let status = status.to_string();
        let is_it = |m: &&prometheus::proto::Metric| m.get_label()[1].value() == status;
        family.get_metric().iter().find(is_it).unwrap().get_counter().get_value()
    }
}

fn post(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /post?q HTTP/1.1\r\nHost: weir\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: weir\r\n{fields}\r\n")
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn handshake(fields: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    get("/ws", &format!("{upgrade}{fields}"))
}

fn good_handshake() -> String {
    handshake(&format!("{KEY}Sec-WebSocket-Version: 13\r\n"))
}

#[tokio::test(start_paused = true)]
async fn a_connection_being_served_stays_within_its_budget() {
    let client = connect();
    let (io, _peer) = duplex(1);
    let peer = HttpPeer {
        addr: ([127, 0, 0, 1], 9).into(),
        conn: ConnId::from_raw(1),
        tls: None,
        accepted: Instant::now(),
        readmit: None,
        stop: client.stop.clone(),
        asks: Asks::new(Handle::current(), TaskTracker::new()),
        traffic: Arc::clone(&client.tally) as Arc<dyn HttpTraffic>,
    };
    let metrics = HttpMetrics::register(&Registry::new()).unwrap();
    let site = HttpSite::new(
        "web".to_owned(),
        Vec::new(),
        Limits::default(),
        Timeouts::default(),
        &metrics,
    );
    let future = serve(io, CurrentSite::new(site), peer);
    // Hyper's buffers, about 8 KiB, come on top. An upgraded connection keeps nothing of it.
    assert!(size_of_val(&future) <= 4096, "{}", size_of_val(&future));
}
