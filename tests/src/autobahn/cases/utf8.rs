//! Section 6, UTF-8: whole, in fragments, refused early, and the sequences of Markus Kuhn's
//! decoder stress test.

use crate::autobahn::case::{
    CONTINUATION, Case, Chops, Event, Step, TEXT, fragments, frame, open_frame,
};

const KOSME: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
const HELLO: [&str; 2] = ["Hello-µ@ßöä", "üàá-UTF-8!!"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = valid();
    cases.extend(invalid());
    cases.extend(refused_early());
    for (group, texts) in (5..).zip(sequences()) {
        for (at, (valid, text)) in texts.into_iter().enumerate() {
            let number = format!("6.{group}.{}", at + 1);
            cases.push(if valid {
                Case::echo(number, TEXT, text, Chops::Whole)
            } else {
                let steps = vec![Step::Send(vec![frame(TEXT, text)], Chops::Whole)];
                Case::illegal(number, 1007, steps, vec![])
            });
        }
    }
    cases
}

fn valid() -> Vec<Case> {
    let echo = |number, frames, text: &[u8]| {
        let steps = vec![Step::Send(frames, Chops::Whole)];
        Case::legal(number, steps, vec![Event::Message(TEXT, text.to_vec())])
    };
    let middle: &[u8] = b"middle frame payload";
    let three = |payload: &[u8]| {
        vec![open_frame(TEXT, b""), open_frame(CONTINUATION, payload), frame(CONTINUATION, b"")]
    };
    let hello = HELLO.concat().into_bytes();
    vec![
        echo("6.1.1", vec![frame(TEXT, b"")], b""),
        echo("6.1.2", three(b""), b""),
        echo("6.1.3", three(middle), middle),
        echo("6.2.1", vec![frame(TEXT, hello.clone())], &hello),
        echo("6.2.2", vec![open_frame(TEXT, HELLO[0]), frame(CONTINUATION, HELLO[1])], &hello),
        echo("6.2.3", fragments(TEXT, &hello, 1), &hello),
        echo("6.2.4", fragments(TEXT, KOSME, 1), KOSME),
    ]
}

fn invalid() -> Vec<Case> {
    let text = [KOSME, b"\xed\xa0\x80edited"].concat();
    let refused = |number, frames| {
        Case::illegal(number, 1007, vec![Step::Send(frames, Chops::Whole)], vec![])
    };
    vec![
        refused("6.3.1", vec![frame(TEXT, text.clone())]),
        refused("6.3.2", fragments(TEXT, &text, 1)),
    ]
}

/// Text that is wrong from its 13th octet on, in three parts with waits between them. The second
/// part must be refused at once, before the third, in frames of their own or in one.
fn refused_early() -> Vec<Case> {
    let text = [KOSME, b"\xf4\x90\x80\x80edited"].concat();
    let in_frames = |first: usize, second: usize| {
        vec![
            Step::Send(vec![open_frame(TEXT, &text[..first])], Chops::Whole),
            Step::Wait,
            Step::Send(vec![open_frame(CONTINUATION, &text[first..second])], Chops::Whole),
            Step::Wait,
            Step::Send(vec![frame(CONTINUATION, &text[second..])], Chops::Whole),
        ]
    };
    let in_chops =
        |first, second| vec![Step::SendInParts(frame(TEXT, text.clone()), [first, second])];
    let case = |number, steps| Case {
        allowed: Some(vec![Event::Waited, Event::Waited]),
        ..Case::illegal(number, 1007, steps, vec![Event::Waited])
    };
    vec![
        case("6.4.1", in_frames(11, 15)),
        case("6.4.2", in_frames(12, 13)),
        case("6.4.3", in_chops(11, 15)),
        case("6.4.4", in_chops(12, 13)),
    ]
}

type Texts = Vec<(bool, Vec<u8>)>;

fn texts(valid: bool, texts: &[&[u8]]) -> Texts {
    texts.iter().map(|text| (valid, text.to_vec())).collect()
}

