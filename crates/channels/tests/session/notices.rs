//! Notices in sessions: what a backend that is there in place of an HTTP server is told of clients that
//! have gone, however many go at once and however long it is away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};
use weir_channels::hooks::{
    Backend, Call, CallFuture, Called, Hook, HookMetrics, HookOptions, Hooks,
};
use weir_channels::namespace::{ChannelRules, Namespaces};
use weir_channels::notices::{NoticeOptions, NoticeSender};
use weir_channels::{ChannelMetrics, ClientOptions, Policy};
use weir_core::clock;
use weir_core::service::{AskError, Response};

use crate::support::{World, open};

/// A backend that notes what it is told, and is away at times.
#[derive(Default)]
struct Fake {
    /// The notices of each call that it has taken.
    batches: Mutex<Vec<Vec<Value>>>,
    /// Calls that it has not.
    missed: Mutex<usize>,
    away: Mutex<bool>,
}

impl Fake {
    fn told(&self) -> Vec<Value> {
        self.batches.lock().iter().flatten().cloned().collect()
    }

    fn is_away(&self, away: bool) {
        *self.away.lock() = away;
    }
}

struct Known(Arc<Fake>);

impl Backend for Known {
    fn call(&self, call: Call) -> CallFuture {
        assert_eq!(call.path, "/notices");
        let body: Value = serde_json::from_slice(&call.body).expect("a body is JSON");
        let answer = if *self.0.away.lock() {
            *self.0.missed.lock() += 1;
            Err(AskError::Unavailable)
        } else {
            let notices = body["notices"].as_array().expect("notices");
            self.0.batches.lock().push(notices.clone());
            Ok(Response { status: 204, body: Bytes::new() })
        };
        Box::pin(std::future::ready(Called { took: Duration::from_millis(1), answer }))
    }
}

fn usual() -> NoticeOptions {
    NoticeOptions {
        disconnects: true,
        unsubscribes: true,
        count_max: 100_000,
        bytes_max: 64 << 20,
        age_max: Duration::from_secs(600),
        batch_max: 1000,
        timeout: Duration::from_secs(1),
    }
}

/// A world whose backend is told so, and whose sender is at work on a clock that is moved by hand.
fn world(options: NoticeOptions) -> (World, Arc<Fake>) {
    let mut world = World::new(open());
    let fake = Arc::new(Fake::default());
    let path = PathAndQuery::from_static("/notices");
    let hook_options = HookOptions {
        paths: Hook::ALL.map(|_| None),
        timeout: Duration::from_secs(1),
        calls_max: 1,
        forward_headers: Vec::new(),
        forward_emulated_headers: Vec::new(),
        binary_encoding: false,
        notices: Some((path, options)),
    };
    let metrics = HookMetrics::register(&Registry::new()).expect("registered once");
    let hooks = Hooks::new(Arc::new(Known(Arc::clone(&fake))), hook_options, metrics);
    let rules = ChannelRules {
        without_namespace: open(),
        allow_anonymous_connect_without_token: true,
        ..ChannelRules::default()
    };
    let metrics = ChannelMetrics::register(&Registry::new()).expect("registered once");
    let namespaces = Namespaces::new(rules).expect("good rules");
    let policy = Policy::new(namespaces, None, ClientOptions::default(), &metrics);
    world.shared.replace(policy.with_hooks(hooks));
    drop(world.runtime.spawn(NoticeSender::new(Arc::clone(&world.shared)).run()));
    world.settle();
    (world, fake)
}

/// Lets the sender work until something holds, at most 10 s.
fn until(world: &mut World, what: &str, holds: impl Fn(&World) -> bool) {
    for _ in 0..1000 {
        world.now = world.now.max(clock::now());
        world.settle();
        if holds(world) {
            return;
        }
        world.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
    }
    panic!("not within 10 s: {what}");
}

