//! The side port: what an operator asks, who may ask, and that asking costs and breaks nothing.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_tests::http::{self, HttpPeer};
use weir_tests::rows::Client as _;
use weir_tests::{Gateway, LinePeer, Upstream, WebSocket};

#[tokio::test]
async fn health_readiness_and_start_are_told() {
    let gateway = Gateway::start().await;
    for path in ["/healthz", "/readyz", "/startupz"] {
        assert_eq!(gateway.ops(path).await.status, 200, "{path}");
    }
    let metrics = gateway.ops("/metrics").await;
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
}

#[tokio::test]
async fn connections_are_listed_sorted_filtered_and_paged() {
    let gateway = Gateway::start().await;
    let mut lines = Vec::new();
    for n in 0..25 {
        let mut client = LinePeer::join(&gateway).await;
        client.echo(&"x".repeat(n * 10 + 1)).await;
        lines.push(client);
    }
    let mut socket = WebSocket::join(&gateway).await;
    socket.echo("hello").await;

    let all = gateway.ops("/connections?limit=100").await.json();
    assert_eq!(rows(&all).len(), 26);
    let web = gateway.ops("/connections?listener=http").await.json();
    assert_eq!(rows(&web).len(), 1);
    assert_eq!(rows(&web)[0]["peer"], socket.peer.local().to_string());
    let none = gateway.ops("/connections?address=127.0.0.9").await.json();
    assert_eq!(rows(&none).len(), 0);

    let mut seen = Vec::new();
    let mut path = "/connections?limit=10&listener=lines&sort=received_bytes".to_owned();
    loop {
        let page = gateway.ops(&path).await.json();
        seen.extend(rows(&page).iter().map(|row| row["received_bytes"].as_u64().expect("bytes")));
        match page["next"].as_str() {
            Some(cursor) => {
                path = format!(
                    "/connections?limit=10&listener=lines&sort=received_bytes&cursor={cursor}"
                );
            }
            None => break,
        }
    }
    assert_eq!(seen.len(), 25, "each connection once: {seen:?}");
    assert!(seen.is_sorted_by(|a, b| a >= b), "largest first: {seen:?}");
}

fn rows(page: &serde_json::Value) -> &[serde_json::Value] {
    page["connections"].as_array().expect("a list of connections")
}

#[tokio::test]
async fn the_last_closed_connections_are_listed_with_their_reasons() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("hello").await;
    client.say("exit").await;
    gateway.wait_for_closed("lines", "exit", 1).await;
    let closed = gateway.ops("/connections?state=closed").await.json();
    let row = &rows(&closed)[0];
    assert_eq!((row["reason"].as_str(), row["listener"].as_str()), (Some("exit"), Some("lines")));
    assert_eq!(row["received"], 2);
}

#[tokio::test]
async fn a_connection_with_many_messages_behind_it_is_listed_at_bounded_cost() {
    let gateway = Gateway::start().section("runtime", "workers = 1").await;
    let mut clients = Vec::new();
    for _ in 0..2_000 {
        clients.push(LinePeer::join(&gateway).await);
    }
    let asked = Instant::now();
    let page = gateway.ops("/connections?limit=50&sort=age").await.json();
    assert_eq!(rows(&page).len(), 50);
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(500), "50 of 2,000 connections took {took:?}");
    clients[0].echo("not disturbed").await;
}

