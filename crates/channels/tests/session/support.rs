//! The engine with channels over in-memory pipes, and clients that speak JSON lines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use serde_json::Value;
use tokio::runtime::Runtime;
use weir_channels::broker::{Broker, Limits, Memory, StreamOptions};
use weir_channels::hub::Uid;
use weir_channels::hub::orders::{ForClient, NewSubscription, Order, Who};
use weir_channels::namespace::{ChannelOptions, ChannelRules, Namespaces, Overrides, Permission};
use weir_channels::{ChannelMetrics, Channels, ClientOptions, Hubs, Policy, Shared};
use weir_core::admission::AdmissionLimits;
use weir_core::clock;
use weir_core::limits::{Limits as ConnectionLimits, Timeouts};
use weir_core::pipes::PipeEngine;
use weir_core::service::Service;
use weir_core::site::{Site, SiteWire};
use weir_core::transport::{PipePeer, Socket, pipe};
use weir_core::wire::length::Prefix;
use weir_core::wire::lines::{EmptyLines, Options, UnfinishedLine};

/// Makes routes of the channels, each with its wire.
pub(crate) type MakeRoutes<'r> =
    dyn Fn(&Arc<Shared>, &Registry) -> Vec<(SiteWire, Arc<dyn Service>)> + 'r;

/// The engine, its time, and what counts.
pub(crate) struct World {
    pub(crate) engine: PipeEngine,
    pub(crate) shared: Arc<Shared>,
    pub(crate) now: Instant,
    pub(crate) registry: Registry,
    pub(crate) runtime: Runtime,
    pub(crate) service: Arc<Channels>,
}

/// A history of `size` publications.
pub(crate) fn history(size: usize) -> Option<StreamOptions> {
    let (ttl, meta_ttl) = (Duration::from_secs(60), Duration::from_secs(600));
    Some(StreamOptions { size, ttl, meta_ttl })
}

/// Options under which everybody may do everything that the options know.
pub(crate) fn open() -> ChannelOptions {
    let all = Permission { client: true, subscriber: true, anonymous: true };
    ChannelOptions {
        subscribe_for_client: true,
        subscribe_for_anonymous: true,
        publish: all,
        presence_access: all,
        history_access: all,
        ..ChannelOptions::default()
    }
}

impl World {
    /// Channels without a namespace have these options; nobody needs a token.
    pub(crate) fn new(options: ChannelOptions) -> Self {
        Self::with(options, ConnectionLimits::default(), 1)
    }

    pub(crate) fn with(options: ChannelOptions, limits: ConnectionLimits, workers: usize) -> Self {
        Self::on(Arc::new(Memory::new(Limits::default(), 7)), options, limits, workers)
    }

    pub(crate) fn on(
        broker: Arc<dyn Broker>,
        options: ChannelOptions,
        limits: ConnectionLimits,
        workers: usize,
    ) -> Self {
        let (text, empty) = (true, EmptyLines::Deliver);
        let lines = Options { text, empty, unfinished: UnfinishedLine::Drop };
        Self::over(SiteWire::Lines(lines), broker, options, limits, workers)
    }

    /// Over this wire.
    pub(crate) fn over(
        wire: SiteWire,
        broker: Arc<dyn Broker>,
        options: ChannelOptions,
        limits: ConnectionLimits,
        workers: usize,
    ) -> Self {
        let rules = ChannelRules {
            without_namespace: options,
            allow_anonymous_connect_without_token: true,
            ..ChannelRules::default()
        };
        Self::with_routes(wire, broker, rules, limits, workers, &|_, _| Vec::new())
    }

    /// Over this wire, with more wires whose routes are made of the same channels.
    pub(crate) fn with_routes(
        wire: SiteWire,
        broker: Arc<dyn Broker>,
        rules: ChannelRules,
        limits: ConnectionLimits,
        workers: usize,
        routes: &MakeRoutes<'_>,
    ) -> Self {
        let registry = Registry::new();
        let metrics = ChannelMetrics::register(&registry).expect("registered once");
        let namespaces = Namespaces::new(rules).expect("good rules");
        let policy = Policy::new(namespaces, None, ClientOptions::default(), &metrics);
        let shared = Shared::new(broker, policy, metrics, 7);
        let service = Arc::new(Channels::new("channels".to_owned(), Arc::clone(&shared)));
        let mut wires = vec![(wire, Arc::clone(&service) as Arc<dyn Service>)];
        wires.extend(routes(&shared, &registry));
        // As a listener of lines has it: who does not begin with JSON goes on as the last site.
        let protobuf = SiteWire::Length { prefix: Prefix::Varint, text: false };
        let other = (wires.len() as u16, protobuf);
        wires.push((protobuf, Arc::clone(&service) as Arc<dyn Service>));
        let sites = wires.into_iter().enumerate().map(|(at, (wire, service))| Site {
            listener: if at == 0 { "lines".into() } else { format!("route{at}") },
            index: at as u16,
            cells: at as u16,
            wire,
            service,
            limits: limits.clone(),
            timeouts: Timeouts { idle: None, ping_interval: None, ..Timeouts::default() },
            heartbeat: None,
            farewell: None,
            unless_json: (at == 0 && matches!(wire, SiteWire::Lines(_))).then_some(other),
        });
        let sites: Vec<Site> = sites.collect();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let now = clock::now();
        let admission = AdmissionLimits {
            connections_max: 100_000,
            per_address_max: None,
            per_second_max: None,
            per_listener_max: vec![None; sites.len()],
        };
        let engine = PipeEngine::new(sites, workers, admission, runtime.handle(), now)
            .with_locals(&Hubs(Arc::clone(&shared)));
        Self { engine, shared, now, registry, runtime, service }
    }

