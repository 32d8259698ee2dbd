//! WebSocket: the rows of the wire table, and the codec's rules as a peer meets them.

use std::time::Duration;

use weir_tests::http::HttpPeer;
use weir_tests::rows::{self, Client as _};
use weir_tests::websocket::opcode::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};
use weir_tests::{Gateway, WebSocket};

#[tokio::test]
async fn many_messages_in_one_packet_are_each_answered_in_order() {
    rows::sticky::<WebSocket>().await;
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_is_one_message() {
    rows::split::<WebSocket>().await;
}

#[tokio::test]
async fn the_largest_allowed_message_is_answered() {
    rows::largest::<WebSocket>().await;
}

#[tokio::test]
async fn a_half_close_keeps_the_replies_that_are_owed() {
    rows::half_close::<WebSocket>().await;
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    rows::order::<WebSocket>().await;
}

#[tokio::test]
async fn the_exit_word_ends_the_connection_after_the_replies_before_it() {
    rows::exit::<WebSocket>().await;
}

#[tokio::test]
async fn a_slow_sender_is_cut_at_the_read_timeout() {
    rows::slow_sender::<WebSocket>().await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_save_a_slow_sender() {
    rows::trickle::<WebSocket>().await;
}

#[tokio::test]
async fn an_idle_peer_is_cut_at_the_idle_timeout() {
    rows::idle::<WebSocket>().await;
}

#[tokio::test]
async fn a_dead_peer_is_found_by_the_kernel_and_forgotten() {
    rows::dead_peer::<WebSocket>().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_told() {
    rows::one_too_many::<WebSocket>().await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_message_disturbs_nobody() {
    rows::reset::<WebSocket>().await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_within_its_bounds() {
    rows::slow_reader::<WebSocket>().await;
}

#[tokio::test]
async fn a_flooding_peer_does_not_slow_a_thousand_quiet_ones() {
    rows::flood::<WebSocket>().await;
}

#[tokio::test]
async fn in_flight_messages_are_bounded_by_not_reading() {
    rows::in_flight_bound::<WebSocket>().await;
}

#[tokio::test]
async fn a_message_rate_over_its_limit_is_slowed_and_nothing_is_lost() {
    rows::message_rate::<WebSocket>().await;
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.echo("").await;
    client.echo("after").await;
}

#[tokio::test]
async fn bytes_are_answered_with_bytes() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.send_frame(true, BINARY, &[0xff, 0, 0xfe]).await;
    let frame = client.next_message().await;
    assert_eq!((frame.opcode, frame.payload), (BINARY, vec![0xff, 0, 0xfe]));
}

#[tokio::test]
async fn an_over_long_message_is_closed_with_1009_by_its_length_alone() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.peer.send(&WebSocket::frame_head(true, TEXT, 65_537)).await;
    let (code, reason) = client.next_message().await.close();
    assert_eq!(code, 1009);
    assert!(reason.starts_with("message over limits.message_bytes_max"), "{reason}");
    gateway.wait_for_closed("http", "message_too_big", 1).await;
}

#[tokio::test]
async fn fragments_together_are_held_to_the_limit() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.send_frame(false, TEXT, &[b'x'; 40_000]).await;
    client.send_frame(true, CONTINUATION, &[b'x'; 40_000]).await;
    assert_eq!(client.next_message().await.close().0, 1009);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_closed_with_1007() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.echo("good").await;
    client.send_frame(true, TEXT, b"bad \xff").await;
    assert_eq!(client.expect_close().await.0, 1007);
    gateway.wait_for_closed("http", "invalid_utf8", 1).await;
}

#[tokio::test]
async fn a_character_may_be_split_between_fragments() {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    let fish = "鱼".as_bytes();
    client.send_frame(false, TEXT, &fish[..1]).await;
    client.send_frame(false, CONTINUATION, &fish[1..2]).await;
    client.send_frame(true, PING, b"between").await;
    client.send_frame(true, CONTINUATION, &fish[2..]).await;
    let pong = client.next_frame().await;
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, b"between".as_slice()));
    assert_eq!(client.hear().await, "鱼");
}

