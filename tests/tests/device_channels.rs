//! Devices that send lines, frames and plain WebSocket messages, and pages with an unchanged SDK of the
//! client protocol: each is told what the other one says, against the real program.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use weir_tests::doors::{API_KEY, KEYS};
use weir_tests::gateway::{Start, config_file, weir_command};
use weir_tests::http::{self, HttpPeer};
use weir_tests::{Ending, FramePeer, Gateway, LinePeer, Peer, WebSocket, tools};

/// Everybody may do everything in `sensors` and `commands`, users in `private`.
const NAMESPACES: &str = r#"
[[listeners]]
name = "web"
address = "127.0.0.1:0"
wire = "http"
[[listeners.paths]]
path = "/connection/websocket"
kind = "websocket"
route = "channels"
[[listeners.paths]]
path = "/device"
kind = "websocket"
route = "devices"
[[listeners.paths]]
path = "/events"
kind = "sse"
route = "devices"
[[listeners.paths]]
path = "/publish"
kind = "post"
route = "readings"
[[routes]]
name = "channels"
kind = "channels"
[[routes]]
name = "readings"
kind = "publish"
channel = "sensors:{listener}.{json.device}"
reply = "ok {offset}"
[[routes]]
name = "commander"
kind = "publish"
channel = "commands:all"
[channels]
allow_anonymous_connect_without_token = true
[[channels.namespaces]]
name = "sensors"
history_size = 10
history_ttl = "1m"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
[[channels.namespaces]]
name = "commands"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
[[channels.namespaces]]
name = "private"
allow_subscribe_for_client = true
allow_publish_for_client = true
"#;

/// A weir with listeners of every wire for a route of devices with these keys.
fn devices(keys: &str) -> Start {
    let listener = |name: &str, wire: &str| {
        format!(
            "[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n{wire}\n\
             route = \"devices\"\n"
        )
    };
    let route = format!("[[routes]]\nname = \"devices\"\nkind = \"publish\"\n{keys}\n");
    Gateway::start()
        .tables(&listener("north", "wire = \"lines\""))
        .tables(&listener("south", "wire = \"lines\""))
        .tables(&listener("old", "wire = \"length\"\nprefix = \"u32be\""))
        .tables(&listener("commands", "wire = \"lines\"").replace("devices", "commander"))
        .tables(&format!("{route}{NAMESPACES}"))
}

/// Readings are published by listener and device, and commands are told.
const TALKING: &str = "channel = \"sensors:{listener}.{json.device}\"\nreply = \"ok {offset}\"\n\
    subscribe = [\"commands:all\"]";

const PUMP: &str = r#"{"device":"pump","celsius":71}"#;

fn websocket(gateway: &Gateway) -> String {
    format!("ws://{}/connection/websocket", gateway.address("web"))
}

/// A page that is subscribed to a channel; it ends with what it has seen.
async fn page(
    gateway: &Gateway,
    client: &str,
    encoding: &str,
    channel: &str,
) -> tokio::task::JoinHandle<Value> {
    let (client, url) = (client.to_owned(), websocket(gateway));
    let command =
        format!("tests/clients/centrifuge/{client} {url} {encoding} {channel} commands:all");
    let page = tokio::spawn(async move {
        let printed = match client.ends_with("js") {
            true => tools::shell(&format!("node {command}"), "").await,
            false => tools::python(&command.split(' ').collect::<Vec<_>>(), "").await,
        };
        serde_json::from_str(&printed.succeeded()).expect("it prints JSON")
    });
    let subscribed = |metrics: &weir_tests::Metrics| {
        metrics.value("weir_channels_subscriptions", &[("namespace", "sensors")]) == 1.0
    };
    gateway.wait_for("the page's subscription", subscribed).await;
    page
}

fn seen() -> Value {
    json!({ "reading": { "device": "pump", "celsius": 71 }, "user": "", "client": 36 })
}

#[tokio::test]
async fn a_device_with_lines_and_a_page_with_the_javascript_sdk_talk_to_each_other() {
    let gateway = devices(TALKING).await;
    for encoding in ["json", "protobuf"] {
        let page = page(&gateway, "device.js", encoding, "sensors:north.pump").await;
        let mut device = LinePeer::connect(gateway.address("north")).await;
        device.say(PUMP).await;
        assert!(device.hear().await.starts_with("ok "));
        assert_eq!(device.hear().await, "open pump");
        assert_eq!(page.await.expect("the page ends"), seen());
    }
    let origin = |origin| [("namespace", "sensors"), ("origin", origin)];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_channels_publications_total", &origin("route")), 2);
    assert_eq!(metrics.count("weir_channels_publications_total", &origin("client")), 0);
    assert_eq!(metrics.count("weir_channels_route_refused_total", &[]), 0);
}

#[tokio::test]
async fn a_device_with_length_frames_and_a_page_with_the_python_sdk_talk_to_each_other() {
    let gateway = devices(TALKING).await;
    for encoding in ["json", "protobuf"] {
        let page = page(&gateway, "device.py", encoding, "sensors:old.pump").await;
        let mut device = FramePeer::connect(gateway.address("old")).await;
        device.say(PUMP).await;
        assert!(device.hear().await.starts_with("ok "));
        assert_eq!(device.hear().await, "open pump");
        assert_eq!(page.await.expect("the page ends"), seen());
    }
}

