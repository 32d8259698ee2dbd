//! Clients that are not ours, against the same server: nc, logger, curl, Chromium, Node's `ws`,
//! Python's `websockets`.

use serde_json::{Value, json};
use weir_tests::pki::Pki;
use weir_tests::tools::{self, shell};
use weir_tests::{Browser, Gateway};

/// What every WebSocket client sees of the conversation in `tests/clients/conversation.js`.
fn conversation() -> Vec<Value> {
    vec![
        json!("hello"),
        json!("żółw, 鱼, 🐟"),
        json!("0 127 128 255"),
        json!(60_000),
        json!("in order: true"),
        json!("closed: 1000 clean"),
    ]
}

/// What weir closes with when a message is over the limit.
fn too_big() -> Value {
    json!("closed: 1009 message over limits.message_bytes_max = 65536 bytes")
}

fn conversation_and_more() -> Value {
    let more = [too_big(), json!("pong: are you there?"), json!("whole: one, two, three")];
    conversation().into_iter().chain(more).collect()
}

#[tokio::test]
async fn chromium_talks_from_a_page_of_the_same_host() {
    let gateway = Gateway::start().await;
    let address = gateway.address("http");
    let script = tools::read("tests/clients/conversation.js");
    let connect = format!("() => new WebSocket('ws://{address}/ws')");

    let mut browser = Browser::open(&format!("http://{address}/")).await;
    let seen = browser.run(&format!("{script}; conversation({connect})")).await;
    assert_eq!(seen, Value::from(conversation()));
    assert_eq!(browser.run(&format!("tooBig({connect})")).await, too_big());
    drop(browser);

    // A page from elsewhere has another origin: it cannot ride on the user's connection.
    let other = gateway.address("ops");
    let mut browser = Browser::open(&format!("http://{other}/healthz")).await;
    let refused = format!(
        "new Promise(done => {{ const s = ({connect})(); \
         s.onopen = () => done('open'); s.onerror = () => done('refused'); }})"
    );
    assert_eq!(browser.run(&refused).await, json!("refused"));
}

#[tokio::test]
async fn chromium_talks_over_tls_with_whom_it_trusts_and_with_nobody_else() {
    let (pki, strangers) = (Pki::new(), Pki::new());
    let known = pki.issue("weir", &["weir.example"]);
    let unknown = strangers.issue("mallory", &["mallory.example"]);
    let echo = "[[listeners.paths]]\npath = \"/ws\"\nkind = \"websocket\"\nroute = \"main\"\n\
                origins = [\"*\"]\n";
    let gateway = Gateway::start()
        .listener("http", &known.listener(""))
        .tables(&format!(
            "[[listeners]]\nname = \"stranger\"\naddress = \"127.0.0.1:0\"\nwire = \"http\"\n{}\n{echo}",
            unknown.listener("")
        ))
        .await;
    let port = gateway.address("http").port();
    let script = tools::read("tests/clients/conversation.js");
    let connect = format!("() => new WebSocket('wss://weir.example:{port}/ws')");
    let fetched = format!(
        "fetch('https://weir.example:{port}/echo', {{ method: 'POST', body: 'żółw' }})\
         .then(reply => reply.text())"
    );

    let page = format!("https://weir.example:{port}/");
    let mut browser = Browser::open_trusting(&pki, &page).await;
    assert_eq!(browser.run("isSecureContext").await, json!(true));
    assert_eq!(browser.run(&fetched).await, json!("żółw"));
    let seen = browser.run(&format!("{script}; conversation({connect})")).await;
    assert_eq!(seen, Value::from(conversation()));
    assert_eq!(browser.run(&format!("tooBig({connect})")).await, too_big());

    // The same listener by a name that the certificate does not have, and one by a stranger.
    let stranger = gateway.address("stranger").port();
    for host in [format!("other.example:{port}"), format!("mallory.example:{stranger}")] {
        let refused = format!(
            "new Promise(done => {{ const s = new WebSocket('wss://{host}/ws'); \
             s.onopen = () => done('open'); s.onerror = () => done('refused'); }})"
        );
        assert_eq!(browser.run(&refused).await, json!("refused"), "{host}");
    }
    let told = |metrics: &weir_tests::Metrics| {
        let labels = [("listener", "stranger"), ("result", "peer_refused")];
        metrics.count("weir_tls_handshakes_total", &labels)
    };
    gateway.wait_for("the browser's alert", |metrics| told(metrics) >= 1).await;
}

