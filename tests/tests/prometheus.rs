//! A real Prometheus scrapes weir under load and faults: every expression of the dashboards and
//! rules gives something, and what a fault brings up comes up with it.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir_tests::collector::{Collector, Manner};
use weir_tests::pki::Pki;
use weir_tests::prometheus::Prometheus;
use weir_tests::promql::with_bool;
use weir_tests::tls::TlsClient;
use weir_tests::tools::{self, read};
use weir_tests::{Client, FramePeer, Gateway, LinePeer, Peer, Upstream, WebSocket, http};

/// Longest wait for an expression: rates need a few scrapes.
const PATIENCE: Duration = Duration::from_secs(40);

/// Expressions, by panel or rule, that give something only while there is this fault.
const FAULTS: [(&str, Fault); 3] = [
    ("Wait in the outbox", Fault::SlowReader),
    ("Connections that remain", Fault::Stop),
    ("WeirAbsent", Fault::NoTarget),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A peer does not read for a while.
    SlowReader,
    /// The instance has been told to stop and its peers stay.
    Stop,
    /// Prometheus knows no instance.
    NoTarget,
}

/// An expression with the name of its panel or rule.
#[derive(Clone, Debug)]
struct Asked {
    name: String,
    expression: String,
}

/// Every query of both dashboards, with the variables as Grafana would fill them in.
fn panels() -> Vec<Asked> {
    let mut asked = Vec::new();
    for dashboard in ["overview", "connections"] {
        let json = read(&format!("dashboards/{dashboard}.json"));
        let board: Value = serde_json::from_str(&json).expect("a dashboard is JSON");
        for panel in board["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().expect("a query").replace("$job", ".+");
                let query = query.replace("$instance", ".+").replace("$__rate_interval", "5s");
                let name = panel["title"].as_str().expect("a title").to_owned();
                asked.push(Asked { name, expression: query });
            }
        }
    }
    asked
}

/// Every rule. An alert's comparison is made a value: it gives something when there is something
/// to compare.
async fn rules() -> Vec<Asked> {
    let mut asked = Vec::new();
    for file in ["recording", "alerts"] {
        let documents = tools::yaml(&read(&format!("dashboards/{file}.yml"))).await;
        for group in documents[0]["groups"].as_array().expect("groups") {
            for rule in group["rules"].as_array().expect("rules") {
                let name = rule["alert"].as_str().or(rule["record"].as_str()).expect("a name");
                let expression = with_bool(rule["expr"].as_str().expect("an expression"));
                asked.push(Asked { name: name.to_owned(), expression });
            }
        }
    }
    asked
}