#[tokio::test]
async fn questions_that_cannot_be_answered_are_refused() {
    let gateway = Gateway::start().await;
    for query in ["sort=colour", "limit=many", "address=nowhere", "state=confused", "colour=red"] {
        let reply = gateway.ops(&format!("/connections?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {}", reply.text());
    }
    assert_eq!(gateway.ops("/nowhere").await.status, 404);
}

#[tokio::test]
async fn what_changes_something_is_post_or_put_only() {
    let gateway = Gateway::start().await;
    let address = gateway.address("ops");
    let get = gateway.ops("/drain").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(http::post(address, "/metrics", b"x").await.status, 405);
    assert_eq!(gateway.ops("/readyz").await.status, 200, "nothing has begun");
}

#[tokio::test]
async fn the_log_filter_is_changed_for_a_while() {
    let gateway = Gateway::start().await;
    let address = gateway.address("ops");
    assert!(gateway.ops("/log").await.text().contains("info"));
    let put = http::request(address, "PUT /log?ttl=1s", "", b"debug").await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert!(gateway.ops("/log").await.text().contains("debug"));
    weir_tests::wait::eventually("the filter to be as before", async || {
        let text = gateway.ops("/log").await.text().to_owned();
        (!text.contains("debug")).then_some(())
    })
    .await;
    let bad = http::request(address, "PUT /log?ttl=1s", "", b"a=b=c").await;
    assert_eq!(bad.status, 400, "{}", bad.text());
}

/// A GET of the side port under another name, as a page that was tricked into asking would.
async fn under_name(gateway: &Gateway, path: &str, host: &str) -> u16 {
    let mut peer = HttpPeer::connect(gateway.address("ops")).await;
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    peer.reply().await.status
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_where_it_could_do_harm() {
    let gateway = Gateway::start().section("ops", r#"hosts = ["weir.internal"]"#).await;
    for host in ["localhost", "localhost:6060", "127.0.0.1", "10.1.2.3:6060", "[::1]:6060"] {
        assert_eq!(under_name(&gateway, "/connections", host).await, 200, "{host}");
    }
    assert_eq!(under_name(&gateway, "/connections", "weir.internal").await, 200);
    for host in ["rebound.example", "localhost.example", "127.0.0.1.example:6060"] {
        let status = under_name(&gateway, "/connections", host).await;
        assert!(status == 403 || status == 421, "{host}: {status}");
        assert_eq!(under_name(&gateway, "/healthz", host).await, 200, "{host}");
        assert_eq!(under_name(&gateway, "/metrics", host).await, 200, "{host}");
    }
}

#[tokio::test]
async fn beyond_loopback_all_but_health_and_metrics_needs_the_token() {
    let mut start = Gateway::start();
    start = start.section("ops", "token = \"open-sesame-and-more\"");
    let gateway = start.ops_address("0.0.0.0:0").await;
    let address = ([127, 0, 0, 1], gateway.address("ops").port()).into();
    let get = async |path: &str, headers: &str| {
        http::request(address, &format!("GET {path}"), headers, b"").await.status
    };
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(path, "").await, 200, "{path}");
    }
    for path in ["/connections", "/config", "/log", "/debug/pprof/"] {
        assert_eq!(get(path, "").await, 401, "{path}");
        assert_eq!(get(path, "Authorization: Bearer open-sesame\r\n").await, 401, "{path}");
        assert_eq!(
            get(path, "Authorization: Bearer open-sesame-and-more\r\n").await,
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn beyond_loopback_without_a_token_only_health_and_metrics_answer() {
    let gateway = Gateway::start().ops_address("0.0.0.0:0").await;
    for path in ["/healthz", "/readyz", "/startupz", "/metrics"] {
        assert_eq!(gateway.ops(path).await.status, 200, "{path}");
    }
    for path in ["/connections", "/config", "/log", "/debug/pprof/", "/"] {
        let status = gateway.ops(path).await.status;
        assert!(status == 401 || status == 403, "{path}: {status}");
    }
    gateway.logged("a warning that says so", |line| line["level"] == "warn").await;
}

#[tokio::test]
async fn profiles_are_taken_one_at_a_time() {
    let gateway = Gateway::start().section("ops", "profile_seconds_max = 3").await;
    let address = gateway.address("ops");
    assert_eq!(gateway.ops("/debug/pprof/").await.status, 200);
    let first =
        tokio::spawn(async move { http::get(address, "/debug/pprof/profile?seconds=2").await });
    sleep(Duration::from_millis(500)).await;
    let second = gateway.ops("/debug/pprof/profile?seconds=1").await;
    assert!(second.status == 409 || second.status == 429 || second.status == 503, "{second:?}");
    let profile = first.await.expect("a profile");
    assert_eq!(profile.status, 200);
    assert!(!profile.body.is_empty());
    let long = gateway.ops("/debug/pprof/profile?seconds=4").await;
    assert_eq!(long.status, 400, "{}", String::from_utf8_lossy(&long.body));
}

#[tokio::test]
async fn a_flamegraph_is_a_picture() {
    let gateway = Gateway::start().await;
    let reply = gateway.ops("/debug/pprof/profile?seconds=1&format=svg").await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    assert!(reply.text().contains("<svg"));
}

#[tokio::test]
async fn the_side_port_answers_while_every_worker_is_saturated() {
    let gateway = Gateway::start().section("runtime", "workers = 1").await;
    let mut floods = Vec::new();
    for _ in 0..4 {
        let flood = LinePeer::join(&gateway).await.into_peer();
        floods.push(flood.flood(LinePeer::encode(&"x".repeat(128))));
    }
    sleep(Duration::from_millis(300)).await;
    let mut waits = Vec::new();
    for path in ["/healthz", "/metrics"].repeat(25) {
        let asked = Instant::now();
        assert_eq!(gateway.ops(path).await.status, 200);
        waits.push(asked.elapsed());
    }
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    waits.sort();
    // The clients of this test take the other core, so that the slowest is not weir's alone.
    assert!(waits[25] < Duration::from_millis(50), "half of the answers took {:?}", waits[25]);
}

#[tokio::test]
async fn a_request_id_is_on_every_line_and_call_that_the_request_causes() {
    let upstream = Upstream::start(Duration::ZERO).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let address = gateway.address("http");
    http::request(address, "POST /echo", "x-request-id: order-17\r\n", b"hello").await;
    assert_eq!(upstream.received()[0].header("x-request-id"), Some("order-17"));

    let mut client = LinePeer::join(&gateway).await;
    for _ in 0..2 {
        client.say("hello").await;
        client.hear().await;
    }
    let received = upstream.received();
    let id = |n: usize| received[n].header("x-request-id").expect("an id").to_owned();
    let conn = id(1).strip_suffix("-1").expect("the connection and a counter").to_owned();
    assert_eq!(id(2), format!("{conn}-2"));
    drop(client);
    let end = gateway
        .logged("the end of the connection", |line| {
            line["msg"] == "connection closed" && line["listener"] == "lines"
        })
        .await;
    assert_eq!(end["conn"], conn);
}

#[tokio::test]
async fn log_lines_are_flat_json_and_none_is_written_for_a_message() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    let before = gateway.log().len();
    for _ in 0..1_000 {
        client.echo("hello").await;
    }
    assert_eq!(gateway.log().len(), before, "a line for a message");
    drop(client);
    gateway.logged("the end", |line| line["msg"] == "connection closed").await;
    for line in gateway.log() {
        let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let object = line.as_object().expect("an object");
        assert!(object.values().all(|value| !value.is_object() && !value.is_array()), "{line}");
        for key in ["ts", "level", "msg"] {
            assert!(object.contains_key(key), "no {key} in {line}");
        }
    }
}
