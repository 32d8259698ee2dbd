//! What a message costs on the wire's side alone: bytes copied in, decoded, checked and answered
//! by an echo, in nanoseconds. Run with `cargo run --release -p weir-core --example wire_cost`.

use std::hint::black_box;

use weir_core::clock;
use weir_core::wire::websocket::encode::{self, Opcode};
use weir_core::wire::{Step, length, lines, websocket};

/// Messages that arrive together, as one read would bring them.
const BATCH: usize = 64;
const ROUNDS: usize = 20_000;
/// Repetitions; the least is reported, since noise only adds.
const RUNS: usize = 7;

fn main() {
    println!(
        "{:>8}  {:>14} {:>14} {:>14} {:>14}",
        "bytes", "ws text", "ws binary", "lines", "u32be"
    );
    for len in [16, 128, 1024, 16 * 1024] {
        println!(
            "{len:>8}  {:>11.1} ns {:>11.1} ns {:>11.1} ns {:>11.1} ns",
            websocket_cost(Opcode::Text, len),
            websocket_cost(Opcode::Binary, len),
            lines_cost(len),
            length_cost(len),
        );
    }
}

fn websocket_cost(opcode: Opcode, len: usize) -> f64 {
    let mut input = Vec::new();
    for _ in 0..BATCH {
        encode::client_frame(opcode, true, 0, [0x37, 0xfa, 0x21, 0x3d], &payload(len), &mut input);
    }
    let options = websocket::Options { message_bytes_max: 64 * 1024 };
    let mut decoder = websocket::Decoder::new(options);
    let reply = |payload: &[u8], out: &mut Vec<u8>| encode::frame(opcode, payload, out);
    measure(&input, |buf| decoder.step(buf).ok(), reply, len)
}

fn lines_cost(len: usize) -> f64 {
    let mut input = Vec::new();
    for _ in 0..BATCH {
        lines::encode(&payload(len), &mut input);
    }
    let options = lines::Options {
        text: true,
        empty: lines::EmptyLines::Skip,
        unfinished: lines::UnfinishedLine::Drop,
    };
    let mut decoder = lines::Decoder::new(options, 64 * 1024);
    measure(&input, |buf| decoder.step(buf).ok(), lines::encode, len)
}

fn length_cost(len: usize) -> f64 {
    let prefix = length::Prefix::U32Be;
    let mut input = Vec::new();
    for _ in 0..BATCH {
        length::encode(prefix, &payload(len), &mut input).expect("32 bits hold the length");
    }
    let mut decoder = length::Decoder::new(prefix, true, 64 * 1024);
    let reply = |payload: &[u8], out: &mut Vec<u8>| {
        length::encode(prefix, payload, out).expect("32 bits hold the length");
    };
    measure(&input, |buf| decoder.step(buf).ok(), reply, len)
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| b'a' + (i % 26) as u8).collect()
}

/// Nanoseconds a message, the least of several runs.
fn measure(
    input: &[u8],
    mut step: impl FnMut(&mut [u8]) -> Option<Step>,
    reply: impl Fn(&[u8], &mut Vec<u8>),
    len: usize,
) -> f64 {
    let rounds = (ROUNDS * 128 / len.max(128)).max(50);
    let (mut buf, mut out) = (Vec::new(), Vec::new());
    let mut least = f64::MAX;
    for _ in 0..RUNS {
        let start = clock::now();
        for _ in 0..rounds {
            buf.clear();
            buf.extend_from_slice(black_box(input)); // What the read would do.
            out.clear();
            let mut at = 0;
            while let Some(Step::Message { payload, taken, .. }) = step(&mut buf[at..]) {
                reply(&buf[at..][payload], &mut out);
                at += taken;
            }
            assert_eq!(at, buf.len(), "every message is decoded");
            black_box(&out);
        }
        let messages = (rounds * BATCH) as f64;
        least = least.min(start.elapsed().as_nanos() as f64 / messages);
    }
    least
}