#[tokio::test]
async fn the_ws_of_node_talks() {
    let gateway = Gateway::start().await;
    let url = format!("ws://{}/ws", gateway.address("http"));
    let seen = shell(&format!("node tests/clients/node.js {url}"), "").await.succeeded();
    let seen: Value = serde_json::from_str(&seen).expect("node prints JSON");
    assert_eq!(seen, conversation_and_more());
}

#[tokio::test]
async fn the_websockets_of_python_talks() {
    let gateway = Gateway::start().await;
    let url = format!("ws://{}/ws", gateway.address("http"));
    let python = "tests/.tools/venv/bin/python tests/clients/python.py";
    let seen = shell(&format!("{python} {url}"), "").await.succeeded();
    let seen: Value = serde_json::from_str(&seen).expect("python prints JSON");
    assert_eq!(seen, conversation_and_more());
}

#[tokio::test]
async fn nc_talks_lines() {
    let gateway = Gateway::start().await;
    let port = gateway.address("lines").port();
    let command = format!("nc 127.0.0.1 {port}");
    let heard = shell(&command, "hello\nthere\nexit\n").await.succeeded();
    assert_eq!(heard, "hello\nthere\n");
    let heard = shell(&format!("nc -N 127.0.0.1 {port}"), "half closed\n").await.succeeded();
    assert_eq!(heard, "half closed\n");
}

#[tokio::test]
async fn logger_is_understood_with_and_without_octet_counts() {
    let tables = r#"
[[listeners]]
name = "syslog"
address = "127.0.0.1:0"
wire = "lines"
route = "discard"
[[listeners]]
name = "syslog-framed"
address = "127.0.0.1:0"
wire = "length"
prefix = "octet_counting"
route = "discard"
[[routes]]
name = "discard"
kind = "discard"
"#;
    let gateway = Gateway::start().tables(tables).await;
    for (listener, flag) in [("syslog", ""), ("syslog-framed", "--octet-count")] {
        let port = gateway.address(listener).port();
        let lines = "the first line\nthe second line\nthe third line\n";
        let command = format!("logger --server 127.0.0.1 --port {port} --tcp {flag}");
        shell(&command, lines).await.succeeded();
        let labels = [("listener", listener)];
        gateway
            .wait_for("three lines of logger's", |metrics| {
                metrics.count("weir_messages_received_total", &labels) == 3
            })
            .await;
        gateway.wait_for_closed(listener, "peer_closed", 1).await;
    }
}

#[tokio::test]
async fn curl_talks_http() {
    let gateway = Gateway::start().await;
    let url = format!("http://{}/echo", gateway.address("http"));
    let curl = "curl --silent --show-error --fail-with-body";
    assert_eq!(shell(&format!("{curl} --data hello {url}"), "").await.succeeded(), "hello");
    let chunked = format!("{curl} --header 'Transfer-Encoding: chunked' --data-binary @- {url}");
    assert_eq!(shell(&chunked, "from a pipe").await.succeeded(), "from a pipe");
    let twice = format!("{curl} --data one {url} --next --silent --data two {url}");
    assert_eq!(shell(&twice, "").await.succeeded(), "onetwo");
    let large = format!("head -c 70000 /dev/zero | {curl} --data-binary @- {url}");
    let refused = shell(&large, "").await;
    assert_ne!(refused.code, 0);
    assert!(refused.stdout.contains("limits.message_bytes_max = 65536"), "{refused:?}");
}
