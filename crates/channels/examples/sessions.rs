//! What a session costs when there are very many in one process: the real connections, outboxes and
//! hub, WebSocket frames, and in-memory pipes where sockets would be. Everybody subscribes to one
//! channel; then one publication goes to all of them, and what each was sent is compared byte by byte.
//!
//! `make sessions`, or with another number: `make sessions SESSIONS=100000`. It prints a table and
//! exits with 1 when one byte is wrong. The times in it are those of one thread that is also all the
//! clients, without a kernel between them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use prometheus::Registry;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;
use weir_channels::broker::{Answer, Broker as _, Limits, Memory, Publication, Publish};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces};
use weir_channels::{ChannelMetrics, Channels, ClientOptions, Hubs, Policy, Shared};
use weir_core::admission::AdmissionLimits;
use weir_core::clock;
use weir_core::limits::{Limits as ConnectionLimits, Timeouts};
use weir_core::pipes::PipeEngine;
use weir_core::service::MessageKind;
use weir_core::site::{Site, SiteWire};
use weir_core::transport::{PipePeer, PipeSocket, Socket, Transport as _, pipe};

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Sessions that come before the next look: fewer than wait for a worker at most.
const BATCH: usize = 1_000;
/// Room of a pipe each way.
const PIPE_BYTES: usize = 4_096;
/// What a client says first, in one frame.
const HELLO: &str = "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}";
/// After so many turns without work nothing is under way: a turn opens 64 connections of a batch, and
/// does not call those that still wait work.
const IDLE_TURNS: usize = 20;
const PAYLOAD_BYTES: usize = 128;

fn main() -> ExitCode {
    let sessions = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse());
    let Ok(sessions) = sessions else {
        eprintln!("the argument is a number of sessions");
        return ExitCode::from(2);
    };
    let before = resident();
    let pipes: Vec<_> = (0..sessions).map(|_| used_pipe()).collect();
    let piped = resident();
    let mut world = World::new(sessions);
    let (peers, connecting) = timed(|| world.connect(pipes));
    let connected = resident();
    let ((), publishing) = timed(|| world.publish());
    let wrong = told_wrong(&peers);
    let after = resident();

    let each = |bytes: usize| bytes as f64 / sessions as f64;
    println!("| {sessions} sessions of one channel | |\n|---|---|");
    println!("| a session, with its subscription | {:.0} B |", each(connected - piped));
    println!("| the same after a publication | {:.0} B |", each(after - piped));
    println!("| the pipe beside it, which is not weir's | {:.0} B |", each(piped - before));
    println!("| to connect and subscribe all | {connecting:.1} s |");
    println!("| from the publication to the last write | {publishing:.2} s |");
    println!("| told something else than the publication | {wrong} |");
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A pipe through which as much has gone as will: its buffers have their size.
fn used_pipe() -> (PipeSocket, PipePeer) {
    let (mut socket, peer) = pipe(PIPE_BYTES);
    let mut buffer = [0; PIPE_BYTES];
    peer.send(&masked(HELLO));
    let read = socket.try_read(&mut buffer).expect("what was sent is there");
    assert!(read > HELLO.len(), "a frame has a head");
    // More than the replies to it have.
    let replies = [std::io::IoSlice::new(&buffer[..400])];
    socket.try_write_vectored(&replies).expect("there is room");
    assert_eq!(peer.receive(PIPE_BYTES).len(), 400);
    (socket, peer)
}

/// The engine with channels, and what is around it.
struct World {
    engine: PipeEngine,
    memory: Arc<Memory>,
    runtime: Runtime,
    now: Instant,
}

