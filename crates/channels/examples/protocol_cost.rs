//! What the client protocol costs alone: a publish command read, a publication written for all who share it, in
//! nanoseconds. Run with `cargo run --release -p weir-channels --example protocol_cost`.

use std::hint::black_box;

use weir_channels::protocol::push::{Publication, Push};
use weir_channels::protocol::{Command, Encoding, Form, Limits, Payload, Request, SharedPush};
use weir_core::clock;

const ROUNDS: u32 = 200_000;
/// Repetitions; the least is reported, since noise only adds.
const RUNS: usize = 7;

fn main() {
    println!("{:>8} {:>9}  {:>11} {:>11} {:>14}", "bytes", "", "read", "write", "write, looked");
    for len in [16, 128, 1024, 16 * 1024] {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let data = payload(len);
            println!(
                "{len:>8} {:>9}  {:>8.1} ns {:>8.1} ns {:>11.1} ns",
                format!("{encoding:?}"),
                read_cost(encoding, &data),
                write_cost(encoding, Payload::json(&data)),
                write_cost(encoding, Payload::new(&data)),
            );
        }
    }
}

/// An object of about so many bytes, as a sensor sends it.
fn payload(len: usize) -> Vec<u8> {
    let mut text = r#"{"v":[1"#.to_owned();
    while text.len() + 2 < len {
        text.push_str(",27.5");
    }
    text.push_str("]}");
    text.into_bytes()
}

fn read_cost(encoding: Encoding, data: &[u8]) -> f64 {
    let line = [br#"{"id":7,"publish":{"channel":"sensors:a","data":"#, data, b"}}"].concat();
    let mut input = line.clone();
    if encoding == Encoding::Protobuf {
        let command =
            Command::decode(Encoding::Json, &line, &Limits::default()).expect("a command");
        let mut frame = Vec::new();
        command.encode(encoding, &mut frame).expect("it can be written");
        let length = frame.iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        input = frame.split_off(length);
    }
    let limits = Limits::default();
    measure(|| {
        let command = Command::decode(encoding, black_box(&input), &limits).expect("a command");
        assert!(matches!(black_box(command).request, Request::Publish(_)));
    })
}

fn write_cost(encoding: Encoding, data: Payload<'_>) -> f64 {
    let form = match encoding {
        Encoding::Json => Form::JsonFrame,
        Encoding::Protobuf => Form::ProtobufFrame,
    };
    measure(|| {
        let publication =
            Publication { data: black_box(data), offset: 42, ..Publication::default() };
        let mut shared = SharedPush::default();
        let push = || Push::publication("sensors:a", publication);
        black_box(shared.form(form, push).expect("it is JSON"));
    })
}

fn measure(mut act: impl FnMut()) -> f64 {
    let run = |act: &mut dyn FnMut()| {
        let start = clock::now();
        for _ in 0..ROUNDS {
            act();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    };
    (0..RUNS).map(|_| run(&mut act)).fold(f64::INFINITY, f64::min)
}
