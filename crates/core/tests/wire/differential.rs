//! weir, tungstenite and tokio-websockets are fed the same whole frames, right and wrong ones, and
//! must see the same messages and refuse at the same place. Where a peer is known to differ from
//! RFC 6455, the drawn streams leave that out and a test of its own pins what each does, so that a
//! difference that goes away is noticed too.

use proptest::prelude::*;
use weir_core::service::MessageKind;
use weir_core::wire::websocket::encode::client_frame;
use weir_core::wire::websocket::{Decoder, Options};

use crate::fuzz::feed::{Event, Reads, feed};
use crate::peers;

const CAP: usize = 300;

fn weir(stream: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new(Options { message_bytes_max: CAP });
    let mut events = feed(&mut decoder, stream, Reads::Whole);
    if let Some(refused @ Event::Refused(_)) = events.last_mut() {
        *refused = peers::REFUSED;
    }
    events
}

/// A frame to be sent, masked.
#[derive(Clone, Debug)]
struct Frame {
    fin: bool,
    rsv: u8,
    opcode: u8,
    payload: Vec<u8>,
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut stream = Vec::new();
    for Frame { fin, rsv, opcode, payload } in frames {
        client_frame(*opcode, *fin, *rsv, [0xa1, 0x02, 0xc3, 0x94], payload, &mut stream);
    }
    stream
}

/// Frames that are mostly right: text whose characters are cut anywhere, fragments in any order.
fn frame() -> impl Strategy<Value = Frame> {
    let opcode = prop_oneof![
        60 => prop::sample::select([0, 0, 1, 1, 2].as_slice()),
        20 => prop::sample::select([9, 10].as_slice()),
        1 => 0_u8..16,
    ];
    let rsv = prop_oneof![60 => Just(0_u8), 1 => 0_u8..8];
    (any::<bool>(), rsv, opcode).prop_flat_map(|(fin, rsv, opcode)| {
        let control = opcode >= 8;
        let fin = fin || control;
        let payload = if control { control_payload().boxed() } else { data_payload().boxed() };
        payload.prop_map(move |mut payload| {
            if fin && opcode == 0 && payload.is_empty() {
                payload.push(b'.'); // An empty end of a text is pinned below.
            }
            Frame { fin, rsv, opcode, payload }
        })
    })
}

fn data_payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "\\PC{0,6}".prop_map(String::into_bytes),
        2 => prop::sample::select(["ż", "鱼", "😀"].as_slice()).prop_flat_map(|text| {
            (0..=text.len()).prop_map(move |cut| text.as_bytes()[..cut].to_vec())
        }),
        2 => prop::collection::vec(0x80_u8..0xc0, 0..3),
        1 => prop::collection::vec(any::<u8>(), 0..3),
        1 => (90_usize..160).prop_map(|len| vec![b'x'; len]),
    ];
    prop::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn control_payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "\\PC{0,8}".prop_map(String::into_bytes),
        1 => prop::sample::select([125, 126].as_slice()).prop_map(|len| vec![b'x'; len]),
    ]
}

/// A close at the end of a stream, right or wrong.
fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![
        // 1014 is pinned below.
        4 => prop_oneof![990_u16..1014, 1015_u16..1020],
        1 => prop::sample::select([0, 2999, 3000, 4000, 4999, 5000, u16::MAX].as_slice()),
    ];
    let reason = prop_oneof![4 => "\\PC{0,9}".prop_map(String::into_bytes), 1 => data_payload()];
    let body = (code, reason).prop_map(|(code, reason)| {
        let mut payload = [&code.to_be_bytes(), reason.as_slice()].concat();
        payload.truncate(125);
        payload
    });
    let payload = prop_oneof![8 => body, 1 => Just(Vec::new()), 1 => Just(vec![3])];
    payload.prop_map(|payload| Frame { fin: true, rsv: 0, opcode: 8, payload })
}

proptest! {
    #![proptest_config(crate::cases(4000))]

    #[test]
    fn all_three_see_the_same(
        mut frames in prop::collection::vec(frame(), 0..8),
        close in prop::option::of(close()),
    ) {
        frames.extend(close);
        let stream = encode(&frames);
        let weir = weir(&stream);
        prop_assert_eq!(&weir, &peers::tungstenite(&stream, CAP), "tungstenite");
        prop_assert_eq!(&weir, &peers::tokio_websockets(&stream, CAP), "tokio-websockets");
    }
}

/// What weir, tungstenite and tokio-websockets make of the same bytes, in this order.
#[track_caller]
fn check(stream: &[u8], expected: [Vec<Event>; 3]) {
    let seen =
        [weir(stream), peers::tungstenite(stream, CAP), peers::tokio_websockets(stream, CAP)];
    assert_eq!(seen, expected);
}

fn refused() -> Vec<Event> {
    vec![peers::REFUSED]
}

#[test]
fn all_three_refuse_a_frame_without_a_mask() {
    check(b"\x81\x02hi", [refused(), refused(), refused()]);
}

#[test]
fn all_three_refuse_a_length_with_its_top_bit_set() {
    check(b"\x82\xff\x80\0\0\0\0\0\0\0mask", [refused(), refused(), refused()]);
}

/// Section 5.2: "the minimal number of bytes MUST be used to encode the length".
#[test]
fn tungstenite_takes_a_length_that_is_longer_than_it_need_be() {
    let message = vec![Event::Message(MessageKind::Binary, b"hi".to_vec())];
    check(b"\x82\xfe\0\x02\0\0\0\0hi", [refused(), message, refused()]);
}

/// Registered with IANA after RFC 6455, as 1012 and 1013, which tungstenite does know.
#[test]
fn tungstenite_does_not_know_close_code_1014() {
    let close = vec![Event::Close(Some(1014))];
    check(b"\x88\x82\0\0\0\0\x03\xf6", [close.clone(), refused(), close]);
}

/// It checks text only in frames that are not empty, the last one too.
#[test]
fn tokio_websockets_takes_a_cut_character_before_an_empty_last_fragment() {
    let message = vec![Event::Message(MessageKind::Text, vec![0xc5])];
    check(b"\x01\x81\0\0\0\0\xc5\x80\x80\0\0\0\0", [refused(), refused(), message]);
}

/// Section 8.1 does not say when; refusing early leaves less to wait for.
#[test]
fn tungstenite_checks_the_text_of_whole_frames_only() {
    check(b"\x81\x85\0\0\0\0a\xff", [refused(), vec![], refused()]);
}