/// The groups 6.5 to 6.23: whether each text is valid, and the text.
fn sequences() -> Vec<Texts> {
    let prefixes = (1..=KOSME.len())
        .map(|len| (std::str::from_utf8(&KOSME[..len]).is_ok(), KOSME[..len].to_vec()))
        .collect();
    let other_boundaries: [&[u8]; 4] =
        [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf"];
    let last_byte_missing: [&[u8]; 10] = [
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
    ];
    vec![
        // 6.5, valid sequences.
        texts(
            true,
            &[
                b"hello\x24world",
                b"hello\xc2\xa2world",
                b"hello\xe2\x82\xacworld",
                b"hello\xf0\xa4\xad\xa2world",
                KOSME,
            ],
        ),
        // 6.6, all prefixes of a valid text.
        prefixes,
        // 6.7 and 6.8, the first sequence of a length; of 5 and 6 there are none.
        texts(true, &[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"]),
        texts(false, &[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]),
        // 6.9 and 6.10, the last sequence of a length.
        texts(true, &[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"]),
        texts(false, &[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"]),
        // 6.11, other boundaries.
        [texts(true, &other_boundaries), texts(false, &[b"\xf4\x90\x80\x80"])].concat(),
        // 6.12, continuation bytes without a start.
        unexpected_continuations(),
        // 6.13, starts without a continuation.
        lonely_starts(),
        // 6.14 and 6.15, the last byte missing, by themselves and joined.
        texts(false, &last_byte_missing),
        texts(false, &[&last_byte_missing.concat()]),
        // 6.16, impossible bytes.
        texts(false, &[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
        // 6.17 to 6.19, overlong forms: of a slash, the largest ones, of NUL.
        texts(
            false,
            &[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xf0\x80\x80\xaf",
                b"\xf8\x80\x80\x80\xaf",
                b"\xfc\x80\x80\x80\x80\xaf",
            ],
        ),
        texts(
            false,
            &[
                b"\xc1\xbf",
                b"\xe0\x9f\xbf",
                b"\xf0\x8f\xbf\xbf",
                b"\xf8\x87\xbf\xbf\xbf",
                b"\xfc\x83\xbf\xbf\xbf\xbf",
            ],
        ),
        texts(
            false,
            &[
                b"\xc0\x80",
                b"\xe0\x80\x80",
                b"\xf0\x80\x80\x80",
                b"\xf8\x80\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80\x80",
            ],
        ),
        // 6.20 and 6.21, UTF-16 surrogates, single and paired.
        texts(
            false,
            &[
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ],
        ),
        surrogate_pairs(),
        // 6.22, code points that are no characters, and 6.23, special ones: valid all the same.
        non_characters(),
        (0xb9..=0xbf).map(|last| (true, vec![0xef, 0xbf, last])).collect(),
    ]
}

fn unexpected_continuations() -> Texts {
    let alternating = |len: usize| b"\x80\xbf".repeat(len)[..len].to_vec();
    let mut list = vec![(false, vec![0x80]), (false, vec![0xbf])];
    list.extend((2..=6).map(|len| (false, alternating(len))));
    list.push((false, (0x80..0xbf).collect()));
    list
}

fn lonely_starts() -> Texts {
    // The last of each range is left out, as in the suite.
    [(0xc0, 0xdf), (0xe0, 0xef), (0xf0, 0xf7), (0xf8, 0xfb), (0xfc, 0xfd_u8)]
        .into_iter()
        .map(|(first, end)| (false, (first..end).flat_map(|start| [start, b' ']).collect()))
        .collect()
}

fn surrogate_pairs() -> Texts {
    let mut list = Vec::new();
    for high in [[0xa0, 0x80], [0xad, 0xbf], [0xae, 0x80], [0xaf, 0xbf]] {
        for low in [[0xb0, 0x80], [0xbf, 0xbf]] {
            list.push((false, vec![0xed, high[0], high[1], 0xed, low[0], low[1]]));
        }
    }
    list
}

fn non_characters() -> Texts {
    let mut list = texts(true, &[b"\xef\xbf\xbe", b"\xef\xbf\xbf"]);
    for plane in 1..=0x10_u32 {
        for last in [0xfffe, 0xffff] {
            let character = char::from_u32(plane << 16 | last).expect("not a surrogate");
            list.push((true, character.to_string().into_bytes()));
        }
    }
    list
}
