//! Section 1, framing: messages of the lengths where a header grows.

use crate::autobahn::case::{BINARY, Case, Chops, TEXT, repeat};

const LENGTHS: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (sub, opcode, pattern) in [("1.1", TEXT, b'*'), ("1.2", BINARY, 0xfe)] {
        for (at, len) in LENGTHS.into_iter().enumerate() {
            let number = format!("{sub}.{}", at + 1);
            cases.push(Case::echo(number, opcode, repeat(&[pattern], len), Chops::Whole));
        }
        let payload = repeat(&[pattern], 65_536);
        cases.push(Case::echo(format!("{sub}.8"), opcode, payload, Chops::Octets(997)));
    }
    cases
}
