//! Metrics that are true: they equal what was sent to the byte, agree with the kernel, and their
//! number does not grow with traffic.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use weir_tests::pki::Pki;
use weir_tests::rows::Client;
use weir_tests::{
    FramePeer, Gateway, LinePeer, Metrics, Peer, Upstream, WebSocket, http, kernel, tools, wait,
};

#[tokio::test]
async fn counters_equal_what_was_sent_to_the_byte() {
    let gateway = Gateway::start().await;
    for count in [1_u64, 7, 100] {
        let before = gateway.metrics().await;
        exchange::<LinePeer>(&gateway, &before, count, 0).await;
        exchange::<FramePeer>(&gateway, &before, count, 0).await;
        // A server's frame has no mask: 4 bytes less than the client's.
        exchange::<WebSocket>(&gateway, &before, count, 4).await;
    }
}

/// Sends `count` messages on a connection of their own and compares every counter's growth.
async fn exchange<C: Client>(gateway: &Gateway, before: &Metrics, count: u64, mask: usize) {
    let labels = [("listener", C::LISTENER)];
    let sent_before = before.count("weir_messages_sent_total", &labels);
    // What is written is counted behind its write: a first message, so that a handshake is counted.
    let counted = async |count| {
        let holds = |metrics: &Metrics| {
            metrics.count("weir_messages_sent_total", &labels) >= sent_before + count
        };
        gateway.wait_for("every reply to be counted", holds).await
    };
    let mut client = C::join(gateway).await;
    client.echo("first").await;
    let opened = counted(1).await;
    let (mut sent, mut heard) = (0, 0);
    for n in 0..count {
        let text = format!("message {n}");
        let bytes = C::encode(&text).len();
        (sent, heard) = (sent + bytes, heard + bytes - mask);
        client.echo(&text).await;
    }
    let after = counted(count + 1).await;
    let grown = |since: &Metrics, name| after.count(name, &labels) - since.count(name, &labels);
    assert_eq!(grown(before, "weir_connections_opened_total"), 1);
    assert_eq!(grown(&opened, "weir_messages_received_total"), count);
    assert_eq!(grown(&opened, "weir_messages_sent_total"), count);
    assert_eq!(grown(&opened, "weir_received_bytes_total"), sent as u64);
    assert_eq!(grown(&opened, "weir_sent_bytes_total"), heard as u64);
}

