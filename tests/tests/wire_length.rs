//! The wire `length`: messages with their length before them, in each form a listener can name.

use std::time::Duration;

use weir_tests::rows::{self, Client as _};
use weir_tests::{FramePeer, Gateway, Peer};

#[tokio::test]
async fn many_messages_in_one_packet_are_each_answered_in_order() {
    rows::sticky::<FramePeer>().await;
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_is_one_message() {
    rows::split::<FramePeer>().await;
}

#[tokio::test]
async fn the_largest_allowed_message_is_answered() {
    rows::largest::<FramePeer>().await;
}

#[tokio::test]
async fn a_half_close_keeps_the_replies_that_are_owed() {
    rows::half_close::<FramePeer>().await;
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    rows::order::<FramePeer>().await;
}

#[tokio::test]
async fn the_exit_word_ends_the_connection_after_the_replies_before_it() {
    rows::exit::<FramePeer>().await;
}

#[tokio::test]
async fn a_slow_sender_is_cut_at_the_read_timeout() {
    rows::slow_sender::<FramePeer>().await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_save_a_slow_sender() {
    rows::trickle::<FramePeer>().await;
}

#[tokio::test]
async fn an_idle_peer_is_cut_at_the_idle_timeout() {
    rows::idle::<FramePeer>().await;
}

#[tokio::test]
async fn a_dead_peer_is_found_by_the_kernel_and_forgotten() {
    rows::dead_peer::<FramePeer>().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_told() {
    rows::one_too_many::<FramePeer>().await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_message_disturbs_nobody() {
    rows::reset::<FramePeer>().await;
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_within_its_bounds() {
    rows::slow_reader::<FramePeer>().await;
}

#[tokio::test]
async fn a_flooding_peer_does_not_slow_a_thousand_quiet_ones() {
    rows::flood::<FramePeer>().await;
}

#[tokio::test]
async fn in_flight_messages_are_bounded_by_not_reading() {
    rows::in_flight_bound::<FramePeer>().await;
}

#[tokio::test]
async fn a_message_rate_over_its_limit_is_slowed_and_nothing_is_lost() {
    rows::message_rate::<FramePeer>().await;
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    let gateway = Gateway::start().await;
    let mut client = FramePeer::join(&gateway).await;
    client.echo("").await;
    client.echo("after").await;
}

#[tokio::test]
async fn an_over_long_message_is_refused_by_its_length_alone() {
    let gateway = Gateway::start().await;
    let mut client = FramePeer::join(&gateway).await;
    client.echo("before").await;
    client.peer.send(&65_537_u32.to_be_bytes()).await;
    assert_eq!(client.told().await, "message over limits.message_bytes_max = 65536 bytes");
    gateway.wait_for_closed("frames", "message_too_big", 1).await;
}

#[tokio::test]
async fn a_length_that_lies_costs_no_memory() {
    let gateway = Gateway::start().await;
    let before = weir_tests::kernel::resident_bytes(gateway.pid());
    for _ in 0..200 {
        let mut client = FramePeer::join(&gateway).await;
        client.peer.send(&u32::MAX.to_be_bytes()).await;
        client.told().await;
    }
    let grown = weir_tests::kernel::resident_bytes(gateway.pid()).saturating_sub(before);
    assert!(grown < 8 << 20, "200 lies cost {grown} bytes");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_and_closed() {
    let gateway = Gateway::start().await;
    let mut client = FramePeer::join(&gateway).await;
    client.echo("good").await;
    client.peer.send(&FramePeer::encode_bytes(b"bad \xff")).await;
    assert_eq!(client.told().await, "invalid utf-8");
    gateway.wait_for_closed("frames", "invalid_utf8", 1).await;
}

#[tokio::test]
async fn bytes_pass_where_the_listener_takes_bytes() {
    let gateway = Gateway::start().listener("frames", "text = false").await;
    let mut client = FramePeer::join(&gateway).await;
    client.peer.send(&FramePeer::encode_bytes(&[0xff, 0, 0xfe])).await;
    assert_eq!(client.hear_bytes().await, [0xff, 0, 0xfe]);
}

#[tokio::test]
async fn an_unfinished_message_at_a_half_close_is_no_message() {
    let gateway = Gateway::start().await;
    let mut client = FramePeer::join(&gateway).await;
    client.peer.send(&[FramePeer::encode("whole"), vec![0, 0, 0, 9, b'h']].concat()).await;
    client.peer.half_close().await;
    assert_eq!(client.hear().await, "whole");
    client.peer.take_rest().await;
    gateway.wait_for_open("frames", 0).await;
}

/// A listener with this prefix echoes `sent` as it is, whole and byte by byte.
async fn check(prefix: &str, sent: &[u8]) {
    let wire = format!("wire = \"length\"\nroute = \"main\"\nprefix = \"{prefix}\"");
    let gateway = Gateway::start().listener("other", &wire).await;
    let mut peer = Peer::connect(gateway.address("other")).await;
    peer.send(sent).await;
    assert_eq!(peer.take(sent.len()).await, sent, "{prefix}");
    peer.send_split(sent).await;
    assert_eq!(peer.take(sent.len()).await, sent, "{prefix}, byte by byte");
    assert!(peer.stays_quiet(Duration::from_millis(50)).await, "{prefix} said more");
}

#[tokio::test]
async fn each_prefix_is_read_and_written() {
    check("u8", b"\x05hello\x01!").await;
    check("u16be", b"\0\x05hello\0\x01!").await;
    check("u16le", b"\x05\0hello\x01\0!").await;
    check("u32be", b"\0\0\0\x05hello\0\0\0\x01!").await;
    check("u32le", b"\x05\0\0\0hello\x01\0\0\0!").await;
    check("octet_counting", b"5 hello1 !").await;
}

#[tokio::test]
async fn a_varint_prefix_is_read_and_written() {
    let long = "x".repeat(300);
    // 300 is 0b10_0101100: seven bits at a time, the lowest first.
    check("varint", &[b"\x05hello\xac\x02", long.as_bytes()].concat()).await;
}

/// A listener with this prefix refuses `sent` as broken.
async fn check_refused(prefix: &str, sent: &[u8]) {
    let wire = format!("wire = \"length\"\nroute = \"main\"\nprefix = \"{prefix}\"");
    let gateway = Gateway::start().listener("other", &wire).await;
    let mut peer = Peer::connect(gateway.address("other")).await;
    peer.send(sent).await;
    gateway.wait_for_closed("other", "protocol_error", 1).await;
}

#[tokio::test]
async fn broken_prefixes_are_refused() {
    check_refused("octet_counting", b"x hello").await;
    check_refused("octet_counting", b"05 hello").await;
    check_refused("octet_counting", b"<13>a line, not a count\n").await;
    check_refused("varint", &[0xff; 11]).await;
}
