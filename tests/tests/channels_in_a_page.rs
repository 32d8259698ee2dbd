//! Channels in a page in Chromium, by the unchanged browser builds of the JavaScript SDK: every command
//! over every transport in every encoding, and tokens.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use weir_tests::gateway::Start;
use weir_tests::tokens::{SECRET, in_seconds};
use weir_tests::{Browser, Gateway, Issuer, tools};

/// What everybody may do who can connect, with a history.
const OPEN: &str = "history_size = 100\nhistory_ttl = \"10m\"\nallow_recovery = true\n\
    allow_positioning = true\npresence = true\njoin_leave = true\n\
    allow_subscribe_for_client = true\nallow_subscribe_for_anonymous = true\n\
    allow_publish_for_client = true\nallow_publish_for_anonymous = true\n\
    allow_presence_for_client = true\nallow_presence_for_anonymous = true\n\
    allow_history_for_client = true\nallow_history_for_anonymous = true\n";

/// A weir with the paths that the SDK knows, and these keys of `[channels]`.
fn channels(keys: &str) -> Start {
    let path = |path, kind| {
        format!("[[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"channels\"\n")
    };
    let paths = [
        path("/connection/websocket", "websocket"),
        path("/connection/sse", "sse"),
        path("/connection/http_stream", "http_stream"),
        path("/emulation", "post"),
    ];
    Gateway::start().tables(&format!(
        "[[listeners]]\nname = \"channels\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n{}\
         [[routes]]\nname = \"channels\"\nkind = \"channels\"\n\
         [channels]\n{keys}\n[channels.without_namespace]\n{OPEN}",
        paths.concat(),
    ))
}

/// A page of weir's own host with the SDK of this encoding in it.
async fn go(page: &mut Browser, gateway: &Gateway, encoding: &str) {
    page.go(&format!("http://{}/", gateway.address("channels"))).await;
    let build = if encoding == "protobuf" { "centrifuge.protobuf.js" } else { "centrifuge.js" };
    let sdk = tools::read(&format!("tests/.tools/node_modules/centrifuge/dist/{build}"));
    page.run(&format!("{sdk}\n0")).await;
}

/// Runs a script that is written for Node, as it is, in the page. Its `require` finds what there is.
async fn run(page: &mut Browser, script: &str, arguments: &[&str]) -> Value {
    let shared = tools::read("tests/clients/centrifuge/page.js");
    let script = tools::read(&format!("tests/clients/centrifuge/{script}"));
    let script: String =
        script.replace("require(\"./sdk.js\")", "sdk").replace("\nmain(", "\nreturn main(");
    let arguments = json!([&["node", "script"], arguments].concat());
    page.run(&format!(
        "(() => {{ {shared}\nconst sdk = {{ client, next, until, pack, unpack, main }};\n\
         return ((sdk, process) => {{ {script} }})(sdk, {{ argv: {arguments} }}); }})()"
    ))
    .await
}

#[tokio::test]
async fn a_page_says_everything_over_every_transport_in_every_encoding() {
    let mut page = Browser::open("about:blank").await;
    for (transport, encoding) in [
        ("websocket", "json"),
        ("websocket", "protobuf"),
        ("http_stream", "json"),
        ("http_stream", "protobuf"),
        ("sse", "json"),
    ] {
        let gateway = channels("allow_anonymous_connect_without_token = true").await;
        go(&mut page, &gateway, encoding).await;
        let url = match transport {
            "websocket" => format!("ws://{}/connection/websocket", gateway.address("channels")),
            stream => format!("/connection/{stream}"),
        };
        let seen = run(&mut page, "conversation.js", &[&url, encoding]).await;
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
        assert_eq!(seen, expected, "{transport} {encoding}");
    }
}

#[tokio::test]
async fn a_page_with_a_token_gets_its_channels_and_asks_for_another_token_in_time() {
    let key = format!(
        "expired_close_delay = \"1s\"\n[[channels.token.keys]]\nname = \"main\"\n\
         algorithm = \"hmac\"\nkey = \"{SECRET}\"\n"
    );
    let gateway = channels(&key).await;
    let issuer = Issuer::hmac(Algorithm::HS256);
    let token = |seconds| {
        let claims = json!({"sub": "ann", "channels": ["news"], "exp": in_seconds(seconds)});
        issuer.sign(&claims)
    };
    let of_room = issuer.sign(&json!({"sub": "ann", "channel": "$room", "exp": in_seconds(60)}));
    let mut page = Browser::open("about:blank").await;
    go(&mut page, &gateway, "json").await;
    let script = format!(
        "(async () => {{
            const seen = {{ refreshed: 0, codes: [] }};
            const client = new Centrifuge('ws://' + location.host + '/connection/websocket', {{
                token: {:?}, getToken: async () => {{ seen.refreshed += 1; return {:?}; }},
            }});
            client.on('connecting', (event) => seen.codes.push(event.code));
            const news = new Promise((done) => client.on('publication', done));
            client.connect();
            const room = client.newSubscription('$room', {{ token: {of_room:?} }});
            room.subscribe();
            await room.ready(5000);
            await client.publish('news', 1);
            seen.news = (await news).channel;
            seen.users = (await client.presenceStats('news')).numUsers;
            await new Promise((done) => setTimeout(done, 3500));
            seen.state = client.state;
            const forged = new Centrifuge('ws://' + location.host + '/connection/websocket', {{
                token: 'nonsense',
            }});
            const refused = new Promise((done) => forged.on('disconnected', done));
            forged.connect();
            seen.forged = (await refused).code;
            client.disconnect();
            return seen;
        }})()",
        token(2),
        token(3600),
    );
    let seen = page.run(&script).await;
    // The new token came in time, so nothing was connected again.
    let expected = json!({
        "refreshed": 1, "codes": [0], "news": "news", "users": 1, "state": "connected", "forged": 3500,
    });
    assert_eq!(seen, expected);
}