/// Waits until an expression gives a number.
async fn gives_something(prometheus: &Prometheus, asked: &Asked) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let series = prometheus.query(&asked.expression).await;
        let value = |one: &Value| one["value"][1].as_str()?.parse::<f64>().ok();
        if series.iter().filter_map(value).any(f64::is_finite) {
            return;
        }
        let Asked { name, expression } = asked;
        assert!(Instant::now() < deadline, "{name}: nothing from {expression}: {series:?}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// A route for one API key, and a key set that nobody publishes and that is asked for all the time.
const GUARDED: &str = r#"
[[routes]]
name = "guarded"
kind = "echo"
auth = "api_key"
[[auth.api_keys]]
name = "meter"
key = "the-key-of-a-meter"
[auth.jwks]
url = "http://127.0.0.1:9/keys.json"
refresh_interval_min = "1s"
"#;

/// Channels with their server API, keys for tokens, a backend that does not know what to say, and devices
/// whose messages are published.
const CHANNELS: &str = r#"
[[listeners]]
name = "channels"
address = "127.0.0.1:0"
wire = "http"
[[listeners.paths]]
path = "/connection/websocket"
kind = "websocket"
route = "channels"
[[listeners.paths]]
path = "/api/*"
kind = "post"
route = "api"
[[routes]]
name = "channels"
kind = "channels"
[[routes]]
name = "api"
kind = "channels_api"
[[routes]]
name = "devices"
kind = "publish"
channel = "devices-{json.device}"
subscribe = ["devices-pump"]
[channels]
allow_anonymous_connect_without_token = true
[channels.without_namespace]
history_size = 10
history_ttl = "1m"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
[channels.hooks]
upstream = "backend"
rpc = "/rpc"
notices = "/notices"
[[channels.token.keys]]
name = "main"
algorithm = "hmac"
key = "a-shared-secret-of-32-bytes-or-more"
"#;

async fn gateway(upstream: &Upstream, pki: &Pki, collector: &Collector) -> Gateway {
    let secure = pki.issue("weir", &["weir.example"]).listener("");
    Gateway::start()
        .section("traces", &collector.keys())
        .listener("secure", &format!("wire = \"lines\"\nroute = \"echo\"\n{secure}"))
        .listener("echoes", "wire = \"lines\"\nroute = \"echo\"")
        .listener("guarded", "wire = \"lines\"\nroute = \"guarded\"")
        .tables("[[routes]]\nname = \"echo\"\nkind = \"echo\"")
        .listener("devices", "wire = \"lines\"\nroute = \"devices\"")
        .tables(GUARDED)
        .tables(CHANNELS)
        .listener("hooked", "wire = \"lines\"\nroute = \"channels\"")
        .shutdown("unready = \"60s\"\ndrain = \"2s\"\nforce = \"2s\"\nflush = \"2s\"")
        .answered_by(upstream.address(), "")
        .await
}

/// Clients of every kind that come, talk, err and go until they are dropped.
fn load(gateway: &Gateway, pki: &Pki) -> JoinSet<()> {
    let mut load = JoinSet::new();
    let (client, secure) = (TlsClient::trusting(pki), gateway.address("secure"));
    load.spawn(async move {
        // Ends with weir.
        while let Ok(mut peer) = client.connect(secure, "weir.example").await {
            peer.say("an order").await;
            peer.hear().await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    let guarded = gateway.address("guarded");
    load.spawn(async move {
        loop {
            for key in ["the-key-of-a-meter", "no key"] {
                let mut peer = LinePeer::connect(guarded).await;
                peer.say(key).await;
                peer.say("a reading").await;
                peer.hear().await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    load.spawn(subscribers_and_backends(gateway.address("channels")));
    let channels = gateway.address("hooked");
    load.spawn(async move {
        loop {
            let mut peer = LinePeer::connect(channels).await;
            peer.say(r#"{"id":1,"connect":{}}"#).await;
            peer.hear().await;
            for id in 2..20 {
                peer.say(&format!(r#"{{"id":{id},"rpc":{{"method":"m"}}}}"#)).await;
                peer.hear().await;
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let devices = gateway.address("devices");
    load.spawn(async move {
        let mut peer = LinePeer::connect(devices).await;
        loop {
            for line in [r#"{"device":"pump"}"#, "no reading"] {
                peer.say(line).await;
                peer.hear().await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let address = |listener| gateway.address(listener);
    let (lines, frames, web) = (address("lines"), address("frames"), address("http"));
    load.spawn(async move {
        loop {
            let mut peer = LinePeer::connect(lines).await;
            for _ in 0..20 {
                peer.say("an order").await;
                peer.hear().await;
                sleep(Duration::from_millis(20)).await;
            }
        }
    });
    load.spawn(async move {
        loop {
            let mut peer = FramePeer::connect(frames).await;
            peer.say("an order").await;
            peer.hear().await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    load.spawn(async move {
        loop {
            let mut socket = WebSocket::connect(web).await;
            socket.say("an order").await;
            socket.hear().await;
            http::post(web, "/echo", b"an order").await;
            http::post(web, "/nowhere", b"an order").await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    load
}

/// A subscriber that comes back to a channel into which a backend publishes; one asks for a channel
/// that there is not, one has a bad token, and so has a backend.
async fn subscribers_and_backends(web: SocketAddr) {
    let path = "/connection/websocket";
    loop {
        let mut subscriber = WebSocket::connect_to(web, path, "").await;
        subscriber.say(r#"{"id":1,"connect":{}}"#).await;
        subscriber.hear().await;
        let recover = r#""recover":true,"epoch":"none","offset":1"#;
        let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"orders",{recover}}}}}"#);
        subscriber.say(&subscribe).await;
        subscriber.hear().await;
        subscriber.say(r#"{"id":3,"subscribe":{"channel":"nowhere:orders"}}"#).await;
        subscriber.hear().await;
        http::post(web, "/api/publish", br#"{"channel":"orders","data":1}"#).await;
        subscriber.hear().await;
        http::post(web, "/api/publish", br#"{"channel":"nowhere:orders","data":1}"#).await;
        let mut stranger = WebSocket::connect_to(web, path, "").await;
        stranger.say(r#"{"id":1,"connect":{"token":"none"}}"#).await;
        stranger.expect_close().await;
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn every_panel_and_rule_gives_something_under_load_and_faults() {
    let upstream = Upstream::start(Duration::from_millis(5)).await;
    let (pki, collector) = (Pki::new(), Collector::start(Manner::Grpc).await);
    let mut gateway = gateway(&upstream, &pki, &collector).await;
    let prometheus = Prometheus::start(&[gateway.address("ops")]).await;
    let load = load(&gateway, &pki);
    let mut asked = panels();
    asked.extend(rules().await);
    let fault = |one: &Asked| FAULTS.iter().find(|(name, _)| *name == one.name).map(|(_, f)| *f);
    let faulty = asked.iter().filter(|one| fault(one).is_some()).count();
    assert!(faulty * 10 <= asked.len(), "{faulty} of {} need a fault", asked.len());

    for one in asked.iter().filter(|one| fault(one).is_none()) {
        gives_something(&prometheus, one).await;
    }
    drop(load);

    let mut of = std::collections::HashMap::<String, Vec<&Asked>>::new();
    for one in &asked {
        if let Some(fault) = fault(one) {
            of.entry(format!("{fault:?}")).or_default().push(one);
        }
    }
    let brings_up = async |fault: Fault| {
        for one in of.get(&format!("{fault:?}")).into_iter().flatten() {
            gives_something(&prometheus, one).await;
        }
    };
    read_slowly(&gateway).await;
    brings_up(Fault::SlowReader).await;
    let staying = LinePeer::join(&gateway).await;
    gateway.signal(Signal::TERM);
    brings_up(Fault::Stop).await;
    drop(staying);
    // The second one forces: nobody waits for the long unready stage.
    gateway.signal(Signal::TERM);
    gateway.exit_code().await;
    prometheus.scrape(&[]);
    brings_up(Fault::NoTarget).await;
}

/// A peer that asks for much, reads nothing for a while, and then all of it.
async fn read_slowly(gateway: &Gateway) {
    let mut peer = Peer::connect_narrow(gateway.address("echoes")).await;
    let packet = LinePeer::encode(&"x".repeat(60_000)).repeat(200);
    let sent = peer.send_until_stuck(&packet, Duration::from_millis(200)).await;
    assert!(sent < packet.len(), "a peer that does not read was not stuck");
    peer.take(sent / 2).await;
}

#[tokio::test]
async fn alerts_are_pending_as_soon_as_there_is_something_to_say() {
    // No such upstream: each call fails.
    let gone = Upstream::start(Duration::ZERO).await.address();
    let gateway = Gateway::start().answered_by(gone, "breaker_failures = 2").await;
    let prometheus = Prometheus::start(&[gateway.address("ops")]).await;
    let address = gateway.address("http");
    let mut load = JoinSet::new();
    load.spawn(async move {
        loop {
            http::post(address, "/echo", b"an order").await;
            sleep(Duration::from_millis(50)).await;
        }
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = prometheus.get("/api/v1/alerts").await;
        let alerts = page["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let names = alerts.iter().filter_map(|alert| alert["labels"]["alertname"].as_str());
        let names = names.collect::<std::collections::BTreeSet<_>>();
        if names.contains("WeirBreakerOpen") && names.contains("WeirCallBudgetFast") {
            return;
        }
        assert!(Instant::now() < deadline, "pending: {names:?}");
        sleep(Duration::from_millis(250)).await;
    }
}

/// What Grafana asks when a dot on a histogram is to lead to its trace.
#[tokio::test]
async fn exemplars_of_traces_are_seen_through_prometheus() {
    let upstream = Upstream::start(Duration::from_millis(5)).await;
    let collector = Collector::start(Manner::Grpc).await;
    let gateway = Gateway::start()
        .section("traces", &collector.keys())
        .answered_by(upstream.address(), "")
        .await;
    let prometheus = Prometheus::start(&[gateway.address("ops")]).await;
    let mut client = LinePeer::join(&gateway).await;
    for family in ["weir_message_seconds", "weir_stage_seconds", "weir_upstream_request_seconds"] {
        let deadline = Instant::now() + PATIENCE;
        let query = format!("/api/v1/query_exemplars?query={family}_bucket&start=0&end=9999999999");
        loop {
            client.say("an order").await;
            client.hear().await;
            let answer = prometheus.get(&query).await;
            assert_eq!(answer["status"], "success", "{answer}");
            let series = answer["data"].as_array().cloned().unwrap_or_default();
            let seen = series.iter().flat_map(|one| one["exemplars"].as_array().cloned());
            let seen = seen
                .flatten()
                .filter_map(|exemplar| Some(exemplar["labels"]["trace_id"].as_str()?.to_owned()));
            let known = collector.spans();
            if seen.into_iter().any(|trace| known.iter().any(|span| span.trace_id == trace)) {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{family}: no exemplar of a known trace: {series:?}"
            );
            sleep(Duration::from_millis(250)).await;
        }
    }
}
