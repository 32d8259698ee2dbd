//! Section 9, large messages and many of them, and section 10, a message cut by its sender. The
//! suite measures their time; here they only have to be right.

use crate::autobahn::case::{BINARY, Case, Chops, Event, Step, TEXT, fragments, frame, repeat};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const TEXT_PATTERN: &[u8] = b"BAsd7&jh23";
const BYTES_PATTERN: &[u8] = b"\x00\xfe\x23\xfa\xf0";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(sizes("9.1", TEXT, TEXT_PATTERN));
    cases.extend(sizes("9.2", BINARY, BYTES_PATTERN));
    cases.extend(fragment_sizes("9.3", TEXT, b"*"));
    cases.extend(fragment_sizes("9.4", BINARY, b"\xfe"));
    cases.extend(chop_sizes("9.5", TEXT, TEXT_PATTERN));
    cases.extend(chop_sizes("9.6", BINARY, BYTES_PATTERN));
    cases.extend(round_trips("9.7", TEXT, b"*"));
    cases.extend(round_trips("9.8", BINARY, b"\xfe"));
    cases.push(in_fragments("10.1.1", TEXT, &repeat(b"*", 65_536), 1300));
    cases
}

/// One frame of 64 KiB to 16 MiB.
fn sizes(sub: &str, opcode: u8, pattern: &[u8]) -> impl Iterator<Item = Case> {
    let sizes = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
    (1..).zip(sizes).map(move |(number, size)| {
        let payload = repeat(pattern, size);
        Case::echo(format!("{sub}.{number}"), opcode, payload, Chops::Whole).slow()
    })
}

/// 4 MiB in fragments of 64 octets to 4 MiB.
fn fragment_sizes(sub: &str, opcode: u8, pattern: &[u8]) -> impl Iterator<Item = Case> {
    let payload = repeat(pattern, 4 * MIB);
    (1..=9).map(move |number| {
        let size = 16 * 4_usize.pow(number);
        in_fragments(&format!("{sub}.{number}"), opcode, &payload, size)
    })
}

fn in_fragments(number: &str, opcode: u8, payload: &[u8], size: usize) -> Case {
    let steps = vec![Step::Send(fragments(opcode, payload, size), Chops::Whole)];
    Case::legal(number, steps, vec![Event::Message(opcode, payload.to_vec())]).slow()
}

/// One frame of 1 MiB in chops of 64 to 2048 octets.
fn chop_sizes(sub: &str, opcode: u8, pattern: &[u8]) -> impl Iterator<Item = Case> {
    let payload = repeat(pattern, MIB);
    (1..=6).map(move |number| {
        let chops = Chops::Octets(32 << number);
        Case::echo(format!("{sub}.{number}"), opcode, payload.clone(), chops).slow()
    })
}

/// 1000 messages, each sent when the one before was echoed.
fn round_trips(sub: &str, opcode: u8, pattern: &[u8]) -> impl Iterator<Item = Case> {
    let lengths = [0, 16, 64, 256, 1024, 4096];
    (1..).zip(lengths).map(move |(number, len)| {
        let payload = repeat(pattern, len);
        let last = Event::Message(opcode, payload.clone());
        let steps = vec![Step::RoundTrips(frame(opcode, payload), 1000)];
        Case::legal(format!("{sub}.{number}"), steps, vec![last]).slow()
    })
}
