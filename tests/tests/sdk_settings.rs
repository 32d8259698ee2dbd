//! The settings of the servers that the SDKs' own tests run against, in weir's words, and what those
//! tests ask of a server beyond a conversation: applications that change their mind at once, networks that come
//! and go, tokens that take their time.

use serde_json::{Value, json};
use weir_tests::gateway::Start;
use weir_tests::{Gateway, tools};

/// So short that weir has to be asked for it.
const SECRET: &str = "secret";

/// `paths` are pairs of a path and its kind; `keys` are what follows in the configuration.
fn server(paths: &[(&str, &str)], keys: &str) -> Start {
    let paths = paths.iter().map(|(path, kind)| {
        format!("[[listeners.paths]]\npath = \"{path}\"\nkind = \"{kind}\"\nroute = \"channels\"\n")
    });
    Gateway::start().tables(&format!(
        "[[listeners]]\nname = \"channels\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n{}\
         [[routes]]\nname = \"channels\"\nkind = \"channels\"\n{keys}\n\
         [channels.token]\nshort_secrets = true\n[[channels.token.keys]]\nname = \"main\"\n\
         algorithm = \"hmac\"\nkey = \"{SECRET}\"\n",
        paths.collect::<String>()
    ))
}

/// That of the JavaScript SDK: `client.insecure`, presence, and all three transports.
fn for_javascript() -> Start {
    let paths = [
        ("/connection/websocket", "websocket"),
        ("/connection/http_stream", "http_stream"),
        ("/connection/sse", "sse"),
        ("/emulation", "post"),
    ];
    server(&paths, "[channels]\ninsecure = true\n[channels.without_namespace]\npresence = true\n")
}

async fn is_patient(scheme: &str, transport: &str) {
    let gateway = for_javascript().await;
    let url = format!("{scheme}://{}/connection/{transport}", gateway.address("channels"));
    let command = format!("node tests/clients/centrifuge/impatience.js {url} {SECRET}");
    let printed = tools::shell(&command, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("node prints JSON");
    let expected = json!({
        "rpc": 108,
        "connectLoop": 0,
        "present": [1, 1],
        "absent": [0, 0],
        "again": 0,
        "cut": 1,
        "moved": 0,
        "tokens": 10,
    });
    assert_eq!(seen, expected);
    gateway.wait_for_open("channels", 0).await;
}

#[tokio::test]
async fn an_application_may_change_its_mind_over_a_websocket() {
    is_patient("ws", "websocket").await;
}

#[tokio::test]
async fn an_application_may_change_its_mind_over_an_http_stream() {
    is_patient("http", "http_stream").await;
}

#[tokio::test]
async fn an_application_may_change_its_mind_over_events() {
    is_patient("http", "sse").await;
}

/// That of the Python SDK: tokens, a personal channel, and everything forced.
fn for_python() -> Start {
    let history = |size: u32| {
        format!(
            "history_size = {size}\nhistory_ttl = \"300s\"\nforce_recovery = true\n\
             allow_publish_for_subscriber = true\nallow_history_for_subscriber = true\n"
        )
    };
    let keys = format!(
        "[channels]\nsubscribe_to_user_personal_channel = true\n[channels.without_namespace]\n\
         presence = true\njoin_leave = true\nforce_push_join_leave = true\n\
         allow_presence_for_subscriber = true\n{}\
         [[channels.namespaces]]\nname = \"smallhistory\"\n{}",
        history(100),
        history(2)
    );
    server(&[("/connection/websocket", "websocket")], &keys)
}

async fn is_the_users_own(encoding: &str) {
    let gateway = for_python().await;
    let url = format!("ws://{}/connection/websocket", gateway.address("channels"));
    let arguments = ["tests/clients/centrifuge/personal.py", &url, encoding, SECRET];
    let printed = tools::python(&arguments, "").await.succeeded();
    let seen: Value = serde_json::from_str(&printed).expect("python prints JSON");
    let expected = json!({
        "own": ["#42", true, {"n": 1}],
        "back": [false, true, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
        "late": [false, false, []],
        "refused": [3500, 103, "connected"],
    });
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_user_has_a_channel_and_comes_back_to_others_in_json() {
    is_the_users_own("json").await;
}

#[tokio::test]
async fn a_user_has_a_channel_and_comes_back_to_others_in_protobuf() {
    is_the_users_own("protobuf").await;
}