/// After `frame` the connection is closed with `code`.
async fn check(what: &str, frame: Vec<u8>, code: u16) {
    let gateway = Gateway::start().await;
    let mut client = WebSocket::join(&gateway).await;
    client.peer.send(&frame).await;
    assert_eq!(client.next_message().await.close().0, code, "{what}");
}

#[tokio::test]
async fn broken_rules_have_their_close_codes() {
    let unmasked = vec![0x81, 0x02, b'h', b'i'];
    check("a frame without a mask", unmasked, 1002).await;
    check("a reserved opcode", WebSocket::frame(true, 0x3, b""), 1002).await;
    check("a reserved bit", WebSocket::frame(true, 0x40 | TEXT, b""), 1002).await;
    check("a fragmented ping", WebSocket::frame(false, PING, b""), 1002).await;
    check("a ping of 126 bytes", WebSocket::frame(true, PING, &[0; 126]), 1002).await;
    check("a continuation of nothing", WebSocket::frame(true, CONTINUATION, b""), 1002).await;
    check("a close of one byte", WebSocket::frame(true, CLOSE, &[3]), 1002).await;
    check("a close with a code that is never sent", WebSocket::close_frame(1005, ""), 1002).await;
}

#[tokio::test]
async fn a_close_is_answered_with_its_own_code() {
    let gateway = Gateway::start().await;
    for code in [1000, 1001, 3000, 4999] {
        let mut client = WebSocket::join(&gateway).await;
        client.peer.send(&WebSocket::close_frame(code, "bye")).await;
        assert_eq!(client.next_message().await.close().0, code);
        client.peer.expect_end().await;
    }
    gateway.wait_for_closed("http", "peer_closed", 4).await;
}

#[tokio::test]
async fn replies_that_are_owed_come_before_the_answer_to_a_close() {
    let upstream = weir_tests::Upstream::start(Duration::from_millis(300)).await;
    let gateway = Gateway::start().answered_by(upstream.address(), "").await;
    let mut client = WebSocket::join(&gateway).await;
    client.say("a").await;
    client.say("b").await;
    client.peer.send(&WebSocket::close_frame(1000, "")).await;
    assert_eq!(client.hear().await, "answer: a");
    assert_eq!(client.hear().await, "answer: b");
    assert_eq!(client.next_message().await.close().0, 1000);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_pings_is_cut_at_the_pong_timeout() {
    let timeouts = "ping_interval = \"1s\"\npong = \"1s\"";
    let gateway = Gateway::start().timeouts(timeouts).await;
    let mut client = WebSocket::join(&gateway).await;
    assert_eq!(client.next_frame().await.opcode, PING);
    let close = loop {
        let frame = client.next_frame().await;
        if frame.opcode == CLOSE {
            break frame.close();
        }
    };
    assert_eq!(close, (1008, "pong timeout".to_owned()));
    gateway.wait_for_closed("http", "pong_timeout", 1).await;
}

#[tokio::test]
async fn a_peer_that_answers_pings_stays_beyond_the_idle_timeout() {
    let timeouts = "ping_interval = \"1s\"\npong = \"1s\"\nidle = \"2500ms\"";
    let gateway = Gateway::start().timeouts(timeouts).await;
    let mut client = WebSocket::join(&gateway).await;
    for _ in 0..5 {
        let ping = client.next_frame().await;
        assert_eq!(ping.opcode, PING);
        client.send_frame(true, PONG, &ping.payload).await;
    }
    client.echo("still here").await;
}

#[tokio::test]
async fn frames_in_the_same_segment_as_the_upgrade_are_not_lost() {
    let gateway = Gateway::start().await;
    let address = gateway.address("http");
    for count in [1, 50] {
        let texts = (0..count).map(|n| format!("early {n}")).collect::<Vec<_>>();
        let head = WebSocket::headers();
        let request = format!("GET /ws HTTP/1.1\r\nHost: {address}\r\n{head}\r\n");
        let frames = texts.iter().flat_map(|text| WebSocket::encode(text)).collect::<Vec<_>>();
        let mut http = HttpPeer::connect(address).await;
        http.send([request.as_bytes(), &frames].concat()).await;
        assert_eq!(http.reply().await.status, 101);
        let mut client = WebSocket { peer: http.peer };
        for text in &texts {
            assert_eq!(&client.hear().await, text);
        }
    }
}