#[tokio::test]
async fn open_equals_what_the_kernel_says_after_every_round_of_churn() {
    let gateway = Gateway::start().await;
    let mut lines = Vec::new();
    let mut sockets = Vec::new();
    for round in 0..20 {
        for n in 0..30 {
            lines.push(LinePeer::join(&gateway).await);
            sockets.push(WebSocket::join(&gateway).await);
            match (round + n) % 5 {
                0 => drop(lines.swap_remove(n % lines.len())),
                1 => lines.swap_remove(n % lines.len()).into_peer().reset(),
                2 => sockets.swap_remove(n % sockets.len()).into_peer().reset(),
                3 => drop(sockets.swap_remove(n % sockets.len())),
                _ => {}
            }
        }
        assert_agrees(&gateway, "lines", lines.len()).await;
        assert_agrees(&gateway, "http", sockets.len()).await;
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_connections_opened_total", &[("listener", "lines")]), 600);
}

async fn assert_agrees(gateway: &Gateway, listener: &str, expected: usize) {
    let port = gateway.address(listener).port();
    let labels = [("listener", listener)];
    wait::eventually("weir, the kernel and the test to agree", async || {
        let metrics = gateway.metrics().await;
        let opened = metrics.count("weir_connections_opened_total", &labels);
        let closed = metrics.count("weir_connections_closed_total", &labels);
        let open = metrics.count("weir_connections_open", &labels);
        assert_eq!(open, opened - closed, "one scrape contradicts itself");
        let kernel = kernel::established(port) as u64;
        (open == kernel && open == expected as u64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_label_grows_with_traffic() {
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    one_of_each(&gateway, 0).await;
    let before = gateway.metrics().await;
    for n in 1..=1_000 {
        one_of_each(&gateway, n).await;
    }
    let after = gateway.metrics().await;
    assert_eq!(after.series(), before.series(), "series grew with clients");
}

/// One client with an address, a path and a request id of its own.
async fn one_of_each(gateway: &Gateway, n: u16) {
    let [high, low] = n.to_be_bytes();
    let from = Ipv4Addr::new(127, 1, high, low).into();
    let mut line = LinePeer { peer: Peer::connect_from(from, gateway.address("lines")).await };
    line.say("hello").await;
    assert_eq!(line.hear().await, "answer: hello");
    let id = format!("x-request-id: request-{n}\r\n");
    let address = gateway.address("http");
    assert_eq!(http::request(address, "POST /echo", &id, b"hello").await.status, 200);
    let path = format!("POST /nowhere/{n}");
    assert_eq!(http::request(address, &path, &id, b"hello").await.status, 404);
    let method = format!("M{n} /echo");
    assert_eq!(http::request(address, &method, &id, b"").await.status, 405);
}

#[tokio::test]
async fn promtool_finds_nothing_to_say() {
    let gateway = Gateway::start().await;
    let page = gateway.ops("/metrics").await;
    let checked = tools::shell("promtool check metrics", page.text()).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
}

/// A key set that nobody publishes, an API key, and a route that publishes.
const IDENTITIES: &str = r#"
[auth.jwks]
url = "http://127.0.0.1:9/keys.json"
[[auth.api_keys]]
name = "meter"
key = "a-key-of-a-meter"
[[routes]]
name = "devices"
kind = "publish"
channel = "devices"
"#;

#[tokio::test]
async fn golden_metrics_page() {
    let upstream = Upstream::start(Duration::ZERO).await;
    let pki = Pki::new();
    let gateway = Gateway::start()
        .section("runtime", "workers = 1")
        .listener("frames", &pki.issue("weir", &["weir.example"]).listener(""))
        .answered_by(upstream.address(), "")
        .route("auth = [\"token\", \"api_key\"]")
        .tables(IDENTITIES)
        .await;
    tools::golden("metrics.txt", &without_builds(&gateway.metrics().await.shape()));
}

/// The build's labels are another's on another machine.
fn without_builds(shape: &str) -> String {
    let lines = shape.lines().map(|line| match line.contains("version=") {
        true => "    {(of the build)}",
        false => line,
    });
    lines.fold(String::new(), |page, line| page + line + "\n")
}

#[tokio::test]
async fn the_page_is_the_same_before_and_after_traffic_but_for_values() {
    let gateway = Gateway::start().await;
    let before = gateway.metrics().await;
    LinePeer::join(&gateway).await.echo("hello").await;
    FramePeer::join(&gateway).await.echo("hello").await;
    WebSocket::join(&gateway).await.echo("hello").await;
    http::post(gateway.address("http"), "/echo", b"hello").await;
    let after = gateway.metrics().await;
    let lines =
        |metrics: &Metrics| metrics.shape().lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let new = lines(&after).difference(&lines(&before)).cloned().collect::<Vec<_>>();
    assert!(new.is_empty(), "series that did not exist at zero: {new:#?}");
}

#[tokio::test]
async fn every_stage_of_a_message_is_timed() {
    let upstream = Upstream::start(Duration::from_millis(200)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let mut client = WebSocket::join(&gateway).await;
    for _ in 0..20 {
        client.say("hello").await;
        client.hear().await;
    }
    let metrics = gateway.metrics().await;
    for stage in ["accept", "handshake", "frame", "pool_wait", "upstream", "write"] {
        let count = metrics.count("weir_stage_seconds_count", &[("stage", stage)]);
        assert!(count > 0, "{stage} was never timed");
    }
    let upstream = metrics.value("weir_stage_seconds_sum", &[("stage", "upstream")]);
    assert!((4.0..6.0).contains(&upstream), "20 calls of 200 ms took {upstream} s");
}
