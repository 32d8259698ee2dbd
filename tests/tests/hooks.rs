//! Hooks: a backend over HTTP has its say about the clients of channels, which are the unchanged SDKs;
//! and when it is slow or gone, nobody notices who did not ask it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_tests::collector::{Collector, Manner};
use weir_tests::gateway::Start;
use weir_tests::{Answer, Gateway, LinePeer, Received, Upstream, WebSocket, tools};

/// Every hook, and a namespace in which the backend decides everything.
const HOOKS: &str = "[channels.hooks]\nupstream = \"app\"\nconnect = \"/hooks/connect\"\n\
    refresh = \"/hooks/refresh\"\nsubscribe = \"/hooks/subscribe\"\npublish = \"/hooks/publish\"\n\
    sub_refresh = \"/hooks/sub_refresh\"\nrpc = \"/hooks/rpc\"\n\
    forward_headers = [\"cookie\"]\nforward_emulated_headers = [\"x-tenant\"]\n\
    [channels.without_namespace]\nallow_subscribe_for_client = true\n\
    allow_publish_for_client = true\n\
    [[channels.namespaces]]\nname = \"asked\"\nsubscribe_proxy_enabled = true\n\
    publish_proxy_enabled = true\nsub_refresh_proxy_enabled = true\n";

/// A weir that asks this backend. `keys` are those of its `[[upstreams]]`.
fn asking(backend: &Upstream, keys: &str) -> Start {
    let target = backend.address();
    Gateway::start()
        .tables(
            "[[listeners]]\nname = \"channels\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"/connection/websocket\"\nkind = \"websocket\"\n\
             route = \"channels\"\n[[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
             [[listeners]]\nname = \"tcp\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\n\
             route = \"channels\"\n",
        )
        .tables(&format!("[[upstreams]]\nname = \"app\"\ntargets = [\"http://{target}\"]\n{keys}"))
        .tables(HOOKS)
}

fn url(gateway: &Gateway) -> String {
    format!("ws://{}/connection/websocket", gateway.address("channels"))
}

/// A time as a backend gives it, so many seconds from now.
fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + seconds
}

fn result(result: Value) -> Answer {
    Answer::of(json!({ "result": result }))
}

fn error(code: u32, message: &str) -> Answer {
    Answer::of(json!({"error": {"code": code, "message": message}}))
}

/// A backend as an application has one.
fn application(request: &Received) -> Answer {
    let asked: Value = serde_json::from_str(&request.body).expect("a request is JSON");
    match request.path() {
        "/hooks/connect" => result(json!({
            "user": "ann", "data": {"hello": asked["data"]["pin"]}, "channels": ["greetings"],
        })),
        "/hooks/subscribe" if asked["channel"] == "asked:secret" => error(103, "permission denied"),
        "/hooks/subscribe" => result(json!({"data": {"seat": asked["data"]["seat"]}})),
        "/hooks/publish" if asked["data"]["text"] == "curse" => error(1010, "no cursing"),
        "/hooks/publish" => {
            result(json!({"data": {"text": asked["data"]["text"], "by": asked["user"]}}))
        }
        "/hooks/rpc" => match asked["method"].as_str() {
            Some("add") => {
                let sum = asked["data"].as_array().into_iter().flatten().filter_map(Value::as_i64);
                result(json!({"data": {"sum": sum.sum::<i64>()}}))
            }
            Some("leave") => {
                Answer::of(json!({"disconnect": {"code": 4501, "reason": "as you wish"}}))
            }
            Some("slow") => result(json!({"data": "late"})).after(Duration::from_millis(700)),
            _ => error(1001, "cannot"),
        },
        path => panic!("asked for {path}"),
    }
}