    /// A connection that has said nothing.
    pub(crate) fn connection(&mut self, capacity: usize) -> Client {
        self.stream(capacity, "")
    }

    /// A connection whose request brought this message.
    pub(crate) fn stream(&mut self, capacity: usize, message: &str) -> Client {
        let (socket, peer) = pipe(capacity);
        let (socket, address) = (Socket::Plain(socket), ([127, 0, 0, 1], 9).into());
        let conn = self.engine.connect(socket, 0, address, message.into(), self.now);
        conn.expect("it is admitted");
        self.settle();
        Client { peer, unread: Vec::new(), last: 0 }
    }

    /// A client that is connected.
    pub(crate) fn client(&mut self) -> Client {
        let mut client = self.connection(1 << 20);
        let reply = client.ask(self, r#""connect":{}"#);
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        client
    }

    /// Turns until nothing is left to do.
    pub(crate) fn settle(&mut self) {
        loop {
            while self.engine.turn(self.now).expect("pipes do not fail") {}
            // What is asked for runs there, and comes back as mail.
            self.runtime.block_on(async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            });
            if !self.engine.turn(self.now).expect("pipes do not fail") {
                return;
            }
        }
    }

    /// Moves time, with a look at every tenth of a second.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now += Duration::from_millis(100);
            self.settle();
        }
    }

    /// The value of a metric, over all its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        self.sum(name, |_| true)
    }

    /// The same, over the series that have this value of a label.
    pub(crate) fn metric_with(&self, name: &str, value: &str) -> f64 {
        self.sum(name, |metric| metric.get_label().iter().any(|label| label.value() == value))
    }

    fn sum(&self, name: &str, counts: impl Fn(&prometheus::proto::Metric) -> bool) -> f64 {
        let families = self.registry.gather();
        let of = families.iter().filter(|family| family.name() == name);
        let series = of.flat_map(|family| family.get_metric()).filter(|metric| counts(metric));
        let value = |metric: &prometheus::proto::Metric| {
            metric.get_counter().get_value() + metric.get_gauge().get_value()
        };
        series.map(value).sum()
    }
}

/// Subscribes the client that was told this about its connection to `news`, as the server does.
pub(crate) fn subscribe_by_server(world: &mut World, connected: &Value, overrides: Overrides) {
    let client = connected["connect"]["client"].as_str().and_then(Uid::parse).expect("an id");
    let subscription = NewSubscription { channel: "news".into(), overrides, ..<_>::default() };
    let subscription = Arc::new(subscription);
    let order = || {
        let who = Who { user: "".into(), client: Some(client) };
        let what = ForClient::Subscribe(Arc::clone(&subscription));
        Order::Clients { who, what, reply: tokio::sync::oneshot::channel().0 }
    };
    world.runtime.block_on(world.shared.order(order));
    world.settle();
}

/// One connection's other end.
pub(crate) struct Client {
    pub(crate) peer: PipePeer,
    unread: Vec<u8>,
    last: u32,
}

impl Client {
    /// Sends a line.
    pub(crate) fn say(&mut self, world: &mut World, line: &str) {
        self.peer.send(line.as_bytes());
        self.peer.send(b"\n");
        world.settle();
    }

    /// Sends a command with the next id, and gives the reply to it; what came before it is lost.
    pub(crate) fn ask(&mut self, world: &mut World, request: &str) -> Value {
        self.last += 1;
        let id = self.last;
        self.say(world, &format!(r#"{{"id":{id},{request}}}"#));
        let said = self.heard();
        let reply = said.iter().find(|reply| reply["id"] == id);
        reply.unwrap_or_else(|| panic!("no reply to {request}: {said:?}")).clone()
    }

    /// Takes what its network holds, to be told by the next [`Client::heard`]. Gives how much.
    pub(crate) fn heard_in_part(&mut self) -> usize {
        let bytes = self.peer.receive(1 << 20);
        self.unread.extend(&bytes);
        bytes.len()
    }

    /// Everything that came since, a value a line.
    pub(crate) fn heard(&mut self) -> Vec<Value> {
        while self.heard_in_part() > 0 {}
        let end = self.unread.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.unread.drain(..end).collect();
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("a line is JSON")).collect()
    }

    /// The publications that came since, as they stand in `data`.
    pub(crate) fn published(&mut self) -> Vec<Value> {
        self.heard().iter().map(|push| push["push"]["pub"]["data"].clone()).collect()
    }

    /// The code of the disconnect that came since.
    pub(crate) fn told_to_go(&mut self) -> u64 {
        let said = self.heard();
        let code = said.iter().find_map(|push| push["push"]["disconnect"]["code"].as_u64());
        code.unwrap_or_else(|| panic!("no disconnect: {said:?}"))
    }
}
