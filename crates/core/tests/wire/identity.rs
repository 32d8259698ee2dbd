//! What is encoded is decoded again, however the stream is cut into reads.

use proptest::prelude::*;
use weir_core::service::MessageKind;
use weir_core::wire::websocket::encode;
use weir_core::wire::{length, lines, websocket};

use crate::fuzz::feed::{Event, Reads, feed};
use crate::fuzz::{PREFIXES, opcode_of};

const MAX: usize = 70_000;

/// Texts: short ones, and some around the lengths where a prefix or a header grows.
fn text() -> impl Strategy<Value = String> {
    let edge = prop::sample::select([125, 126, 127, 128, 255, 256, 65_535, 65_536].as_slice());
    prop_oneof![
        8 => "\\PC{0,40}",
        1 => edge.prop_map(|len| "x".repeat(len)),
    ]
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..8)
}

fn messages(kind: MessageKind, texts: &[String]) -> Vec<Event> {
    texts.iter().map(|text| Event::Message(kind, text.clone().into_bytes())).collect()
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn lines(texts in texts(), cuts: u8, crlf: bool) {
        let mut stream = Vec::new();
        for text in &texts {
            lines::encode(text.as_bytes(), &mut stream);
            if crlf {
                stream.insert(stream.len() - 1, b'\r');
            }
        }
        let options = lines::Options {
            text: true,
            empty: lines::EmptyLines::Deliver,
            unfinished: lines::UnfinishedLine::Deliver,
        };
        let events = feed(&mut lines::Decoder::new(options, MAX), &stream, Reads::Cut(cuts));
        prop_assert_eq!(events, messages(MessageKind::Text, &texts));
    }

    #[test]
    fn lengths(
        mut texts in texts(),
        cuts: u8,
        prefix in prop::sample::select(PREFIXES.as_slice()),
    ) {
        let mut stream = Vec::new();
        texts.retain(|text| length::encode(prefix, text.as_bytes(), &mut stream).is_ok());
        let mut decoder = length::Decoder::new(prefix, true, MAX);
        let events = feed(&mut decoder, &stream, Reads::Cut(cuts));
        prop_assert_eq!(events, messages(MessageKind::Text, &texts));
    }

    /// Each message goes in fragments cut at the drawn places, with a ping after each fragment.
    #[test]
    fn frames(
        texts in texts(),
        text: bool,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        mask: [u8; 4],
        cuts: u8,
    ) {
        let kind = if text { MessageKind::Text } else { MessageKind::Binary };
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for message in messages(kind, &texts) {
            let Event::Message(_, payload) = &message else { continue };
            let fragments = fragments(payload, &places);
            for (at, fragment) in fragments.iter().enumerate() {
                let opcode = if at == 0 { opcode_of(kind) } else { encode::Opcode::Continuation };
                let fin = at + 1 == fragments.len();
                encode::client_frame(opcode, fin, 0, mask, fragment, &mut stream);
                if !fin {
                    let ping = encode::Opcode::Ping;
                    encode::client_frame(ping, true, 0, mask, b"between", &mut stream);
                    expected.push(Event::Ping(b"between".to_vec()));
                }
            }
            expected.push(message);
        }
        let options = websocket::Options { message_bytes_max: MAX };
        let events = feed(&mut websocket::Decoder::new(options), &stream, Reads::Cut(cuts));
        prop_assert_eq!(events, expected);
    }
}

/// Cuts a payload at each place, which may be in the middle of a character.
fn fragments<'a>(payload: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(payload.len() + 1)).collect();
    at.sort_unstable();
    let (mut fragments, mut start) = (Vec::new(), 0);
    for end in at.into_iter().chain([payload.len()]) {
        fragments.push(&payload[start..end]);
        start = end;
    }
    fragments
}
