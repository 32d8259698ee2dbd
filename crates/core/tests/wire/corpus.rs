//! What the fuzz targets hold, for the saved inputs and for drawn bytes.

use std::path::Path;

use proptest::prelude::*;

use crate::fuzz;

#[track_caller]
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be listed").path();
        println!("{}", path.display()); // Shown when the body panics.
        body(&std::fs::read(&path).expect("the input can be read"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

#[test]
fn the_saved_lines_hold() {
    replay("lines", fuzz::lines);
}

#[test]
fn the_saved_lengths_hold() {
    replay("length", fuzz::length);
}

#[test]
fn the_saved_frames_hold() {
    replay("websocket", fuzz::websocket);
}

#[test]
fn the_saved_requests_hold() {
    replay("http_gate", fuzz::http_gate);
}

#[test]
fn the_saved_proxy_headers_hold() {
    replay("proxy_header", fuzz::proxy_header);
}

#[test]
fn the_saved_trace_contexts_hold() {
    replay("traceparent", fuzz::traceparent);
}

#[test]
fn the_saved_scripts_hold() {
    replay("session_script", fuzz::session_script);
}

/// Bytes among which the ones that mean something to a wire are frequent.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => any::<u8>(),
        2 => prop::sample::select(b"\r\n 0123456789".as_slice()),
        2 => prop::sample::select([0, 1, 2, 0x80, 0x81, 0x82, 0x88, 0x89, 0xfe, 0xff].as_slice()),
    ];
    prop::collection::vec(byte, 0..200)
}

/// Commands, with messages that mean something among what is sent.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let command = (0..10_u8, 0..4_u8, any::<u8>()).prop_map(|(what, whom, size)| {
        let size = if what == 1 || what == 2 { 0 } else { size };
        vec![what, whom, size]
    });
    let line = prop::sample::select(b"abnpqxyz".as_slice());
    let lines = prop::collection::vec(line, 1..20).prop_map(|first| {
        let mut sent = vec![1, 0, (first.len() * 2) as u8];
        sent.extend(first.into_iter().flat_map(|byte| [byte, b'\n']));
        sent
    });
    let connect = (0..4_u8, any::<u8>()).prop_map(|(whom, size)| vec![0, whom, size]);
    let sent = (1..4_u8, bytes())
        .prop_map(|(whom, bytes)| [vec![1, whom, bytes.len() as u8], bytes].concat());
    let step = prop_oneof![2 => command, 2 => lines, 2 => sent, 1 => connect];
    let start = Just(vec![0, 0, 240, 0, 1, 241, 0, 2, 242]);
    (start, prop::collection::vec(step, 0..40))
        .prop_map(|(start, steps)| [start, steps.concat()].concat())
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn any_bytes_hold_as_lines(data in bytes()) {
        fuzz::lines(&data);
    }

    #[test]
    fn any_bytes_hold_as_proxy_headers(data in bytes(), beginning in 0..4_usize) {
        let beginnings: [&[u8]; 4] =
            [b"", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"];
        fuzz::proxy_header(&[beginnings[beginning], &data].concat());
    }

    #[test]
    fn any_bytes_hold_as_lengths(data in bytes()) {
        fuzz::length(&data);
    }

    #[test]
    fn any_bytes_hold_as_frames(data in bytes()) {
        fuzz::websocket(&data);
    }

    #[test]
    fn any_text_holds_as_a_trace_context(
        text in "[0f]{2}-[0-9a-f]{31,32}-[0-9a-f]{16}-[0-9a-g]{2}(-[a-z]{0,8})?(\n[a-c=, \r]{0,20})?"
    ) {
        fuzz::traceparent(text.as_bytes());
    }

    #[test]
    fn any_script_holds(data in script()) {
        fuzz::session_script(&data);
    }
}
