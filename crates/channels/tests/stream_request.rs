//! What the fuzz target `stream_request` holds, for the saved inputs and for drawn queries and bodies.

use std::path::Path;

use proptest::prelude::*;

#[path = "../../../fuzz/src/stream_request.rs"]
pub mod fuzz;

#[test]
fn the_saved_requests_of_streams_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/stream_request");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be listed").path();
        println!("{}", path.display()); // Shown when the body panics.
        fuzz::stream_request(&std::fs::read(&path).expect("the input can be read"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

/// Pieces, joined.
fn joined(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(words), 0..12)
        .prop_map(|words| words.concat().into_bytes())
}

fn query() -> impl Strategy<Value = Vec<u8>> {
    joined(&["cf_connect", "=", "&", "+", "%", "%7B", "%7d", "%4", "%ff", "a", "{}", "ż", "x="])
}

fn json() -> impl Strategy<Value = Vec<u8>> {
    joined(&[
        "{",
        "}",
        "[",
        ",",
        ":",
        " ",
        "\"node\"",
        "\"session\"",
        "\"data\"",
        "\"\\u0064ata\"",
        "\"x\"",
        "null",
        "1",
        "\"{}\"",
        "\"\\n\"",
        "\"\\ud83d\"",
        "{\"data\":\"{}\"",
        ",\"node\":\"n\"}",
    ])
}

fn protobuf() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), 0u8..8, prop::sample::select(vec![0x0a, 0x12, 0x1a, 0x20])];
    prop::collection::vec(byte, 0..32)
}

fn parts() -> impl Strategy<Value = Vec<u8>> {
    "[a-z&=]{0,4}\\|\\PC{0,8}\\|\\PC{0,16}".prop_map(String::into_bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_queries_hold(text in query()) {
        fuzz::stream_request(&[&[0][..], &text].concat());
    }

    #[test]
    fn drawn_bodies_of_json_hold(body in json()) {
        fuzz::stream_request(&[&[1][..], &body].concat());
    }

    #[test]
    fn drawn_bodies_of_protobuf_hold(body in protobuf()) {
        fuzz::stream_request(&[&[2][..], &body].concat());
    }

    #[test]
    fn what_a_client_writes_is_read(how in any::<u8>(), parts in parts()) {
        fuzz::stream_request(&[&[how | 3][..], &parts].concat());
    }
}
