//! The real thing: sessions of the client protocol over pipes, two workers, and the memory broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use weir_channels::broker::{Answer, Broker, Limits, Memory, StreamOptions};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces, Permission};
use weir_channels::{ChannelMetrics, Channels, ClientOptions, Hubs, Policy, Shared};
use weir_core::admission::AdmissionLimits;
use weir_core::clock;
use weir_core::limits::{Limits as ConnectionLimits, Timeouts};
use weir_core::pipes::PipeEngine;
use weir_core::service::Service;
use weir_core::site::{Site, SiteWire};
use weir_core::transport::{PipePeer, Socket, pipe};
use weir_core::wire::lines::{EmptyLines, Options, UnfinishedLine};

use super::model::{KEPT, Rules, SUBSCRIPTIONS_MAX};
use super::{CHANNELS, CLIENTS};

/// Turns after which workers with nothing new to do must be idle.
const TURNS_MAX: usize = 1000;
/// Longer than a script moves time.
const LONG: Duration = Duration::from_secs(100_000);

pub(super) struct World {
    engine: PipeEngine,
    broker: Arc<Memory>,
    registry: Registry,
    /// Asks run on it; with a broker in place nobody asks.
    _runtime: Runtime,
    clients: [Option<Peer>; CLIENTS],
    now: Instant,
}

/// One client's end.
struct Peer {
    pipe: PipePeer,
    unread: Vec<u8>,
    heard: Vec<Value>,
    /// The code it was told to go with.
    end: Option<u64>,
}

impl World {
    pub(super) fn new(rules: &Rules) -> Self {
        let registry = Registry::new();
        let metrics = ChannelMetrics::register(&registry).expect("registered once");
        let namespaces = Namespaces::new(ChannelRules {
            without_namespace: options(rules),
            allow_anonymous_connect_without_token: true,
            ..ChannelRules::default()
        });
        let held = ClientOptions { channels_max: SUBSCRIPTIONS_MAX, ..ClientOptions::default() };
        let policy = Policy::new(namespaces.expect("good rules"), None, held, &metrics);
        let broker = Arc::new(Memory::new(Limits::default(), 7));
        let shared = Shared::new(Arc::clone(&broker) as Arc<dyn Broker>, policy, metrics, 7);
        let service = Arc::new(Channels::new("channels".to_owned(), Arc::clone(&shared)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("one thread");
        let now = clock::now();
        let admission = AdmissionLimits {
            connections_max: 2 * CLIENTS,
            per_address_max: None,
            per_second_max: None,
            per_listener_max: vec![None],
        };
        let engine = PipeEngine::new(vec![site(service)], 2, admission, runtime.handle(), now)
            .with_locals(&Hubs(shared));
        let clients = Default::default();
        Self { engine, broker, registry, _runtime: runtime, clients, now }
    }

    pub(super) fn is_there(&self, client: usize) -> bool {
        self.clients[client].is_some()
    }

    pub(super) fn open(&mut self, client: usize) {
        let (socket, pipe) = pipe(1 << 20);
        let (socket, address) = (Socket::Plain(socket), ([10, 0, 0, 1], 4242).into());
        let opened = self.engine.connect(socket, 0, address, Vec::new(), self.now);
        assert!(opened.is_ok(), "there is room");
        self.clients[client] =
            Some(Peer { pipe, unread: Vec::new(), heard: Vec::new(), end: None });
        self.settle();
    }

    /// The client is gone, without a word.
    pub(super) fn close(&mut self, client: usize) {
        self.clients[client] = None;
        self.settle();
    }

    /// Sends these lines at once.
    pub(super) fn say(&mut self, client: usize, lines: &[String]) {
        if let Some(peer) = &self.clients[client] {
            let bytes: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            assert_eq!(peer.pipe.send(bytes.as_bytes()), bytes.len(), "the pipe has room");
        }
        self.settle();
    }

    /// What a client was told since, but for pings and its end.
    pub(super) fn hear(&mut self, client: usize) -> Vec<Value> {
        self.listen();
        self.clients[client]
            .as_mut()
            .map(|peer| std::mem::take(&mut peer.heard))
            .unwrap_or_default()
    }

    pub(super) fn end_of(&self, client: usize) -> Option<u64> {
        self.clients[client].as_ref()?.end
    }

    /// Moves time by seconds.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.settle();
            self.listen();
        }
    }

