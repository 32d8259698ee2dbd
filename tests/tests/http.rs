//! HTTP/1.1 on the listener: what is answered, what is refused with which status, and that nothing
//! behind a refused request is ever served.

use std::time::Duration;

use weir_tests::http::{HttpPeer, Reply, post, request};
use weir_tests::tcp::Peer;
use weir_tests::{Gateway, Upstream, WebSocket};

/// A request that would be answered with 200, to send behind one that is refused.
const GOOD: &str = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nserve";

/// Sends `head` with a good request behind it, and expects `status`, a close and nothing else.
async fn check_refused(gateway: &Gateway, what: &str, head: &str, status: u16) -> Reply {
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send(format!("{head}{GOOD}")).await;
    let reply = http.reply().await;
    assert_eq!(reply.status, status, "{what}: {reply:?}");
    assert_eq!(reply.header("connection"), Some("close"), "{what}: {reply:?}");
    let (rest, _) = http.peer.take_rest().await;
    assert!(rest.is_empty(), "{what}: behind it was served {:?}", String::from_utf8_lossy(&rest));
    reply
}

#[tokio::test]
async fn a_post_is_answered_by_its_route() {
    let gateway = Gateway::start().await;
    let reply = post(gateway.address("http"), "/echo", b"hello").await;
    assert_eq!((reply.status, reply.text()), (200, "hello"));
}

