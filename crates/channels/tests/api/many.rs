//! Many commands in one request: `batch`, and the older form.

use serde_json::{Value, json};
use weir_channels::api::Method::Batch;
use weir_channels::api::{ApiLimits, ErrorMode};
use weir_channels::namespace::ChannelOptions;

use crate::session::{history, open};
use crate::support::Backend;

fn remembering() -> ChannelOptions {
    ChannelOptions { history: history(10), ..open() }
}

const MIXED: &str = r#"
    {"publish":{"channel":"a","data":1}},
    {"publish":{"channel":"unknown:a","data":1}},
    {"nothing":{}},
    7,
    {"publish":{"channel":"a"},"info":{}},
    {"batch":{"commands":[]}},
    {"history":{"channel":"a","limit":1}}"#;

#[test]
fn every_command_of_a_batch_has_its_own_answer_in_its_place() {
    for parallel in [false, true] {
        let mut backend = Backend::new(remembering());
        let batch = format!(r#"{{"commands":[{MIXED}],"parallel":{parallel}}}"#);
        let answer = backend.result(Batch, &batch);
        let replies = answer["replies"].as_array().unwrap();
        assert_eq!(replies[0]["publish"]["offset"], 1);
        let codes: Vec<_> = replies[1..6].iter().map(|reply| &reply["error"]["code"]).collect();
        assert_eq!(codes, [102, 104, 107, 107, 107].map(Value::from).iter().collect::<Vec<_>>());
        assert_eq!((replies.len(), &replies[6]["history"]["offset"]), (7, &json!(1)));
        assert_eq!(backend.ask(Batch, ErrorMode::Transport, &batch).0, 200);
    }
}

#[test]
fn commands_that_are_not_parallel_are_carried_out_one_after_the_other() {
    let mut backend = Backend::new(remembering());
    let publish = |n| format!(r#"{{"publish":{{"channel":"a","data":{n}}}}}"#);
    let commands: Vec<String> = (0..50).map(publish).collect();
    let answer = backend.result(Batch, &format!(r#"{{"commands":[{}]}}"#, commands.join(",")));
    let replies = answer["replies"].as_array().unwrap();
    let offsets = replies.iter().map(|reply| reply["publish"]["offset"].as_u64().unwrap());
    assert!(offsets.eq(1..=50));
}

#[test]
fn a_batch_is_bounded_in_commands_and_in_the_bytes_of_its_answers() {
    let limits =
        ApiLimits { batch_commands_max: 3, batch_reply_bytes_max: 60, ..ApiLimits::default() };
    let mut backend = Backend::limited(remembering(), limits);
    let publish = r#"{"publish":{"channel":"a","data":1}}"#;
    let of = |n: usize| format!(r#"{{"commands":[{}]}}"#, vec![publish; n].join(","));
    assert_eq!(backend.code(Batch, &of(4)), 107);
    assert_eq!(backend.world.metric("weir_channels_publications_total"), 0.0);
    let answer = backend.result(Batch, &of(3));
    // Two answers are more than 60 bytes, and the third command was not begun.
    assert_eq!(answer["replies"][1]["publish"]["offset"], 2);
    assert_eq!(answer["replies"][2]["error"]["code"], 106);
    assert_eq!(backend.world.metric("weir_channels_publications_total"), 2.0);
}

#[test]
fn the_older_form_answers_a_line_for_each_command() {
    let mut backend = Backend::new(remembering());
    let body = concat!(
        r#"{"method":"publish","params":{"channel":"a","data":[1,"#,
        "\n",
        r#"2]}}"#,
        "\n",
        r#"{"method":"nothing","params":{}}"#,
        "\n",
        r#"{"method":"history","params":{"channel":"a","limit":1}}"#,
        "\n",
        r#"{"method":"batch","params":{"commands":[]}}"#,
    );
    let (status, text) = backend.lines(body);
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((status, lines.len()), (200, 4), "{text}");
    assert_eq!(lines[0]["result"]["offset"], 1);
    assert_eq!(lines[1]["error"]["code"], 104);
    assert_eq!(lines[2]["result"]["publications"][0]["data"], json!([1, 2]));
    assert_eq!(lines[3], json!({"replies": []}));
}

#[test]
fn the_older_form_does_nothing_when_a_part_of_it_is_no_json() {
    let limits = ApiLimits { batch_commands_max: 2, ..ApiLimits::default() };
    let mut backend = Backend::limited(remembering(), limits);
    let publish = r#"{"method":"publish","params":{"channel":"a","data":1}}"#;
    let three = [publish; 3].join("\n");
    for (body, status) in [(format!("{publish}\n{{"), 400), (three, 200), (String::new(), 200)] {
        let (said, text) = backend.lines(&body);
        assert_eq!(said, status, "{body}");
        assert!(text.contains(r#""code":107"#), "{text}");
    }
    assert_eq!(backend.world.metric("weir_channels_publications_total"), 0.0);
}
