//! What the fuzz targets hold of the client protocol and of its sessions, for the saved inputs and for
//! drawn bytes.

use std::path::Path;

use proptest::prelude::*;
use weir_channels::protocol::Encoding;

#[path = "../../../fuzz/src/commands/mod.rs"]
pub mod commands;
#[path = "../../../fuzz/src/protocol.rs"]
pub mod fuzz;

#[track_caller]
fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be listed").path();
        println!("{}", path.display()); // Shown when the body panics.
        run(&std::fs::read(&path).expect("the input can be read"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

#[test]
fn the_saved_json_frames_hold() {
    replay("protocol_json", |data| fuzz::protocol(Encoding::Json, data));
}

#[test]
fn the_saved_protobuf_frames_hold() {
    replay("protocol_protobuf", |data| fuzz::protocol(Encoding::Protobuf, data));
}

#[test]
fn the_saved_scripts_of_commands_hold() {
    replay("command_script", commands::command_script);
}

/// Pieces of JSON commands, right and wrong, joined.
fn json() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "\r",
        "\"",
        " ",
        "null",
        "1",
        "-1",
        "{}",
        "\"id\":",
        "\"channel\":",
        "\"connect\":",
        "\"subscribe\":",
        "\"publish\":",
        "\"send\":",
        "\"subs\":",
        "\"data\":",
        "\"tf\":",
        "\"nodes\":",
        "\"a\"",
        "\"\\u00e9\"",
        "ż",
        "{\"id\":1,",
        "{\"id\":1,\"rpc\":{}}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..24)
        .prop_map(|words| words.concat().into_bytes())
}

/// Bytes among which tags, short lengths and zeros are frequent.
fn protobuf() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        2 => any::<u8>(),
        4 => 0u8..16,
        4 => (1u8..20, prop::sample::select(vec![0u8, 2])).prop_map(|(number, kind)| number << 3 | kind),
    ];
    prop::collection::vec(byte, 0..48)
}

/// A frame behind its byte of the longest command and its byte of the most elements.
fn limited(frame: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), 0u8..8, frame)
        .prop_map(|(longest, most, frame)| [&[longest, most][..], &frame].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_json_holds(data in limited(json())) {
        fuzz::protocol(Encoding::Json, &data);
    }

    #[test]
    fn drawn_protobuf_holds(data in limited(protobuf())) {
        fuzz::protocol(Encoding::Protobuf, &data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_scripts_of_commands_hold(data in prop::collection::vec(any::<u8>(), 0..400)) {
        commands::command_script(&data);
    }
}