impl World {
    fn new(sessions: usize) -> Self {
        let options = ChannelOptions {
            subscribe_for_client: true,
            subscribe_for_anonymous: true,
            ..ChannelOptions::default()
        };
        let rules = ChannelRules {
            without_namespace: options,
            allow_anonymous_connect_without_token: true,
            ..ChannelRules::default()
        };
        let metrics = ChannelMetrics::register(&Registry::new()).expect("registered once");
        let namespaces = Namespaces::new(rules).expect("good rules");
        let policy = Policy::new(namespaces, None, ClientOptions::default(), &metrics);
        let memory = Arc::new(Memory::new(Limits::default(), 1));
        let shared = Shared::new(memory.clone(), policy, metrics, 1);
        let site = Site {
            listener: "web".into(),
            index: 0,
            cells: 0,
            wire: SiteWire::WebSocket,
            service: Arc::new(Channels::new("channels".to_owned(), Arc::clone(&shared))),
            limits: ConnectionLimits::default(),
            timeouts: Timeouts { idle: None, ping_interval: None, ..Timeouts::default() },
            heartbeat: None,
            farewell: None,
            unless_json: None,
        };
        let admission = AdmissionLimits {
            connections_max: sessions,
            per_address_max: None,
            per_second_max: None,
            per_listener_max: vec![None],
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let now = clock::now();
        let engine = PipeEngine::new(vec![site], 1, admission, runtime.handle(), now)
            .with_locals(&Hubs(shared));
        Self { engine, memory, runtime, now }
    }

    /// Everybody comes, subscribes and hears that it has.
    fn connect(&mut self, pipes: Vec<(PipeSocket, PipePeer)>) -> Vec<PipePeer> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let hello = masked(HELLO);
        let mut peers = Vec::with_capacity(pipes.len());
        let mut pipes = pipes.into_iter().peekable();
        while pipes.peek().is_some() {
            let first = peers.len();
            for (socket, peer) in pipes.by_ref().take(BATCH) {
                let socket = Socket::Plain(socket);
                let conn = self.engine.connect(socket, 0, address, Vec::new(), self.now);
                conn.expect("as many as there are may come");
                peer.send(&hello);
                peers.push(peer);
            }
            self.settle();
            for peer in &peers[first..] {
                let replies = peer.receive(PIPE_BYTES);
                // The head of the frame is no text.
                let replies = String::from_utf8_lossy(&replies);
                assert!(replies.contains("\"subscribe\":{"), "{replies}");
            }
        }
        peers
    }

    /// A backend publishes, and everybody is told.
    fn publish(&mut self) {
        let publication = Publication::new(payload().as_bytes(), 0, self.now);
        let publish = Publish::default();
        let Answer::Now(published) = self.memory.publish("news", publication, publish, self.now)
        else {
            panic!("this broker asks nobody");
        };
        published.expect("there is room");
        self.settle();
    }

    /// Turns until nothing is left to do: a connection is opened in one turn, read in the next, and
    /// what is asked for comes back as mail.
    fn settle(&mut self) {
        let mut idle = 0;
        while idle < IDLE_TURNS {
            let busy = self.engine.turn(self.now).expect("pipes do not fail");
            idle = if busy { 0 } else { idle + 1 };
            self.runtime.block_on(tokio::task::yield_now());
        }
    }
}

/// The JSON string that is published.
fn payload() -> String {
    format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2))
}

/// How many were not told the publication and nothing else.
fn told_wrong(peers: &[PipePeer]) -> usize {
    let expected = format!(r#"{{"push":{{"channel":"news","pub":{{"data":{}}}}}}}"#, payload());
    let expected = SiteWire::WebSocket.frame(MessageKind::Text, expected.as_bytes());
    peers.iter().filter(|peer| peer.receive(PIPE_BYTES) != expected[..]).count()
}

/// What `act` gives, and the seconds that it takes.
fn timed<T>(act: impl FnOnce() -> T) -> (T, f64) {
    let begun = clock::now();
    let result = act();
    (result, clock::now().saturating_duration_since(begun).as_secs_f64())
}

/// A frame of a client (RFC 6455, section 5.2) with a mask of zeros.
fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 126);
    let length = length.expect("a short frame");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// Bytes of this process that are in memory (proc(5), `statm`, second field).
fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<usize>().ok());
    pages.expect("a number of pages") * PAGE
}
