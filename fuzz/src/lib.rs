//! What the fuzz targets do with their bytes. weir-core's tests include this file too: they replay
//! the corpus and draw bytes of their own, so the promises hold without a fuzzer.
//!
//! The first bytes choose options, cap and how the rest, the stream, is cut into reads. Each target
//! holds that nothing panics, that no message is over the cap, that the cut does not matter, that
//! what was decoded can be encoded and decoded again, and, for the simple wires, that a decoder
//! of a few plain lines agrees.

pub mod feed;
mod gate;
mod model;
mod proxy;
mod session;
mod trace;

use weir_core::service::MessageKind;
use weir_core::wire::websocket::encode::{self, Opcode};
use weir_core::wire::{FrameError, length, lines, websocket};

use self::feed::{Event, Reads, feed};
pub use self::gate::http_gate;
pub use self::proxy::proxy_header;
pub use self::session::session_script;
pub use self::trace::traceparent;

/// Every prefix, for the choice of one.
pub const PREFIXES: [length::Prefix; 7] = [
    length::Prefix::U8,
    length::Prefix::U16Be,
    length::Prefix::U16Le,
    length::Prefix::U32Be,
    length::Prefix::U32Le,
    length::Prefix::Varint,
    length::Prefix::OctetCounting,
];

/// Lines: a byte of options, one of cap, one of cuts, then the stream.
pub fn lines(data: &[u8]) {
    let Some(([flags, cap, cuts], stream)) = data.split_first_chunk() else {
        return;
    };
    let cap = usize::from(*cap);
    let options = lines::Options {
        text: flags & 1 != 0,
        empty: if flags & 2 != 0 { lines::EmptyLines::Skip } else { lines::EmptyLines::Deliver },
        unfinished: if flags & 4 != 0 {
            lines::UnfinishedLine::Drop
        } else {
            lines::UnfinishedLine::Deliver
        },
    };
    let expected = model::lines(options, cap, stream);
    let decode = |stream: &[u8], reads| feed(&mut lines::Decoder::new(options, cap), stream, reads);
    assert_eq!(decode(stream, Reads::Whole), expected);
    assert_eq!(decode(stream, Reads::Cut(*cuts)), expected);

    let mut again = Vec::new();
    let messages = expected.iter().filter(|event| matches!(event, Event::Message(..)));
    for event in messages.clone() {
        if let Event::Message(_, payload) = event {
            lines::encode(payload, &mut again);
        }
    }
    let spaced: Vec<Event> = messages.cloned().map(model::without_lone_cr).collect();
    assert_eq!(decode(&again, Reads::Cut(*cuts)), spaced);
}

/// Length prefixes: a byte of options, one of cap, one of cuts, then the stream.
pub fn length(data: &[u8]) {
    let Some(([flags, cap, cuts], stream)) = data.split_first_chunk() else {
        return;
    };
    let (text, cap) = (flags & 1 != 0, usize::from(*cap));
    let prefix = PREFIXES[usize::from(flags >> 1) % PREFIXES.len()];
    let expected = model::length(prefix, text, cap, stream);
    let decode =
        |stream: &[u8], reads| feed(&mut length::Decoder::new(prefix, text, cap), stream, reads);
    assert_eq!(decode(stream, Reads::Whole), expected);
    assert_eq!(decode(stream, Reads::Cut(*cuts)), expected);

    // Every length is written in one way only, so what was taken is what would be written.
    let mut again = Vec::new();
    for event in &expected {
        if let Event::Message(_, payload) = event {
            length::encode(prefix, payload, &mut again).expect("it came behind such a prefix");
        }
    }
    assert!(stream.starts_with(&again));
}

/// WebSocket frames: two bytes of cap, one of cuts, then the stream.
pub fn websocket(data: &[u8]) {
    let Some(([high, low, cuts], stream)) = data.split_first_chunk() else {
        return;
    };
    let cap = usize::from(u16::from_be_bytes([*high, *low]));
    let options = websocket::Options { message_bytes_max: cap };
    let decode = |stream: &[u8], reads| feed(&mut websocket::Decoder::new(options), stream, reads);
    let events = decode(stream, Reads::Whole);
    assert_eq!(decode(stream, Reads::Cut(*cuts)), events);

    let mut again = Vec::new();
    let mut whole = Vec::new();
    for event in events {
        let (opcode, payload) = match &event {
            Event::Message(kind, payload) => {
                assert!(payload.len() <= cap);
                if *kind == MessageKind::Text {
                    assert!(std::str::from_utf8(payload).is_ok());
                }
                (opcode_of(*kind), payload.as_slice())
            }
            Event::Ping(payload) => (Opcode::Ping, payload.as_slice()),
            Event::Pong(payload) => (Opcode::Pong, payload.as_slice()),
            Event::Close(_) | Event::Refused(_) => continue,
        };
        encode::client_frame(opcode, true, 0, [*high, *low, *cuts, 7], payload, &mut again);
        whole.push(event);
    }
    assert_eq!(decode(&again, Reads::Cut(cuts.wrapping_add(1))), whole);
}

/// The opcode that begins a message of this kind.
pub fn opcode_of(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

/// What a refusal is of, without its numbers: how many bytes of a line were seen depends on reads.
pub fn refusal(error: &FrameError) -> &'static str {
    match error {
        FrameError::TooBig { .. } => "too big",
        FrameError::InvalidUtf8 => "not UTF-8",
        FrameError::Protocol(_) => "protocol",
    }
}
