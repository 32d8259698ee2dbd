//! Connections of age are told to go as in a drain: with the wire's own goodbye, every answer that
//! is owed before it, and not all at once.

use std::time::Duration;

use tokio::time::Instant;
use weir_tests::http::HttpPeer;
use weir_tests::{Client, FramePeer, Gateway, LinePeer, Upstream, WebSocket};

async fn aging() -> Gateway {
    Gateway::start()
        .limits("connection_age_max = \"1s\"\nconnection_age_jitter = \"1ms\"")
        .listener("lines", "farewell = \"come back\"")
        .await
}

#[tokio::test]
async fn each_wire_says_goodbye_in_its_own_way() {
    let gateway = aging().await;
    let mut line = LinePeer::join(&gateway).await;
    let mut frame = FramePeer::join(&gateway).await;
    let mut socket = WebSocket::join(&gateway).await;
    line.echo("young").await;
    assert_eq!(socket.expect_close().await, (1001, "going away".to_owned()));
    assert_eq!(line.hear().await, "come back");
    assert_eq!(line.try_hear().await, None);
    assert_eq!(frame.try_hear().await, None);
    for listener in ["lines", "frames", "http"] {
        gateway.wait_for_closed(listener, "aged", 1).await;
    }
}

#[tokio::test]
async fn a_kept_http_connection_ends_between_requests_and_says_so() {
    let gateway = aging().await;
    let mut quiet = HttpPeer::connect(gateway.address("http")).await;
    quiet.request("POST /echo", "", b"hello").await;
    assert_eq!(quiet.reply().await.status, 200);
    let mut busy = HttpPeer::connect(gateway.address("http")).await;
    let begun = Instant::now();
    loop {
        busy.request("POST /echo", "", b"hello").await;
        let reply = busy.reply().await;
        assert_eq!(reply.status, 200);
        if reply.header("connection") == Some("close") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "it goes on and on");
    }
    gateway.wait_for_closed("http", "aged", 2).await;
}

#[tokio::test]
async fn an_answer_that_is_owed_comes_before_the_goodbye() {
    let upstream = Upstream::start(Duration::from_millis(2_500)).await;
    let gateway = Gateway::start()
        .limits("connection_age_max = \"1s\"\nconnection_age_jitter = \"1ms\"")
        .answered_by(upstream.address(), "")
        .await;
    let mut client = WebSocket::join(&gateway).await;
    client.say("an order").await;
    assert_eq!(client.hear().await, "answer: an order");
    assert_eq!(client.expect_close().await.0, 1001);
}

#[tokio::test]
async fn connections_of_one_moment_do_not_go_in_one_moment() {
    let gateway = Gateway::start()
        .limits("connection_age_max = \"1s\"\nconnection_age_jitter = \"4s\"")
        .await;
    let mut ends = Vec::new();
    for _ in 0..100 {
        let mut client = LinePeer::join(&gateway).await;
        ends.push(tokio::spawn(async move {
            assert_eq!(client.try_hear().await, None);
            Instant::now()
        }));
    }
    let mut times = Vec::new();
    for end in ends {
        times.push(end.await.expect("a client that was told to go"));
    }
    times.sort();
    // Looked through once a second: 1 to 5 s are at least four looks.
    assert!(times[99] - times[0] > Duration::from_secs(2), "all of them at once");
    assert!(times[60] - times[0] > Duration::from_secs(1), "most of them at once");
    gateway.wait_for_closed("lines", "aged", 100).await;
}
