//! The decoder frame by frame.

use super::encode::client_frame;
use super::*;

const MAX: usize = 70_000;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What the caller of a decoder is told, payloads copied out.
#[derive(Debug, PartialEq)]
enum Event {
    Message(MessageKind, Vec<u8>),
    Gathered(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The input ended here, with this many bytes left over.
    Left(usize),
    Refused(FrameError),
}
use Event::{Close, Gathered, Left, Message, Ping, Pong, Refused};
use MessageKind::{Binary, Text};

/// Feeds the input `chunk` bytes at a time, offering what was not taken again.
fn decode(input: &[u8], chunk: usize) -> Vec<Event> {
    let mut decoder = Decoder::new(Options { message_bytes_max: MAX });
    let (mut buf, mut events) = (Vec::new(), Vec::new());
    for arrived in input.chunks(chunk) {
        buf.extend_from_slice(arrived);
        loop {
            let (event, taken) = match decoder.step(&mut buf) {
                Ok(Step::More { need }) => {
                    assert!(need > buf.len());
                    break;
                }
                Ok(Step::Skip { taken }) => (None, taken),
                Ok(Step::Message { payload, taken, kind }) => {
                    (Some(Message(kind, buf[payload].to_vec())), taken)
                }
                Ok(Step::Gathered { taken, kind }) => {
                    (Some(Gathered(kind, decoder.take_gathered())), taken)
                }
                Ok(Step::Ping { payload, taken }) => (Some(Ping(buf[payload].to_vec())), taken),
                Ok(Step::Pong { payload, taken }) => (Some(Pong(buf[payload].to_vec())), taken),
                Ok(Step::Close { code, .. }) => {
                    events.push(Close(code));
                    return events;
                }
                Err(error) => {
                    events.push(Refused(error));
                    return events;
                }
            };
            events.extend(event);
            buf.drain(..taken);
        }
    }
    if !buf.is_empty() {
        events.push(Left(buf.len()));
    }
    events
}

/// Frames given as (first byte, payload), masked and joined.
fn frames(list: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (first, payload) in list {
        client_frame(first & 0xf, first >> 7 == 1, first >> 4 & 7, KEY, payload, &mut out);
    }
    out
}

#[track_caller]
fn check_bytes(input: &[u8], expected: &[Event]) {
    assert_eq!(decode(input, usize::MAX), expected, "at once");
    // Byte by byte is quadratic in the test's own copying, so long inputs come in larger pieces.
    let chunk = input.len() / 1000 + 1;
    assert_eq!(decode(input, chunk), expected, "{chunk} at a time");
}

#[track_caller]
fn check(list: &[(u8, &[u8])], expected: &[Event]) {
    check_bytes(&frames(list), expected);
}

fn protocol(text: &'static str) -> Event {
    Refused(FrameError::Protocol(text))
}

#[test]
fn a_whole_message_is_a_slice_of_the_buffer() {
    let mut buf = frames(&[(0x81, b"Hello")]);
    let step = Decoder::new(Options { message_bytes_max: MAX }).step(&mut buf);
    assert_eq!(step, Ok(Step::Message { payload: 6..11, taken: 11, kind: Text }));
    assert_eq!(&buf[6..11], b"Hello");
}

#[test]
fn messages_of_every_length_form_are_read() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, MAX] {
        let payload = vec![b'*'; len];
        check(&[(0x82, &payload)], &[Message(Binary, payload.clone())]);
        check(&[(0x81, &payload)], &[Message(Text, payload.clone())]);
    }
}

#[test]
fn fragments_are_gathered_around_control_frames() {
    check(
        &[(0x01, "gż".as_bytes()), (0x89, b"1"), (0x00, b""), (0x8a, b"2"), (0x80, b"e")],
        &[Ping(b"1".to_vec()), Pong(b"2".to_vec()), Gathered(Text, "gże".into())],
    );
    check(&[(0x02, b""), (0x80, b"")], &[Gathered(Binary, Vec::new())]);
    check(
        &[(0x02, b"a"), (0x80, b"b"), (0x82, b"c"), (0x01, b"d"), (0x80, b"e")],
        &[
            Gathered(Binary, b"ab".to_vec()),
            Message(Binary, b"c".to_vec()),
            Gathered(Text, b"de".to_vec()),
        ],
    );
}

#[test]
fn the_order_of_fragments_is_checked() {
    check(&[(0x80, b"a")], &[protocol("continuation without a message")]);
    check(&[(0x00, b"a")], &[protocol("continuation without a message")]);
    check(
        &[(0x81, b"a"), (0x80, b"b")],
        &[Message(Text, b"a".to_vec()), protocol("continuation without a message")],
    );
    check(&[(0x01, b"a"), (0x81, b"b")], &[protocol("new message inside a fragmented one")]);
    check(&[(0x01, b"a"), (0x02, b"b")], &[protocol("new message inside a fragmented one")]);
}

