//! The wire `lines`: what a peer with nothing but a socket and a line end is promised.

use std::time::Duration;

use weir_tests::rows::{self, Client as _};
use weir_tests::{Ending, Gateway, LinePeer, Peer, wait};

#[tokio::test]
async fn many_messages_in_one_packet_are_each_answered_in_order() {
    rows::sticky::<LinePeer>().await;
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_is_one_message() {
    rows::split::<LinePeer>().await;
}

#[tokio::test]
async fn the_largest_allowed_message_is_answered() {
    rows::largest::<LinePeer>().await;
}

#[tokio::test]
async fn a_half_close_keeps_the_replies_that_are_owed() {
    rows::half_close::<LinePeer>().await;
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    rows::order::<LinePeer>().await;
}

#[tokio::test]
async fn the_exit_word_ends_the_connection_after_the_replies_before_it() {
    rows::exit::<LinePeer>().await;
}

#[tokio::test]
async fn a_slow_sender_is_cut_at_the_read_timeout() {
    rows::slow_sender::<LinePeer>().await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_save_a_slow_sender() {
    rows::trickle::<LinePeer>().await;
}

#[tokio::test]
async fn an_idle_peer_is_cut_at_the_idle_timeout() {
    rows::idle::<LinePeer>().await;
}

#[tokio::test]
async fn a_dead_peer_is_found_by_the_kernel_and_forgotten() {
    rows::dead_peer::<LinePeer>().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_told() {
    rows::one_too_many::<LinePeer>().await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_message_disturbs_nobody() {
    rows::reset::<LinePeer>().await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_within_its_bounds() {
    rows::slow_reader::<LinePeer>().await;
}

#[tokio::test]
async fn a_flooding_peer_does_not_slow_a_thousand_quiet_ones() {
    rows::flood::<LinePeer>().await;
}

#[tokio::test]
async fn in_flight_messages_are_bounded_by_not_reading() {
    rows::in_flight_bound::<LinePeer>().await;
}

#[tokio::test]
async fn a_message_rate_over_its_limit_is_slowed_and_nothing_is_lost() {
    rows::message_rate::<LinePeer>().await;
}

#[tokio::test]
async fn a_line_ends_with_lf_or_crlf() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"unix\ndos\r\nbare \r inside\n").await;
    assert_eq!(client.hear().await, "unix");
    assert_eq!(client.hear().await, "dos");
    // A reply is one line, whatever stands in it: a bare CR would be an end to some readers.
    assert_eq!(client.hear().await, "bare   inside");
}

#[tokio::test]
async fn empty_lines_are_skipped_by_default() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"\n\r\n\nafter\n").await;
    assert_eq!(client.hear().await, "after");
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.count("weir_messages_received_total", &[("listener", "lines")]), 1);
}

#[tokio::test]
async fn empty_lines_are_delivered_where_the_listener_says_so() {
    let gateway = Gateway::start().listener("lines", "empty_lines = \"deliver\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"\n\r\nafter\n").await;
    assert_eq!(client.hear().await, "");
    assert_eq!(client.hear().await, "");
    assert_eq!(client.hear().await, "after");
}

#[tokio::test]
async fn an_over_long_line_is_refused_with_the_limit_and_closed() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("before").await;
    client.say(&"x".repeat(65_537)).await;
    assert_eq!(client.told().await, "message over limits.message_bytes_max = 65536 bytes");
    gateway.wait_for_closed("lines", "message_too_big", 1).await;
}

#[tokio::test]
async fn an_over_long_line_is_refused_before_it_ends() {
    let gateway = Gateway::start().limits("message_bytes_max = 1024").await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(&[b'x'; 4096]).await;
    assert_eq!(client.told().await, "message over limits.message_bytes_max = 1024 bytes");
}

#[tokio::test]
async fn a_refusal_reaches_a_peer_that_is_still_sending() {
    let gateway = Gateway::start().limits("message_bytes_max = 1024").await;
    for _ in 0..20 {
        let mut client = LinePeer::join(&gateway).await;
        client.peer.send(&[b'x'; 40_000]).await;
        let line = client.hear().await;
        assert_eq!(line, "error: message over limits.message_bytes_max = 1024 bytes");
        assert_eq!(client.peer.expect_end().await, Ending::Closed);
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_and_closed() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"good\nbad \xff\nnever\n").await;
    assert_eq!(client.hear().await, "good");
    assert_eq!(client.told().await, "invalid utf-8");
    gateway.wait_for_closed("lines", "invalid_utf8", 1).await;
}

#[tokio::test]
async fn bytes_pass_where_the_listener_takes_bytes() {
    let gateway = Gateway::start().listener("lines", "text = false").await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"\xff\0\xfe\n").await;
    assert_eq!(client.peer.take(4).await, b"\xff\0\xfe\n");
}

#[tokio::test]
async fn an_unfinished_last_line_is_dropped_by_default() {
    let gateway = Gateway::start().await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"whole\nhalf").await;
    client.peer.half_close().await;
    assert_eq!(client.hear().await, "whole");
    client.peer.expect_end().await;
}

#[tokio::test]
async fn an_unfinished_last_line_is_delivered_where_the_listener_says_so() {
    let gateway = Gateway::start().listener("lines", "unfinished_line = \"deliver\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.peer.send(b"whole\nhalf").await;
    client.peer.half_close().await;
    assert_eq!(client.hear().await, "whole");
    assert_eq!(client.hear().await, "half");
    client.peer.expect_end().await;
}

#[tokio::test]
async fn a_heartbeat_line_is_sent_each_ping_interval() {
    let start = Gateway::start().timeouts("ping_interval = \"1s\"");
    let gateway = start.listener("lines", "heartbeat = \"ping\"").await;
    let mut client = LinePeer::join(&gateway).await;
    client.echo("hello").await;
    assert_eq!(client.hear().await, "ping");
    assert_eq!(client.hear().await, "ping");
}

#[tokio::test]
async fn what_a_peer_does_not_read_is_not_hidden_in_the_kernel() {
    let gateway = Gateway::start().limits("outbox_bytes_max = \"8MiB\"").await;
    let mut client = LinePeer { peer: Peer::connect_narrow(gateway.address("lines")).await };
    let packet = LinePeer::encode(&"x".repeat(16_000)).repeat(64);
    client.peer.send_until_stuck(&packet, Duration::from_secs(1)).await;
    let row = wait::eventually("all of it to be read", async || {
        let page = gateway.ops("/connections?sort=outbox_bytes").await.json();
        let row = page["connections"][0].clone();
        (row["received_bytes"].as_u64()? > 1_000_000).then_some(row)
    })
    .await;
    let bytes = |key: &str| row[key].as_u64().expect("a number");
    assert!(bytes("outbox_bytes") > 500_000, "{row}");
    assert!(bytes("sent_bytes") < 400_000, "what the kernel took: {row}");
}