async fn javascript_asks(encoding: &str) {
    let backend = Upstream::serving("127.0.0.1:0", application).await;
    let gateway = asking(&backend, "").await;
    let command = format!("node tests/clients/centrifuge/hooks.js {} {encoding}", url(&gateway));
    let printed = tools::shell(&command, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("node prints JSON");
    let expected = json!({
        "connected": {"hello": 1},
        "greeted": "greetings",
        "subscribed": {"seat": 3},
        "published": [{"text": "hello", "by": "ann"}],
        "refused": {"code": 1010, "message": "no cursing", "temporary": false},
        "sum": {"sum": 3},
        "failed": {"code": 1001, "message": "cannot", "temporary": false},
        "secret": 103,
        "gone": [4501, "as you wish"],
    });
    assert_eq!(seen, expected);
    let connect: Value = serde_json::from_str(&backend.received()[0].body).expect("JSON");
    let (wire, payloads) =
        if encoding == "json" { ("json", "json") } else { ("protobuf", "binary") };
    let said = ["transport", "protocol", "encoding", "name"].map(|key| connect[key].clone());
    assert_eq!(json!(said), json!(["websocket", wire, payloads, "hooks.js"]));
    let metrics = gateway.metrics().await;
    let calls = |hook, outcome| {
        metrics.count("weir_channels_hook_calls_total", &[("hook", hook), ("outcome", outcome)])
    };
    assert_eq!((calls("connect", "result"), calls("rpc", "disconnect")), (1, 1));
    assert_eq!((calls("subscribe", "error"), calls("publish", "error")), (1, 1));
}

#[tokio::test]
async fn the_javascript_sdk_is_known_to_a_backend_and_heard_by_it_in_json() {
    javascript_asks("json").await;
}

#[tokio::test]
async fn the_javascript_sdk_is_known_to_a_backend_and_heard_by_it_in_protobuf() {
    javascript_asks("protobuf").await;
}

#[tokio::test]
async fn the_python_sdk_is_known_to_a_backend_and_heard_by_it() {
    let backend = Upstream::serving("127.0.0.1:0", application).await;
    let gateway = asking(&backend, "").await;
    for encoding in ["json", "protobuf"] {
        let arguments = ["tests/clients/centrifuge/hooks.py", &url(&gateway), encoding];
        let printed = tools::python(&arguments, "").await.succeeded();
        let seen: Value = serde_json::from_str(&printed).expect("python prints JSON");
        let expected = json!({
            "connected": {"hello": 1},
            "published": {"text": "hello", "by": "ann"},
            "sum": {"sum": 3},
            "failed": [1001, "cannot"],
        });
        assert_eq!(seen, expected, "{encoding}");
    }
}

/// A client of the protocol that says lines and hears them.
struct Talker(LinePeer);

impl Talker {
    async fn connect(gateway: &Gateway) -> Self {
        let mut talker = Self(LinePeer::connect(gateway.address("tcp")).await);
        let reply = talker.ask(r#"{"id":1,"connect":{}}"#).await;
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        talker
    }

    async fn say(&mut self, line: &str) {
        weir_tests::Client::say(&mut self.0, line).await;
    }

    /// The next that is no ping.
    async fn hear(&mut self) -> Value {
        loop {
            let line = weir_tests::Client::hear(&mut self.0).await;
            match line.as_str() {
                "{}" => self.say("{}").await,
                line => return serde_json::from_str(line).expect("a line is JSON"),
            }
        }
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        self.hear().await
    }
}

#[tokio::test]
async fn a_slow_backend_keeps_no_other_command_of_its_client_waiting() {
    let backend = Upstream::serving("127.0.0.1:0", application).await;
    let gateway = asking(&backend, "").await;
    let mut ann = Talker::connect(&gateway).await;
    let begun = Instant::now();
    ann.say(r#"{"id":2,"rpc":{"method":"slow"}}"#).await;
    for id in 10..110 {
        let reply = ann.ask(&format!(r#"{{"id":{id},"rpc":{{"method":"add","data":[1]}}}}"#)).await;
        assert_eq!(reply["id"], json!(id));
        if begun.elapsed() > Duration::from_millis(500) {
            break;
        }
    }
    assert_eq!(ann.hear().await["rpc"]["data"], json!("late"));
}

#[tokio::test]
async fn a_backend_that_hangs_costs_its_timeout_and_one_that_is_gone_nothing() {
    let hangs = |request: &Received| match request.path() {
        "/hooks/rpc" => result(json!({})).after(Duration::from_secs(60)),
        _ => application(request),
    };
    let backend = Upstream::serving("127.0.0.1:0", hangs).await;
    let gateway = asking(&backend, "breaker_failures = \"off\"").await;
    let mut ann = Talker::connect(&gateway).await;
    let begun = Instant::now();
    let reply = ann.ask(r#"{"id":2,"rpc":{"method":"m"}}"#).await;
    let error = json!({"code": 100, "message": "internal server error", "temporary": true});
    assert_eq!(reply, json!({"id": 2, "error": error}));
    let took = begun.elapsed();
    assert!((900..3000).contains(&took.as_millis()), "{took:?}");
    drop(backend);
    let begun = Instant::now();
    let reply = ann.ask(r#"{"id":3,"publish":{"channel":"asked:room","data":1}}"#).await;
    assert_eq!(reply, json!({"id": 3, "error": error}));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let metrics = gateway.metrics().await;
    let labels = [("hook", "rpc"), ("outcome", "timeout")];
    assert_eq!(metrics.count("weir_channels_hook_calls_total", &labels), 1);
    let labels = [("hook", "rpc")];
    assert_eq!(metrics.count("weir_channels_hook_seconds_count", &labels), 1);
}

#[tokio::test]
async fn connections_and_subscriptions_stay_as_long_as_their_backend_says() {
    let renews = |request: &Received| match request.path() {
        "/hooks/connect" => result(json!({"user": "ann", "expire_at": in_seconds(2)})),
        "/hooks/subscribe" => result(json!({"expire_at": in_seconds(2)})),
        "/hooks/refresh" => result(json!({"expire_at": in_seconds(60)})),
        _ => result(json!({"expired": true})),
    };
    let backend = Upstream::serving("127.0.0.1:0", renews).await;
    let gateway = asking(&backend, "").await;
    let mut ann = Talker::connect(&gateway).await;
    let reply = ann.ask(r#"{"id":2,"subscribe":{"channel":"asked:room"}}"#).await;
    assert_eq!(reply["subscribe"], json!({}), "no end is told");
    let push = ann.hear().await;
    let expected = json!({"channel": "asked:room",
        "unsubscribe": {"code": 2501, "reason": "subscription expired"}});
    assert_eq!(push["push"], expected);
    gateway
        .wait_for("a refresh", |metrics| {
            let labels = [("hook", "refresh"), ("outcome", "result")];
            metrics.count("weir_channels_hook_calls_total", &labels) == 1
        })
        .await;
    let reply = ann.ask(r#"{"id":3,"unsubscribe":{"channel":"asked:room"}}"#).await;
    assert_eq!(reply, json!({"id": 3, "unsubscribe": {}}), "it is still connected");
}

#[tokio::test]
async fn a_backend_hears_the_headers_that_are_listed_and_where_the_client_is() {
    let backend = Upstream::serving("127.0.0.1:0", application).await;
    let gateway = asking(&backend, "").await;
    let address = gateway.address("channels");
    let headers = "Cookie: session=1\r\nX-Other: 2\r\nx-forwarded-for: 9.9.9.9\r\n";
    let mut socket = WebSocket::connect_to(address, "/connection/websocket", headers).await;
    let connect = r#"{"id":1,"connect":{"headers":{"X-Tenant":"t1","cookie":"forged","x-a":"b"}}}"#;
    weir_tests::Client::say(&mut socket, connect).await;
    weir_tests::Client::hear(&mut socket).await;
    let request = &backend.received()[0];
    let seen = ["cookie", "x-tenant", "x-forwarded-for", "content-type", "x-other", "x-a"];
    let seen = seen.map(|name| request.header(name));
    let json = Some("application/json");
    assert_eq!(seen, [Some("session=1"), Some("t1"), Some("127.0.0.1"), json, None, None]);
    assert!(request.header("x-request-id").is_some_and(|id| id.ends_with("-1")), "{request:?}");
}

#[tokio::test]
async fn the_trace_of_a_clients_rpc_goes_on_in_its_backend() {
    let collector = Collector::start(Manner::Grpc).await;
    let backend = Upstream::serving("127.0.0.1:0", application).await;
    let gateway = asking(&backend, "").section("traces", &collector.keys()).await;
    let mut ann = Talker::connect(&gateway).await;
    ann.ask(r#"{"id":2,"rpc":{"method":"add","data":[1]}}"#).await;
    let received = backend.received();
    let rpc = received.iter().find(|request| request.path() == "/hooks/rpc").expect("an rpc");
    let parent = rpc.header("traceparent").expect("a traceparent").to_owned();
    let (trace, span) = (&parent[3..35], &parent[36..52]);
    let call = weir_tests::wait::eventually("the call's span", async || {
        collector.spans().into_iter().find(|one| one.span_id == span)
    })
    .await;
    assert_eq!(call.trace_id, trace);
    assert_eq!(call.name, "POST /hooks/rpc");
    let message = weir_tests::wait::eventually("the message's span", async || {
        collector.spans().into_iter().find(|one| one.span_id == call.parent)
    })
    .await;
    assert_eq!((message.trace_id, message.name.as_str()), (call.trace_id, "process channels"));
}

/// A weir whose backend is only told what has ended.
fn telling(backend: &str) -> Start {
    Gateway::start()
        .tables(
            "[[listeners]]\nname = \"tcp\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\n\
             route = \"channels\"\n[[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
             [channels]\nallow_anonymous_connect_without_token = true\n\
             [channels.hooks]\nupstream = \"app\"\nnotices = \"/hooks/notices\"\n",
        )
        .tables(&format!("[[upstreams]]\nname = \"app\"\ntargets = [\"http://{backend}\"]\n"))
}

fn thanks(_: &Received) -> Answer {
    Answer { status: 204, ..Answer::of("") }
}

/// The notices that a backend was told, a call at a time.
fn told(backend: &Upstream) -> Vec<Vec<Value>> {
    let notices = |request: Received| {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        body["notices"].as_array().expect("notices").clone()
    };
    backend.received().into_iter().map(notices).collect()
}

fn delivered(metrics: &weir_tests::Metrics) -> u64 {
    metrics.count("weir_channels_notices_total", &[("outcome", "delivered")])
}

#[tokio::test]
async fn ten_thousand_clients_that_go_at_once_are_told_in_batches_without_a_loss() {
    const CLIENTS: usize = 10_000;
    let backend = Upstream::serving("127.0.0.1:0", thanks).await;
    let gateway = telling(&backend.address().to_string())
        .limits(&format!("connections_max = {}", CLIENTS + 100))
        .await;
    let mut clients = Vec::with_capacity(CLIENTS);
    let mut ids = BTreeSet::new();
    for _ in 0..CLIENTS {
        let mut client = LinePeer::connect(gateway.address("tcp")).await;
        weir_tests::Client::say(&mut client, r#"{"id":1,"connect":{}}"#).await;
        // One after the other, so that no backlog is ever full.
        let reply = weir_tests::Client::hear(&mut client).await;
        clients.push(client);
        let reply: Value = serde_json::from_str(&reply).expect("JSON");
        ids.insert(reply["connect"]["client"].as_str().expect("an id").to_owned());
    }
    drop(clients);
    gateway.wait_for("all notices", |metrics| delivered(metrics) == CLIENTS as u64).await;
    let batches = told(&backend);
    let of = |field: &str| -> BTreeSet<String> {
        let all = batches.iter().flatten();
        all.map(|one| one[field].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(of("client"), ids);
    assert_eq!((of("id").len(), batches.iter().map(Vec::len).sum::<usize>()), (CLIENTS, CLIENTS));
    assert!(batches.iter().all(|batch| batch.len() <= 1000));
    assert!(batches.len() < CLIENTS / 20, "{} calls", batches.len());
}

#[tokio::test]
async fn a_backend_that_comes_back_is_told_what_has_ended_while_it_was_away() {
    let backend = Upstream::serving("127.0.0.1:0", thanks).await;
    let address = backend.address().to_string();
    drop(backend);
    let gateway = telling(&address).await;
    for _ in 0..20 {
        drop(Talker::connect(&gateway).await);
    }
    let failed = [("hook", "notices"), ("outcome", "unavailable")];
    gateway
        .wait_for("a few tries", |metrics| {
            metrics.count("weir_channels_hook_calls_total", &failed) >= 3
        })
        .await;
    let backend = Upstream::serving(&address, thanks).await;
    gateway.wait_for("all notices", |metrics| delivered(metrics) == 20).await;
    let all = told(&backend);
    let ids = all.iter().flatten().map(|notice| notice["id"].to_string());
    assert_eq!(ids.collect::<BTreeSet<_>>().len(), 20);
}

#[tokio::test]
async fn a_stop_tells_a_slow_backend_of_everybody_before_it_ends() {
    let slow = |_: &Received| thanks_after(Duration::from_millis(200));
    let backend = Upstream::serving("127.0.0.1:0", slow).await;
    let mut gateway = telling(&backend.address().to_string()).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(Talker::connect(&gateway).await);
    }
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, 0);
    let codes: Vec<Value> =
        told(&backend).into_iter().flatten().map(|notice| notice["code"].clone()).collect();
    assert_eq!(codes, vec![json!(3001); 50]);
}

fn thanks_after(delay: Duration) -> Answer {
    Answer { status: 204, ..Answer::of("").after(delay) }
}

#[tokio::test]
async fn a_stop_that_cannot_tell_a_backend_ends_in_time_and_says_so() {
    let backend = Upstream::serving("127.0.0.1:0", thanks).await;
    let address = backend.address().to_string();
    drop(backend);
    let mut gateway = telling(&address).await;
    let _client = Talker::connect(&gateway).await;
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, 1, "work was lost");
    let line = gateway.log().into_iter().find(|line| line.contains("notices"));
    assert!(line.is_some_and(|line| line.contains("shutdown")));
}