/// How many notices ended so.
fn count(world: &World, outcome: &str) -> u64 {
    let families = world.registry.gather();
    let family = families.iter().find(|one| one.name() == "weir_channels_notices_total");
    let series = family.expect("it is registered").get_metric().iter();
    let of = series.filter(|metric| metric.get_label().iter().any(|one| one.value() == outcome));
    of.map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[test]
fn a_backend_is_told_who_has_gone_from_where_and_why() {
    let (mut world, fake) = world(usual());
    let mut ann = world.client();
    ann.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    ann.ask(&mut world, r#""subscribe":{"channel":"chat"}"#);
    ann.ask(&mut world, r#""unsubscribe":{"channel":"chat"}"#);
    ann.say(&mut world, r#"{"send":{"data":1}}"#);
    assert_eq!(ann.told_to_go(), 3508);
    drop(ann);
    let silent = world.connection(1 << 20);
    drop(silent);
    world.pass(2);
    let told = fake.told();
    let [left, gone] = told.as_slice() else { panic!("{told:?}") };
    let fields = |notice: &Value| {
        ["event", "channel", "channels", "code", "reason", "user", "transport"]
            .map(|field| notice[field].clone())
    };
    let expected = json!(["unsubscribe", "chat", null, 0, "client unsubscribed", "", "tcp"]);
    assert_eq!(json!(fields(left)), expected);
    let expected = json!(["disconnect", null, ["news"], 3508, "not available", "", "tcp"]);
    assert_eq!(json!(fields(gone)), expected);
    assert_eq!(left["client"], gone["client"]);
    assert_ne!(left["id"], gone["id"]);
    assert!(gone["time"].as_u64().is_some_and(|time| time > 1_600_000_000_000), "{gone}");
}

#[test]
fn ten_thousand_that_go_at_once_are_told_in_batches_and_each_of_them_once() {
    let (mut world, fake) = world(usual());
    let mut clients: Vec<_> = (0..10_000).map(|_| world.connection(4096)).collect();
    let mut ids = HashSet::new();
    for client in &mut clients {
        client.peer.send(b"{\"id\":1,\"connect\":{}}\n");
    }
    world.settle();
    for client in &mut clients {
        let reply = &client.heard()[0];
        ids.insert(reply["connect"]["client"].as_str().expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 10_000);
    drop(clients);
    until(&mut world, "all of them", |_| fake.told().len() >= 10_000);
    let told = fake.told();
    assert_eq!(told.len(), 10_000);
    let of = |field: &str| -> HashSet<String> {
        told.iter().map(|one| one[field].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!((of("client"), of("id").len()), (ids, 10_000));
    let batches = fake.batches.lock();
    assert!(batches.len() < 100, "{} calls", batches.len());
    assert!(batches.iter().all(|batch| batch.len() <= 1000));
    assert_eq!(count(&world, "delivered"), 10_000);
}

#[test]
fn a_backend_that_was_away_is_told_when_it_comes_back_and_in_order() {
    let (mut world, fake) = world(usual());
    fake.is_away(true);
    for _ in 0..5 {
        drop(world.client());
        world.settle();
    }
    // At least half of 100 ms, 200 ms and 400 ms: each pause is longer.
    let begun = clock::now();
    until(&mut world, "four tries", |_| *fake.missed.lock() >= 4);
    assert!(clock::now() - begun >= Duration::from_millis(350));
    assert_eq!(world.metric("weir_channels_notices_waiting"), 5.0);
    fake.is_away(false);
    until(&mut world, "all of them", |_| fake.told().len() == 5);
    let numbers: Vec<u64> = fake
        .told()
        .iter()
        .filter_map(|one| one["id"].as_str()?.rsplit('-').next()?.parse().ok())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(world.metric("weir_channels_notices_waiting"), 0.0);
}

#[test]
fn what_the_backend_was_away_for_too_long_for_is_dropped_and_counted() {
    let (mut world, fake) = world(NoticeOptions { age_max: Duration::from_millis(500), ..usual() });
    fake.is_away(true);
    drop(world.client());
    until(&mut world, "it is dropped", |world| count(world, "too_old") == 1);
    fake.is_away(false);
    drop(world.client());
    until(&mut world, "the next one", |world| count(world, "delivered") == 1);
}

#[test]
fn a_queue_has_a_bound_in_count_and_in_bytes() {
    let by_count = NoticeOptions { count_max: 3, ..usual() };
    let by_bytes = NoticeOptions { bytes_max: 700, ..usual() };
    for options in [by_count, by_bytes] {
        let (mut world, fake) = world(options);
        fake.is_away(true);
        for _ in 0..10 {
            drop(world.client());
            world.settle();
        }
        let waiting = world.metric("weir_channels_notices_waiting");
        assert!((1.0..=3.0).contains(&waiting), "{waiting}");
        assert_eq!(count(&world, "full"), 10 - waiting as u64);
    }
}

#[test]
fn only_what_the_backend_wants_is_told() {
    let (mut world, fake) = world(NoticeOptions { unsubscribes: false, ..usual() });
    let mut ann = world.client();
    ann.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    ann.ask(&mut world, r#""unsubscribe":{"channel":"news"}"#);
    drop(ann);
    world.pass(1);
    let events: Vec<_> = fake.told().iter().map(|one| one["event"].clone()).collect();
    assert_eq!(events, [json!("disconnect")]);
}

#[test]
fn a_flush_sends_what_waits_and_drops_only_what_the_backend_does_not_take() {
    let (mut world, fake) = world(usual());
    fake.is_away(true);
    for _ in 0..3 {
        drop(world.client());
        world.settle();
    }
    // The pause after the next try is longer than what the flush has.
    until(&mut world, "five tries", |_| *fake.missed.lock() >= 5);
    fake.is_away(false);
    let shared = Arc::clone(&world.shared);
    let second = Duration::from_secs(1);
    assert_eq!(world.runtime.block_on(shared.notices().flush(second)), 0);
    assert_eq!(fake.told().len(), 3);

    let (mut world, fake) = self::world(usual());
    fake.is_away(true);
    drop(world.client());
    world.settle();
    let shared = Arc::clone(&world.shared);
    assert_eq!(world.runtime.block_on(shared.notices().flush(second)), 1);
    assert_eq!(count(&world, "shutdown"), 1);
}
