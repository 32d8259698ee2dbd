//! What the fuzz target `device` holds, for the saved inputs and for drawn messages and templates.

use std::path::Path;

use proptest::prelude::*;

#[path = "../../../fuzz/src/device.rs"]
pub mod fuzz;

#[test]
fn the_saved_messages_of_devices_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/device");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be listed").path();
        println!("{}", path.display()); // Shown when the body panics.
        fuzz::device(&std::fs::read(&path).expect("the input can be read"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}

/// Pieces of messages, right and wrong, joined.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{\"a\":\"x\",\"b\":\"y\"}",
        "{",
        "}",
        "[",
        "]",
        ",",
        " ",
        "\"a\":",
        "\"b\":",
        "\"\\u0061\":",
        "\"x\"",
        "\"x.y\"",
        "\"x:y\"",
        "\"\\u003a\"",
        "\"#\"",
        "\"$\"",
        "\"\\n\"",
        "\"\"",
        "\"ż\"",
        "7",
        "-7",
        "1e3",
        "null",
        "{\"b\":7}",
        "\u{fffd}",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..12)
        .prop_map(|words| words.concat().into_bytes())
}

/// An object with these fields, whatever their values are.
fn object() -> impl Strategy<Value = Vec<u8>> {
    ("\\PC{0,6}", "[a-c.:#$/\\x00-\\x1f]{0,6}", any::<bool>()).prop_map(|(a, b, nested)| {
        let a = if nested { serde_json::json!({ "b": a }) } else { a.into() };
        serde_json::json!({ "a": a, "b": b }).to_string().into_bytes()
    })
}

fn template() -> impl Strategy<Value = Vec<u8>> {
    let words =
        ["{", "}", "{{", "}}", ":", ".", "#", "$", "a", "{json.a}", "{json.}", "{listener}", "{x}"];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..10)
        .prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_messages_hold(which in 0u8..3, message in prop_oneof![message(), object()]) {
        fuzz::device(&[&[which][..], &message].concat());
    }

    #[test]
    fn drawn_templates_hold(text in template()) {
        fuzz::device(&[&[3][..], &text].concat());
    }
}