#[tokio::test]
async fn a_plain_websocket_and_a_page_with_an_sdk_talk_to_each_other() {
    let gateway = devices(TALKING).await;
    let page = page(&gateway, "device.js", "json", "sensors:web.pump").await;
    let mut device = WebSocket::connect_to(gateway.address("web"), "/device", "").await;
    device.say(PUMP).await;
    assert_eq!(device.hear().await, "ok 1");
    assert_eq!(device.hear().await, "open pump");
    assert_eq!(page.await.expect("the page ends"), seen());
}

#[tokio::test]
async fn a_reading_comes_by_post_and_goes_to_a_plain_event_stream() {
    let keys = "subscribe = [\"sensors:web.pump\"]\npublications = \"envelope\"";
    let gateway = devices(keys).await;
    let mut events = HttpPeer::connect(gateway.address("web")).await;
    events.request("GET /events", "accept: text/event-stream\r\n", b"").await;
    let subscribed = |metrics: &weir_tests::Metrics| {
        metrics.value("weir_channels_subscriptions", &[("namespace", "sensors")]) == 1.0
    };
    gateway.wait_for("the subscription", subscribed).await;
    let reply = http::post(gateway.address("web"), "/publish", PUMP.as_bytes()).await;
    assert_eq!((reply.status, reply.text()), (200, "ok 1"));
    let reply = http::post(gateway.address("web"), "/publish", b"{}").await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"], "json.device is missing");
    assert!(reply.json()["request_id"].is_string());
    let mut peer = events.peer;
    let heard = peer.take_through(b"71}}").await.expect("an event");
    let heard = String::from_utf8(heard).expect("text");
    let event =
        r#"data: {"channel":"sensors:web.pump","offset":1,"data":{"device":"pump","celsius":71}}"#;
    assert!(heard.ends_with(event), "{heard}");
}

