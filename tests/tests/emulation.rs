//! Channels over Server-Sent Events and HTTP streams, with commands beside them, by the unchanged
//! JavaScript SDK in Node and in a browser.

use rustix::process::Signal;
use serde_json::{Value, json};
use weir_tests::gateway::Start;
use weir_tests::http::HttpPeer;
use weir_tests::{Browser, Gateway, http, tools};

/// A weir with the paths that the SDKs know, where everybody may do everything.
fn channels() -> Start {
    let path = |path, kind| {
        format!("[[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"channels\"\n")
    };
    let paths = [
        path("/connection/sse", "sse"),
        path("/connection/http_stream", "http_stream"),
        path("/emulation", "post"),
    ];
    let allow = ["subscribe", "publish", "presence", "history"]
        .map(|what| format!("allow_{what}_for_client = true\nallow_{what}_for_anonymous = true\n"));
    Gateway::start().tables(&format!(
        "[[listeners]]\nname = \"channels\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n{}\
         [[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
         [channels]\nallow_anonymous_connect_without_token = true\n\
         [channels.without_namespace]\nhistory_size = 100\nhistory_ttl = \"10m\"\n\
         allow_recovery = true\nallow_positioning = true\npresence = true\njoin_leave = true\n{}",
        paths.concat(),
        allow.concat()
    ))
}

async fn talks(transport: &str, encoding: &str) {
    let gateway = channels().await;
    let url = format!("http://{}/connection/{transport}", gateway.address("channels"));
    let command = format!("node tests/clients/centrifuge/conversation.js {url} {encoding}");
    let printed = tools::shell(&command, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("node prints JSON");
    let expected = json!({
        "transport": transport,
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
    gateway.wait_for_open("channels", 0).await;
}

#[tokio::test]
async fn the_javascript_sdk_talks_over_events() {
    talks("sse", "json").await;
}

#[tokio::test]
async fn the_javascript_sdk_talks_over_a_stream_in_json() {
    talks("http_stream", "json").await;
}

#[tokio::test]
async fn the_javascript_sdk_talks_over_a_stream_in_protobuf() {
    talks("http_stream", "protobuf").await;
}

#[tokio::test]
async fn a_page_in_chromium_subscribes_and_publishes_over_both() {
    let gateway = channels().await;
    let address = gateway.address("channels");
    let sdk = tools::read("tests/.tools/node_modules/centrifuge/dist/centrifuge.js");
    let mut browser = Browser::open(&format!("http://{address}/")).await;
    browser.run(&format!("{sdk}; window.Centrifuge = Centrifuge; 0")).await;
    for transport in ["sse", "http_stream"] {
        let script = format!(
            "new Promise((done, fail) => {{
                const endpoint = '/connection/{transport}';
                const client = new Centrifuge([{{ transport: '{transport}', endpoint }}]);
                const room = client.newSubscription('{transport}');
                room.on('publication', event => {{ client.disconnect(); done(event.data); }});
                room.on('subscribed', () => room.publish({{ over: '{transport}' }}).catch(fail));
                room.subscribe();
                client.connect();
            }})"
        );
        assert_eq!(browser.run(&script).await, json!({ "over": transport }));
    }
}

#[tokio::test]
async fn a_stop_says_3001_in_open_streams_and_503_to_new_ones() {
    let shutdown = "unready = \"2s\"\ndrain = \"2s\"\nforce = \"1s\"\nflush = \"1s\"";
    let mut gateway = channels().shutdown(shutdown).await;
    let address = gateway.address("channels");
    let (open, request) = ("POST /connection/http_stream", br#"{"id":1,"connect":{}}"#);
    let mut early = HttpPeer::connect(address).await;
    early.request(open, "", request).await;
    let mut late = HttpPeer::connect(address).await;
    gateway.wait_for_open("channels", 2).await;
    gateway.signal(Signal::TERM);
    gateway.logged("the stage", |line| line["stage"] == "unready").await;
    late.request(open, "", request).await;
    let refused = late.reply().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let stream = early.reply().await;
    let last = stream.text().lines().last().expect("lines").to_owned();
    let last: Value = serde_json::from_str(&last).expect("a line is JSON");
    assert_eq!(last["push"]["disconnect"]["code"], 3001, "{last}");
    assert_eq!(gateway.exit_code().await, 0);
}

#[tokio::test]
async fn commands_for_nobody_are_told_of_only_when_the_node_is_another() {
    let gateway = channels().await;
    let address = gateway.address("channels");
    let json = "Content-Type: application/json\r\n";
    let other = br#"{"node":"other","session":"x","data":"{}"}"#;
    assert_eq!(http::request(address, "POST /emulation", json, other).await.status, 404);
    assert_eq!(http::request(address, "POST /emulation", json, b"nonsense").await.status, 400);
    assert_eq!(http::request(address, "GET /emulation", "", b"").await.status, 405);
}
