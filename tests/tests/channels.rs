//! Channels, by the unchanged SDKs of the client protocol: JavaScript and Python, JSON and Protobuf,
//! against the real program.

use rustix::process::Signal;
use serde_json::{Value, json};
use weir_tests::gateway::Start;
use weir_tests::{Gateway, LinePeer, Peer, WebSocket, http, tools};

const SECRET: &str = "a-shared-secret-of-32-bytes-or-more";

/// What everybody may do who can connect, with a history.
const OPEN: &str = "history_size = 100\nhistory_ttl = \"10m\"\nallow_recovery = true\n\
    allow_positioning = true\npresence = true\njoin_leave = true\n\
    allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n\
    allow_publish_for_client = true\nallow_publish_for_anonymous = true\n\
    allow_presence_for_client = true\nallow_presence_for_anonymous = true\n\
    allow_history_for_client = true\nallow_history_for_anonymous = true\n";

/// A weir whose path `/connection/websocket` speaks the client protocol.
fn channels(keys: &str) -> Start {
    channels_at("127.0.0.1:0", keys)
}

fn channels_at(address: &str, keys: &str) -> Start {
    Gateway::start()
        .tables(&format!(
            "[[listeners]]\nname = \"channels\"\naddress = \"{address}\"\nwire = \"http\"\n\
             [[listeners.paths]]\npath = \"/connection/websocket\"\nkind = \"websocket\"\n\
             route = \"channels\"\n[[routes]]\nname = \"channels\"\nkind = \"channels\"\n"
        ))
        .tables(&format!("[channels]\n{keys}\n[channels.without_namespace]\n{OPEN}"))
}

/// Nobody needs a token.
const ANYBODY: &str = "allow_anonymous_connect_without_token = true";

fn open() -> Start {
    channels(ANYBODY)
}

fn url(gateway: &Gateway) -> String {
    format!("ws://{}/connection/websocket", gateway.address("channels"))
}

async fn node(script: &str, arguments: &str) -> Value {
    let command = format!("node tests/clients/centrifuge/{script} {arguments}");
    let printed = tools::shell(&command, "").await.succeeded();
    serde_json::from_str(&printed).expect("node prints JSON")
}

async fn javascript_talks(encoding: &str) {
    let gateway = open().await;
    let seen = node("conversation.js", &format!("{} {encoding}", url(&gateway))).await;
    let expected = json!({
        "transport": "websocket",
        "subscribed": [true, true, false],
        "published": [[1, {"n": 1}], [2, {"n": "żółw"}], [3, 3]],
        "joined": true,
        "history": [{"n": 1}, {"n": "żółw"}],
        "reversed": [2],
        "presence": true,
        "stats": {"numClients": 2, "numUsers": 1},
        "rpc": 108,
        "unknown": 102,
        "left": true,
    });
    assert_eq!(seen, expected);
    let errors = |error| [("error", error)];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_channels_errors_total", &errors("not_available")), 1);
    assert_eq!(metrics.count("weir_channels_errors_total", &errors("unknown_channel")), 1);
    assert_eq!(metrics.count("weir_channels_publications_total", &[]), 3);
}

#[tokio::test]
async fn the_javascript_sdk_talks_in_json() {
    javascript_talks("json").await;
}

#[tokio::test]
async fn the_javascript_sdk_talks_in_protobuf() {
    javascript_talks("protobuf").await;
}