#[tokio::test]
async fn devices_on_two_listeners_publish_into_channels_of_their_own() {
    let keys = "channel = \"sensors:{listener}.{json.device}\"\npublications = \"envelope\"\n\
        subscribe = [\"sensors:{listener}.pump\"]";
    let gateway = devices(keys).await;
    let mut north = LinePeer::connect(gateway.address("north")).await;
    let mut south = LinePeer::connect(gateway.address("south")).await;
    let subscribed = |metrics: &weir_tests::Metrics| {
        metrics.value("weir_channels_subscriptions", &[("namespace", "sensors")]) == 2.0
    };
    gateway.wait_for("two subscriptions", subscribed).await;
    south.say(r#"{"device":"pump","n":1}"#).await;
    north.say(r#"{"device":"pump","n":2}"#).await;
    let channel = |line: String| {
        let line: Value = serde_json::from_str(&line).expect("an envelope");
        (line["channel"].clone(), line["data"]["n"].clone())
    };
    assert_eq!(channel(north.hear().await), (json!("sensors:north.pump"), json!(2)));
    assert_eq!(channel(south.hear().await), (json!("sensors:south.pump"), json!(1)));
    assert!(north.peer.stays_quiet(Duration::from_millis(100)).await);
}

#[tokio::test]
async fn what_a_device_may_not_say_is_refused_with_the_field_and_counted_and_told_to_nobody() {
    let gateway = devices(&format!("{TALKING}\nchannels_max = 2")).await;
    let mut device = LinePeer::connect(gateway.address("north")).await;
    let mut ask = async |line: &str| {
        device.say(line).await;
        let heard = device.hear().await;
        heard.split(" (request_id=").next().unwrap_or_default().to_owned()
    };
    let missing = "error: json.device is missing: the message is not a JSON object";
    assert_eq!(ask("27.5 C").await, missing);
    let part = "which a part of a channel's name cannot have here";
    for (value, mark) in [("a:b", "':'"), ("#ann", "'#'"), ("$x", "'$'")] {
        let answer = ask(&json!({ "device": value }).to_string()).await;
        assert_eq!(answer, format!("error: json.device has {mark}, {part}"));
    }
    let long = json!({ "device": "x".repeat(129) }).to_string();
    let over = "error: json.device has 129 bytes, and at most 128 are allowed";
    assert_eq!(ask(&long).await, over);
    assert_eq!(ask(r#"{"device":"a\u0007"}"#).await, "error: json.device has a control character");
    assert_eq!(ask(r#"{"device":"a"}"#).await, "ok 1");
    assert_eq!(ask(r#"{"device":"b"}"#).await, "ok 1");
    let many = "error: a connection publishes into at most channels_max = 2 channels";
    assert_eq!(ask(r#"{"device":"c"}"#).await, many);
    assert_eq!(ask(r#"{"device":"a"}"#).await, "ok 2");
    let refused = |reason| [("route", "devices"), ("reason", reason)];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_channels_route_refused_total", &refused("field")), 6);
    assert_eq!(metrics.count("weir_channels_route_refused_total", &refused("channels_max")), 1);
    assert_eq!(metrics.count("weir_channels_publications_total", &[]), 3);
}

#[tokio::test]
async fn a_device_may_do_what_its_principal_may_and_no_more() {
    let keys = "auth = \"api_key\"\nchannel = \"private:{principal}\"\nreply = \"ok\"\n\
        subscribe = [\"private:{principal}\"]";
    let gateway = devices(&format!("{keys}{KEYS}")).await;
    let mut known = LinePeer::connect(gateway.address("north")).await;
    known.say(API_KEY).await;
    known.say("27.5").await;
    assert_eq!([known.hear().await, known.hear().await], ["ok", "27.5"]);
    let mut stranger = LinePeer::connect(gateway.address("north")).await;
    stranger.say("27.5").await;
    assert_eq!(stranger.hear().await, "error: unauthorized");

    let open = "channel = \"private:x\"";
    let gateway = devices(open).await;
    let mut nobody = LinePeer::connect(gateway.address("north")).await;
    nobody.say("27.5").await;
    let denied = "error: permission denied in channel \"private:x\" (request_id=";
    assert!(nobody.hear().await.starts_with(denied));
    assert!(gateway.log().iter().any(|line| line.contains("nobody may publish into")));

    let open = "subscribe = [\"private:x\"]";
    let gateway = devices(open).await;
    let mut nobody = LinePeer::connect(gateway.address("north")).await;
    let denied = "error: cannot subscribe: permission denied in channel \"private:x\"";
    assert_eq!(nobody.hear().await, denied);
    assert_eq!(nobody.peer.expect_end().await, Ending::Closed);
    let mut socket = WebSocket::connect_to(gateway.address("web"), "/device", "").await;
    let close = socket.expect_close().await;
    assert_eq!(close, (1008, denied.trim_start_matches("error: ").to_owned()));
}

#[tokio::test]
async fn devices_are_told_to_go_by_a_drain_in_the_words_of_their_wire() {
    let mut gateway = devices(TALKING).await;
    let mut line = LinePeer::connect(gateway.address("north")).await;
    line.say(PUMP).await;
    assert_eq!(line.hear().await, "ok 1");
    let mut socket = WebSocket::connect_to(gateway.address("web"), "/device", "").await;
    gateway.signal(Signal::TERM);
    assert_eq!(socket.expect_close().await.0, 1001);
    assert_eq!(line.peer.expect_end().await, Ending::Closed);
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn a_device_that_does_not_read_is_ended_and_others_are_told_everything() {
    let gateway = devices(TALKING).limits("outbox_bytes_max = \"64KiB\"").await;
    let slow = Peer::connect_narrow(gateway.address("north")).await;
    let mut quick = LinePeer::connect(gateway.address("south")).await;
    let subscribed = |metrics: &weir_tests::Metrics| {
        metrics.value("weir_channels_subscriptions", &[("namespace", "commands")]) == 2.0
    };
    gateway.wait_for("two subscriptions", subscribed).await;
    let mut talker = LinePeer::connect(gateway.address("commands")).await;
    let filler = "x".repeat(1000);
    for n in 0..1000 {
        talker.say(&format!("{n} {filler}")).await;
        assert!(quick.hear().await.starts_with(&format!("{n} ")));
    }
    gateway.wait_for_closed("north", "slow_consumer", 1).await;
    let metrics = gateway.metrics().await;
    let labels = [("namespace", "commands"), ("action", "disconnected")];
    assert_eq!(metrics.count("weir_channels_slow_consumers_total", &labels), 1);
    drop(slow);
}

#[tokio::test]
async fn templates_that_cannot_hold_are_faults_all_at_once() {
    let text = r#"
[[listeners]]
name = "north"
address = "127.0.0.1:0"
wire = "lines"
route = "devices"
[[routes]]
name = "devices"
kind = "publish"
channel = "sensor:{jsn.device}"
subscribe = ["comands:all"]
[[routes]]
name = "others"
kind = "publish"
channel = "{json.kind}:all"
publications = "lines"
[[channels.namespaces]]
name = "sensors"
[[channels.namespaces]]
name = "commands"
"#;
    let file = config_file(text);
    let mut weir = weir_command().await;
    weir.arg("--config").arg(&file).arg("check");
    let finished = tools::run(weir, "").await;
    std::fs::remove_file(&file).expect("the file is ours");
    assert_eq!(finished.code, 2);
    for fault in [
        "routes[0].channel: \"sensor:{jsn.device}\": unknown placeholder {jsn.device}; did you mean \
         \"json.device\"?",
        "routes[0].subscribe: no namespace is named \"comands\"; did you mean \"commands\"?",
        "routes[1].channel: \"{json.kind}:all\": the namespace before \":\" must be written out, \
         without placeholders",
        "routes[1].publications: \"lines\" is not one of",
    ] {
        assert!(finished.stderr.contains(fault), "{fault}\n{}", finished.stderr);
    }
}