    pub(super) fn remove_history(&mut self, channel: usize) {
        done(self.broker.remove_history(&format!("c{channel}"), self.now));
        self.settle();
    }

    /// That nobody is left anywhere.
    pub(super) fn assert_empty(&self) {
        for family in self.registry.gather() {
            if matches!(family.name(), "weir_channels_clients" | "weir_channels_subscriptions") {
                let left = |metric: &prometheus::proto::Metric| metric.get_gauge().get_value();
                let left: f64 = family.get_metric().iter().map(left).sum();
                assert_eq!(left, 0.0, "{}", family.name());
            }
        }
        for channel in 0..CHANNELS {
            let present = done(self.broker.presence(&format!("c{channel}"), self.now));
            assert!(present.is_empty(), "{present:?}");
        }
    }

    /// Every client reads what has come, and answers pings.
    fn listen(&mut self) {
        let mut pinged = false;
        for peer in self.clients.iter_mut().flatten() {
            pinged |= peer.listen();
        }
        if pinged {
            self.settle();
        }
    }

    /// Turns until there is nothing left to do at this instant.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..TURNS_MAX {
            let busy = self.engine.turn(self.now).expect("a poll of pipes does not fail");
            idle = if busy { 0 } else { idle + 1 };
            // One worker may have woken the other behind its turn.
            if idle == 2 {
                return;
            }
        }
        panic!("a worker spins");
    }
}

impl Peer {
    /// Whether it was pinged, and has answered.
    fn listen(&mut self) -> bool {
        loop {
            let bytes = self.pipe.receive(1 << 20);
            if bytes.is_empty() {
                break;
            }
            self.unread.extend(bytes);
        }
        let mut pinged = false;
        let whole = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.unread.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let said: Value = serde_json::from_slice(line).expect("a line is JSON");
            if said == json!({}) {
                pinged |= self.pipe.send(b"{}\n") > 0;
            } else if let Some(code) = said["push"]["disconnect"]["code"].as_u64() {
                self.end = Some(code);
            } else {
                self.heard.push(said);
            }
        }
        pinged
    }
}

fn options(rules: &Rules) -> ChannelOptions {
    let all = Permission { client: true, subscriber: true, anonymous: true };
    let history = StreamOptions { size: KEPT, ttl: LONG, meta_ttl: LONG };
    ChannelOptions {
        history: rules.history.then_some(history),
        force_positioning: rules.force_positioning,
        presence: rules.presence,
        join_leave: rules.join_leave,
        force_push_join_leave: rules.force_push_join_leave,
        subscribe_for_client: true,
        subscribe_for_anonymous: true,
        publish: Permission { client: !rules.quiet, ..all },
        presence_access: all,
        history_access: all,
        ..ChannelOptions::default()
    }
}

fn site(service: Arc<dyn Service>) -> Site {
    let (text, empty) = (true, EmptyLines::Deliver);
    Site {
        listener: "lines".into(),
        index: 0,
        cells: 0,
        wire: SiteWire::Lines(Options { text, empty, unfinished: UnfinishedLine::Drop }),
        service,
        limits: ConnectionLimits::default(),
        timeouts: Timeouts { idle: None, ping_interval: None, ..Timeouts::default() },
        heartbeat: None,
        farewell: None,
        unless_json: None,
    }
}

/// What a broker in place has answered.
fn done<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Now(result) => result.expect("nothing is refused"),
        Answer::Later(_) => panic!("a broker in place answers in place"),
    }
}