#[test]
fn headers_that_break_a_rule_are_refused() {
    for rsv in 1..=7 {
        check(&[(0x81 | rsv << 4, b"a")], &[protocol("reserved bit without an extension")]);
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        check(&[(0x80 | opcode, b"")], &[protocol("reserved opcode")]);
    }
    for opcode in [8, 9, 0xa] {
        check(&[(opcode, b"")], &[protocol("control frame in fragments")]);
        check(&[(0x80 | opcode, &[0; 126])], &[protocol("control frame over 125 bytes")]);
    }
    check_bytes(b"\x81\x05Hello", &[protocol("client frame without a mask")]);
}

#[test]
fn lengths_must_be_the_shortest_and_below_the_top_bit() {
    let longer = protocol("length is longer than it need be");
    check_bytes(b"\x82\xfe\x00\x7d", &[longer]);
    let longer = protocol("length is longer than it need be");
    check_bytes(b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", &[longer]);
    let top = protocol("length with its top bit set");
    check_bytes(b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", &[top]);
}

#[test]
fn the_cap_is_checked_at_the_header_over_all_fragments() {
    let too_big = |size| Refused(FrameError::TooBig { size, max: MAX });
    check(&[(0x82, &[0; MAX + 1])], &[too_big(MAX as u64 + 1)]);
    check_bytes(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff----", &[too_big(u64::MAX >> 1)]);
    check(&[(0x02, &[0; MAX]), (0x80, b"")], &[Gathered(Binary, vec![0; MAX])]);
    check(&[(0x02, &[0; MAX]), (0x80, b"a")], &[too_big(MAX as u64 + 1)]);
}

#[test]
fn text_is_checked_across_fragments_and_at_the_first_wrong_byte() {
    let invalid = || Refused(FrameError::InvalidUtf8);
    check(&[(0x81, b"a\xff")], &[invalid()]);
    check(&[(0x81, b"a\xc5")], &[invalid()]);
    check(&[(0x01, b"\xf0\x9f"), (0x00, b"\x98"), (0x80, b"\x80")], &[Gathered(Text, "😀".into())]);
    check(&[(0x01, b"\xf0\x9f"), (0x80, b"")], &[invalid()]);
    check(&[(0x01, b"\xf4"), (0x00, b"\x90")], &[invalid()]);

    // The frame's last bytes have not come, but what has is wrong already.
    let mut input = frames(&[(0x81, b"ab\xed\xa0 and so on")]);
    input.truncate(6 + 4);
    check_bytes(&input, &[invalid()]);
    input.truncate(6 + 3);
    check_bytes(&input, &[Left(9)]);
}

#[test]
fn a_close_carries_its_code_and_bad_ones_are_refused() {
    check(&[(0x88, b"")], &[Close(None)]);
    check(&[(0x88, b"\x03\xe8bye")], &[Close(Some(1000))]);
    check(&[(0x01, b"a"), (0x88, b"\x03\xe8")], &[Close(Some(1000))]);
    check(&[(0x88, b"\x03")], &[protocol("close payload of one byte")]);
    check(&[(0x88, b"\x03\xed")], &[protocol("close code that may not be sent")]);
    check(&[(0x88, b"\x03\xe8\xff")], &[Refused(FrameError::InvalidUtf8)]);
}

#[test]
fn a_gathered_message_that_is_not_taken_is_dropped() {
    let mut decoder = Decoder::new(Options { message_bytes_max: MAX });
    let mut first = frames(&[(0x02, b"a")]);
    let mut last = frames(&[(0x80, b"b")]);
    assert!(matches!(decoder.step(&mut first), Ok(Step::Skip { .. })));
    assert!(decoder.is_gathering());
    assert!(decoder.take_gathered().is_empty());
    assert!(decoder.is_gathering());
    assert!(matches!(decoder.step(&mut last), Ok(Step::Gathered { .. })));
    assert!(!decoder.is_gathering());
    let mut next = frames(&[(0x82, b"c")]);
    assert!(matches!(decoder.step(&mut next), Ok(Step::Message { .. })));
    assert!(decoder.take_gathered().is_empty());
}

#[test]
fn the_room_for_fragments_stays_within_the_cap() {
    let mut decoder = Decoder::new(Options { message_bytes_max: 1000 });
    let mut frame = frames(&[(0x02, &[0; 99])]);
    assert!(decoder.step(&mut frame).is_ok());
    for _ in 0..9 {
        let mut frame = frames(&[(0x00, &[0; 99])]);
        assert!(decoder.step(&mut frame).is_ok());
        let room = decoder.gather.as_ref().map(|gather| gather.bytes.capacity());
        assert!(room.is_some_and(|room| room <= 1000));
    }
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 24);
}
