//! Section 7, the closing handshake.

use crate::autobahn::case::{
    CLOSE, CONTINUATION, Case, Chops, Event, Frame, PING, Step, TEXT, close, frame, open_frame,
    repeat,
};

const HELLO: &[u8] = b"Hello World!";
const VALID: [u16; 13] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const INVALID: [u16; 9] = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
const NOT_UTF8: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::echo("7.1.1", TEXT, HELLO.to_vec(), Chops::Whole)];
    cases.extend([
        closing("7.1.2", vec![close(1000, b""), frame(CLOSE, b"")], &[1000]),
        closing("7.1.3", vec![close(1000, b""), frame(PING, b"")], &[1000]),
        closing("7.1.4", vec![close(1000, b""), frame(TEXT, HELLO)], &[1000]),
        closing("7.1.5", close_between_fragments(), &[1000]),
        close_after_a_long_message(),
        closing("7.3.1", vec![frame(CLOSE, b"")], &[1000]),
        refused("7.3.2", frame(CLOSE, b"a"), &[1002]),
        closing("7.3.3", vec![close(1000, b"")], &[1000]),
        closing("7.3.4", vec![close(1000, HELLO)], &[1000]),
        closing("7.3.5", vec![close(1000, &[b'*'; 123])], &[1000]),
        refused("7.3.6", close(1000, &[b'*'; 124]), &[1002]),
        refused("7.5.1", close(1000, NOT_UTF8), &[1002, 1007]),
    ]);
    for (number, code) in (1..).zip(VALID) {
        let codes = [1000, code];
        cases.push(closing(&format!("7.7.{number}"), vec![close(code, b"")], &codes));
    }
    for (number, code) in (1..).zip(INVALID) {
        cases.push(refused(&format!("7.9.{number}"), close(code, b""), &[1002]));
    }
    cases.push(refused("7.13.1", close(5000, b""), &[1000, 1002, 5000]).informational());
    cases.push(refused("7.13.2", close(65_535, b""), &[1000, 1002, 65_535]).informational());
    cases
}

/// A close that is answered; what follows it is not.
fn closing(number: &str, frames: Vec<Frame>, codes: &[u16]) -> Case {
    Case::closing(number, vec![Step::Send(frames, Chops::Whole)], codes, true)
}

/// A close that breaks a rule, and is answered with a code that says so, or by the end.
fn refused(number: &str, wrong: Frame, codes: &[u16]) -> Case {
    Case::closing(number, vec![Step::Send(vec![wrong], Chops::Whole)], codes, false)
}

fn close_between_fragments() -> Vec<Frame> {
    vec![open_frame(TEXT, b"fragment1"), close(1000, b""), frame(CONTINUATION, b"fragment2")]
}

/// Whether the echoes come before the answer is left to the server.
fn close_after_a_long_message() -> Case {
    let long = repeat(b"BAsd7&jh23", 256 * 1024);
    let expected = vec![Event::Message(TEXT, long.clone()), Event::Message(TEXT, HELLO.to_vec())];
    let frames = vec![frame(TEXT, long), frame(TEXT, HELLO), close(1000, b""), frame(PING, b"")];
    Case { expected, ..closing("7.1.6", frames, &[1000]) }.informational()
}
