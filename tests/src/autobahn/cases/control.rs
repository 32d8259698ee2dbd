//! Sections 2, pings and pongs; 3, reserved bits; 4, reserved opcodes.

use crate::autobahn::case::{
    BINARY, CLOSE, Case, Chops, Event, Frame, PING, PONG, Step, TEXT, close, frame,
};

const HELLO: &[u8] = b"Hello, world!";
const BYTES: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";

pub(super) fn pings() -> Vec<Case> {
    let ping = |number, payload: &[u8], chops| {
        let steps = vec![Step::Send(vec![frame(PING, payload)], chops)];
        Case::legal(number, steps, vec![Event::Pong(payload.to_vec())])
    };
    let ten = |number, chops| {
        let payloads = || (0..10).map(|at| format!("payload-{at}").into_bytes());
        let pings = payloads().map(|payload| frame(PING, payload)).collect();
        let pongs = payloads().map(Event::Pong).collect();
        Case::legal(number, vec![Step::Send(pings, chops)], pongs)
    };
    let unsolicited = |number, payload: &[u8]| {
        let frames = vec![frame(PONG, payload), close(1000, b"")];
        Case::closing(number, vec![Step::Send(frames, Chops::Whole)], &[1000], true)
    };
    let too_long = vec![Step::Send(vec![frame(PING, [0xfe; 126])], Chops::Whole)];
    let then_ping = vec![frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload")];
    vec![
        ping("2.1", b"", Chops::Whole),
        ping("2.2", HELLO, Chops::Whole),
        ping("2.3", BYTES, Chops::Whole),
        ping("2.4", &[0xfe; 125], Chops::Whole),
        Case::illegal("2.5", 1002, too_long, vec![]),
        ping("2.6", &[0xfe; 125], Chops::Octets(1)),
        unsolicited("2.7", b""),
        unsolicited("2.8", b"unsolicited pong payload"),
        Case::legal(
            "2.9",
            vec![Step::Send(then_ping, Chops::Whole)],
            vec![Event::Pong(b"ping payload".to_vec())],
        ),
        ten("2.10", Chops::Whole),
        ten("2.11", Chops::Octets(1)),
    ]
}

pub(super) fn reserved_bits() -> Vec<Case> {
    let with_rsv = |rsv, opcode, payload: &[u8]| Frame { rsv, ..frame(opcode, payload) };
    vec![
        alone("3.1", with_rsv(1, TEXT, HELLO)),
        between("3.2", with_rsv(2, TEXT, HELLO), Chops::Whole),
        between("3.3", with_rsv(3, TEXT, HELLO), Chops::Frames),
        between("3.4", with_rsv(4, TEXT, HELLO), Chops::Octets(1)),
        alone("3.5", with_rsv(5, BINARY, BYTES)),
        // Described as a ping, but what the suite sends is bytes.
        alone("3.6", with_rsv(6, BINARY, HELLO)),
        alone("3.7", with_rsv(7, CLOSE, b"")),
    ]
}

pub(super) fn opcodes() -> Vec<Case> {
    let payload: &[u8] = b"reserved opcode payload";
    vec![
        alone("4.1.1", frame(3, b"")),
        alone("4.1.2", frame(4, payload)),
        between("4.1.3", frame(5, b""), Chops::Whole),
        between("4.1.4", frame(6, HELLO), Chops::Whole),
        between("4.1.5", frame(7, HELLO), Chops::Octets(1)),
        alone("4.2.1", frame(11, b"")),
        alone("4.2.2", frame(12, payload)),
        between("4.2.3", frame(13, b""), Chops::Whole),
        between("4.2.4", frame(14, HELLO), Chops::Whole),
        between("4.2.5", frame(15, HELLO), Chops::Octets(1)),
    ]
}

/// The frame breaks a rule.
fn alone(number: &str, wrong: Frame) -> Case {
    Case::illegal(number, 1002, vec![Step::Send(vec![wrong], Chops::Whole)], vec![])
}

/// The frame breaks a rule between a text, which is echoed, and a ping, which is not answered.
fn between(number: &str, wrong: Frame, chops: Chops) -> Case {
    let frames = vec![frame(TEXT, HELLO), wrong, frame(PING, b"")];
    let echo = Event::Message(TEXT, HELLO.to_vec());
    Case::illegal(number, 1002, vec![Step::Send(frames, chops)], vec![echo])
}