#[tokio::test]
async fn a_connection_is_kept_for_many_requests() {
    let gateway = Gateway::start().await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    for n in 0..10 {
        let body = format!("request {n}");
        http.request("POST /echo", "", body.as_bytes()).await;
        let reply = http.reply().await;
        assert_eq!((reply.status, reply.text()), (200, body.as_str()));
    }
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_connections_opened_total", &[("listener", "http")]), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::start().await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    let requests = (0..10)
        .map(|n| format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{n}"));
    http.send(requests.collect::<String>()).await;
    for n in 0..10 {
        assert_eq!(http.reply().await.text(), format!("{n}"));
    }
}

#[tokio::test]
async fn a_chunked_body_is_one_message() {
    let gateway = Gateway::start().await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    http.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await;
    assert_eq!(http.reply().await.text(), "abcdefg");
}

#[tokio::test]
async fn a_close_that_is_asked_for_is_made() {
    let gateway = Gateway::start().await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.request("POST /echo", "Connection: close\r\n", b"last").await;
    assert_eq!(http.reply().await.text(), "last");
    http.peer.expect_end().await;
}

#[tokio::test]
async fn a_half_close_keeps_the_reply_that_is_owed() {
    let upstream = Upstream::start(Duration::from_millis(300)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.request("POST /echo", "", b"slow").await;
    http.peer.half_close().await;
    assert_eq!(http.reply().await.text(), "answer: slow");
}

#[tokio::test]
async fn a_well_formed_request_id_is_kept_and_another_is_replaced() {
    let gateway = Gateway::start().await;
    let address = gateway.address("http");
    let with = async |header: &str| {
        let reply = request(address, "POST /echo", header, b"hello").await;
        reply.header("x-request-id").expect("an x-request-id").to_owned()
    };
    assert_eq!(with("x-request-id: order-17.a\r\n").await, "order-17.a");
    assert_ne!(with("x-request-id: not well formed\r\n").await, "not well formed");
    assert!(!with("").await.is_empty());
    assert_ne!(with("").await, with("").await);
}

#[tokio::test]
async fn requests_for_nothing_are_refused_by_name() {
    let gateway = Gateway::start().await;
    let address = gateway.address("http");
    assert_eq!(post(address, "/nowhere", b"x").await.status, 404);
    let get = request(address, "GET /echo", "", b"").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let plain = request(address, "GET /ws", "", b"").await;
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
}

#[tokio::test]
async fn an_over_large_body_is_refused_with_413_and_the_limit() {
    let gateway = Gateway::start().await;
    let declared = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n";
    let reply = check_refused(&gateway, "a declared length", declared, 413).await;
    assert!(reply.text().contains("limits.message_bytes_max = 65536"), "{}", reply.text());

    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    http.send([b"11170\r\n".as_slice(), &[b'x'; 70_000], b"\r\n0\r\n\r\n"].concat()).await;
    assert_eq!(http.reply().await.status, 413);
    http.peer.take_rest().await;
}

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused() {
    let gateway = Gateway::start().await;
    let host = "Host: localhost\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunk = "0\r\n\r\n";
    for (what, head) in [
        ("no Host", "POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("two Hosts", format!("POST /echo HTTP/1.1\r\n{host}{host}Content-Length: 0\r\n\r\n")),
        (
            "chunked twice in one header",
            format!(
                "POST /echo HTTP/1.1\r\n{host}Transfer-Encoding: chunked, chunked\r\n\r\n{chunk}"
            ),
        ),
        (
            "chunked twice in two headers",
            format!("POST /echo HTTP/1.1\r\n{host}{chunked}{chunked}\r\n{chunk}"),
        ),
        (
            "another coding",
            format!("POST /echo HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}"),
        ),
        (
            "a length beside a coding",
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 5\r\n{chunked}\r\n{chunk}"),
        ),
        (
            "two lengths",
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 0\r\nContent-Length: 5\r\n\r\n"),
        ),
        (
            "a length with a sign",
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: +0\r\n\r\n"),
        ),
        ("a space before the colon", format!("POST /echo HTTP/1.1\r\n{host}X-A : b\r\n\r\n")),
        ("a folded header", format!("POST /echo HTTP/1.1\r\n{host}X-A: b\r\n c\r\n\r\n")),
        ("no request at all", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
    ] {
        check_refused(&gateway, what, &head, 400).await;
    }
    gateway.wait_for_closed("http", "bad_request", 11).await;
    let refused = [("listener", "http"), ("status", "400")];
    assert_eq!(gateway.metrics().await.count("weir_http_refused_total", &refused), 11);
}

#[tokio::test]
async fn a_head_over_its_size_is_refused_with_431() {
    let gateway = Gateway::start().await;
    let padding = "x".repeat(17_000);
    let head = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nX-Padding: {padding}\r\n\r\n");
    let reply = check_refused(&gateway, "17 kB in one header", &head, 431).await;
    assert!(reply.text().contains("limits.header_bytes_max"), "{}", reply.text());
    let many = "X-A: b\r\n".repeat(101);
    let head = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let reply = check_refused(&gateway, "101 headers", &head, 431).await;
    assert!(reply.text().contains("limits.headers_max"), "{}", reply.text());
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused_before_it_is_all_kept() {
    let gateway = Gateway::start().await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send("GET / HTTP/1.1\r\nHost: localhost\r\n").await;
    for _ in 0..10_000 {
        if !http.peer.try_send(b"X-More: of the same and then some\r\n").await {
            break;
        }
    }
    gateway.wait_for_closed("http", "bad_request", 1).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_refused_with_408() {
    let gateway = Gateway::start().timeouts("header = \"1s\"").await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send("GET /ws HTTP/1.1\r\nHost: localhost\r\n").await;
    assert_eq!(http.reply().await.status, 408);
    http.peer.take_rest().await;
    gateway.wait_for_closed("http", "header_timeout", 1).await;
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_is_cut() {
    let gateway = Gateway::start().timeouts("read = \"1s\"").await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhal").await;
    assert_eq!(http.reply().await.status, 408);
    http.peer.take_rest().await;
    gateway.wait_for_closed("http", "read_timeout", 1).await;
}

#[tokio::test]
async fn a_peer_that_connects_and_says_nothing_is_cut_at_the_handshake_timeout() {
    let gateway = Gateway::start().timeouts("handshake = \"1s\"\nheader = \"1s\"").await;
    let mut peer = Peer::connect(gateway.address("http")).await;
    peer.take_rest().await;
    gateway.wait_for_closed("http", "handshake_timeout", 1).await;
}

#[tokio::test]
async fn a_kept_connection_that_is_quiet_is_cut_at_the_idle_timeout() {
    let gateway = Gateway::start().timeouts("idle = \"1s\"\nping_interval = \"off\"").await;
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.request("POST /echo", "", b"once").await;
    assert_eq!(http.reply().await.status, 200);
    http.peer.take_rest().await;
    gateway.wait_for_closed("http", "idle_timeout", 1).await;
}

/// The head of an upgrade with one line put in another's place.
fn upgrade(gateway: &Gateway, old: &str, new: &str) -> String {
    let headers = WebSocket::headers();
    assert!(headers.contains(old), "{old} is not a line of the upgrade");
    let host = gateway.address("http");
    format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{}\r\n", headers.replace(old, new))
}

#[tokio::test]
async fn a_bad_upgrade_is_refused_and_says_why() {
    let gateway = Gateway::start().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (what, new) in [
        ("no key", ""),
        ("a key of 15 bytes", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
        ("a key that is not base64", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n"),
    ] {
        check_refused(&gateway, what, &upgrade(&gateway, key, new), 400).await;
    }
    let version = "Sec-WebSocket-Version: 13\r\n";
    let head = upgrade(&gateway, version, "Sec-WebSocket-Version: 8\r\n");
    let mut http = HttpPeer::connect(gateway.address("http")).await;
    http.send(head).await;
    let reply = http.reply().await;
    assert_eq!((reply.status, reply.header("sec-websocket-version")), (426, Some("13")));
}

#[tokio::test]
async fn a_browser_may_connect_from_the_same_host_only() {
    let gateway = Gateway::start().await;
    let address = gateway.address("http");
    WebSocket::connect_to(address, "/ws", &format!("Origin: http://{address}\r\n")).await;
    let from = async |origin: &str| {
        let http = HttpPeer::connect(address).await;
        let headers = format!("Origin: {origin}\r\n");
        WebSocket::upgrade(http, "/ws", &headers).await.expect_err("a refusal").status
    };
    assert_eq!(from("https://elsewhere.example").await, 403);
    assert_eq!(from(&format!("http://{address}.elsewhere.example")).await, 403);
    assert_eq!(from("null").await, 403);
}

#[tokio::test]
async fn a_browser_may_connect_from_the_origins_on_the_list() {
    let tables = r#"
[[listeners]]
name = "open"
address = "127.0.0.1:0"
wire = "http"
[[listeners.paths]]
path = "/any"
kind = "websocket"
route = "main"
origins = ["*"]
[[listeners.paths]]
path = "/app"
kind = "websocket"
route = "main"
origins = ["https://app.example.com"]
"#;
    let gateway = Gateway::start().tables(tables).await;
    let address = gateway.address("open");
    WebSocket::connect_to(address, "/any", "Origin: https://elsewhere.example\r\n").await;
    WebSocket::connect_to(address, "/app", "Origin: https://app.example.com\r\n").await;
    for origin in ["http://app.example.com", "https://app.example.com.evil.example"] {
        let http = HttpPeer::connect(address).await;
        let refused = WebSocket::upgrade(http, "/app", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(refused.expect_err("a refusal").status, 403, "{origin}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_refused_with_503_and_a_time_to_come_back() {
    let gateway = Gateway::start().limits("connections_max = 1").await;
    let mut held = HttpPeer::connect(gateway.address("http")).await;
    held.request("POST /echo", "", b"in").await;
    assert_eq!(held.reply().await.status, 200);
    let mut refused = HttpPeer::connect(gateway.address("http")).await;
    refused.request("POST /echo", "", b"out").await;
    let reply = refused.reply().await;
    assert_eq!(reply.status, 503);
    let seconds = reply.header("retry-after").expect("a Retry-After").parse::<u32>();
    assert!(seconds.expect("a number of seconds") >= 1);
}

#[tokio::test]
async fn a_request_is_counted_by_route_method_and_status() {
    let gateway = Gateway::start().await;
    for _ in 0..3 {
        post(gateway.address("http"), "/echo", b"hello").await;
    }
    let labels = [("listener", "http"), ("route", "main"), ("method", "POST"), ("status", "200")];
    let name = "weir_http_request_duration_seconds_count";
    gateway.wait_for("three requests", |metrics| metrics.count(name, &labels) == 3).await;
}