async fn python_talks(encoding: &str) {
    let gateway = open().await;
    let arguments = ["tests/clients/centrifuge/conversation.py", &url(&gateway), encoding];
    let printed = tools::python(&arguments, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("python prints JSON");
    let expected = json!({
        "published": [[1, {"n": 1}], [2, {"n": "żółw"}]],
        "history": [{"n": 1}, {"n": "żółw"}],
        "presence": 2,
        "stats": [2, 1],
        "rpc": 108,
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_python_sdk_talks_in_json() {
    python_talks("json").await;
}

#[tokio::test]
async fn the_python_sdk_talks_in_protobuf() {
    python_talks("protobuf").await;
}

#[tokio::test]
async fn a_cut_network_loses_nothing_and_doubles_nothing() {
    let gateway = open().await;
    for encoding in ["json", "protobuf"] {
        let address = gateway.address("channels");
        let arguments = format!("{} {} {encoding}", address.ip(), address.port());
        let seen = node("cut.js", &arguments).await;
        assert_eq!(seen["exact"], true, "{seen}");
        assert_eq!(seen["recovered"], json!([true, true, true, true, true]));
    }
    let labels = [("outcome", "recovered")];
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_channels_recoveries_total", &labels), 10);
}

#[tokio::test]
async fn a_weir_that_was_started_anew_says_that_it_cannot_recover() {
    let mut first = open().await;
    let address = first.address("channels");
    let arguments = url(&first);
    let client = tokio::spawn(async move { node("restart.js", &arguments).await });
    let published =
        |metrics: &weir_tests::Metrics| metrics.count("weir_channels_publications_total", &[]) == 1;
    first.wait_for("a publication", published).await;
    first.signal(Signal::TERM);
    assert_eq!(first.exit_code().await, 0);
    let _second = channels_at(&address.to_string(), ANYBODY).await;
    let seen = client.await.expect("the client ends");
    // 3001: told to go, and to come back.
    assert_eq!(seen["connecting"][1], 3001, "{seen}");
    assert_eq!((&seen["wasRecovering"], &seen["recovered"]), (&json!(true), &json!(false)));
    assert_eq!(seen["offset"], 1, "the stream has begun anew");
}

#[tokio::test]
async fn tokens_say_who_comes_in_what_it_is_given_and_for_how_long() {
    let key = format!(
        "expired_close_delay = \"1s\"\n[[channels.token.keys]]\nname = \"main\"\n\
         algorithm = \"hmac\"\nkey = \"{SECRET}\"\n"
    );
    let gateway = channels(&key).await;
    let seen = node("tokens.js", &format!("{} {SECRET}", url(&gateway))).await;
    let expected = json!({
        "serverSide": ["news", "user_ann"],
        // It had expired, and there was no other: the SDK gives up.
        "denied": 1,
        "pushed": "news",
        "info": {"name": "Ann"},
        "refreshed": 1,
        "state": "connected",
        "forged": 3500,
        "nobody": 3501,
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn one_tcp_listener_speaks_json_and_protobuf() {
    let gateway = open()
        .tables(
            "[[listeners]]\nname = \"tcp\"\naddress = \"127.0.0.1:0\"\nwire = \"lines\"\n\
             route = \"channels\"\n",
        )
        .await;
    let mut binary = Peer::connect(gateway.address("tcp")).await;
    // A command is its length, its id, and what it asks for: to connect, to subscribe to "n".
    binary.send(b"\x04\x08\x01\x22\x00\x07\x08\x02\x2a\x03\x0a\x01n").await;
    for (id, field) in [(1, 0x2a), (2, 0x32)] {
        let reply = behind_length(&mut binary).await;
        assert_eq!(reply[..3], [8, id, field], "{reply:?}");
    }
    let mut text = LinePeer::connect(gateway.address("tcp")).await;
    text.say(r#"{"id":1,"connect":{}}"#).await;
    assert!(text.hear().await.starts_with(r#"{"id":1,"connect""#));
    text.say(r#"{"id":2,"publish":{"channel":"n","data":{"v":7}}}"#).await;
    assert_eq!(text.hear().await, r#"{"id":2,"publish":{}}"#);
    let push = behind_length(&mut binary).await;
    assert_eq!(push[0], 0x22, "{push:?}");
    assert!(push.windows(7).any(|part| part == br#"{"v":7}"#), "{push:?}");
    let metrics = gateway.metrics().await;
    let tcp = [("listener", "tcp"), ("route", "channels")];
    assert_eq!(metrics.count("weir_messages_received_total", &tcp), 4);
}

/// The next message that has its length in front, in one byte.
async fn behind_length(peer: &mut Peer) -> Vec<u8> {
    let length = peer.take(1).await[0];
    assert!(length < 0x80, "a short message");
    peer.take(length.into()).await
}

#[tokio::test]
async fn a_client_is_told_the_time_and_that_it_is_not_pinged_when_that_is_wanted() {
    let gateway = channels(&format!("{ANYBODY}\nconnect_include_server_time = true")).await;
    let path = "/connection/websocket?cf_ws_frame_ping_pong=true";
    let mut socket = WebSocket::connect_to(gateway.address("channels"), path, "").await;
    socket.say(r#"{"id":1,"connect":{}}"#).await;
    let reply: Value = serde_json::from_str(&socket.hear().await).expect("JSON");
    let connect = &reply["connect"];
    assert_eq!((&connect["ping"], &connect["pong"]), (&Value::Null, &Value::Null));
    let told = connect["time"].as_u64().expect("a time");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis() as u64;
    assert!(told <= now && now - told < 60_000, "{told} {now}");
}

#[tokio::test]
async fn there_are_no_unidirectional_transports() {
    let gateway = open().await;
    for path in ["uni_websocket", "uni_sse", "uni_http_stream"] {
        let path = format!("/connection/{path}?cf_connect=%7B%7D");
        assert_eq!(http::get(gateway.address("channels"), &path).await.status, 404, "{path}");
    }
}
