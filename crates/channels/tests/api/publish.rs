//! `publish` and `broadcast`: what subscribers see, what backends are told, and what is remembered.

use serde_json::json;
use weir_channels::api::Method::{Broadcast, History, Publish};
use weir_channels::api::{ApiLimits, ErrorMode};
use weir_channels::namespace::{ChannelOptions, DataFormat, Permission};

use crate::session::{history, open};
use crate::support::Backend;

fn remembering() -> ChannelOptions {
    ChannelOptions { history: history(10), ..open() }
}

const PUBLISHED: &str = "weir_channels_publications_total";

#[test]
fn a_publication_is_seen_by_subscribers_and_has_its_place() {
    let mut backend = Backend::new(remembering());
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"news"}"#);
    let request = r#"{"channel":"news","data":{"n": 1},"tags":{"a":"b"}}"#;
    let first = backend.result(Publish, request);
    assert_eq!(first["offset"], 1);
    assert_eq!(first["epoch"].as_str().map(str::len), Some(16));
    assert_eq!(backend.result(Publish, request)["offset"], 2);
    let heard = client.heard();
    assert_eq!(heard[0]["push"]["pub"]["data"], json!({"n": 1}));
    assert_eq!(heard[1]["push"]["pub"]["tags"], json!({"a": "b"}));
    // Nobody's: the publisher is no client.
    assert!(heard[0]["push"]["pub"]["info"].is_null());
    assert_eq!(backend.metric(PUBLISHED, &[("origin", "api")]), 2.0);
    assert_eq!(backend.metric(PUBLISHED, &[("origin", "client")]), 0.0);
}

#[test]
fn the_api_needs_no_permission_of_a_namespace_and_a_client_still_does() {
    let nobody = ChannelOptions { publish: Permission::default(), ..open() };
    let mut backend = Backend::new(nobody);
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"news"}"#);
    let denied = client.ask(&mut backend.world, r#""publish":{"channel":"news","data":1}"#);
    assert_eq!(denied["error"]["code"], 103);
    // Without a history there is no place.
    assert_eq!(backend.result(Publish, r#"{"channel":"news","data":1}"#), json!({}));
    assert_eq!(client.published(), [json!(1)]);
}

#[test]
fn what_skips_the_history_is_seen_and_not_remembered() {
    let mut backend = Backend::new(remembering());
    let skipping = r#"{"channel":"news","data":1,"skip_history":true}"#;
    assert_eq!(backend.result(Publish, skipping), json!({}));
    backend.result(Publish, r#"{"channel":"news","data":2}"#);
    let kept = backend.result(History, r#"{"channel":"news","limit":-1}"#);
    assert_eq!(kept["publications"].as_array().unwrap().len(), 1);
    assert_eq!(kept["publications"][0]["data"], 2);
}

#[test]
fn an_idempotency_key_publishes_once_in_each_channel() {
    let mut backend = Backend::new(remembering());
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"a"}"#);
    let keyed = |channel| format!(r#"{{"channel":"{channel}","data":1,"idempotency_key":"k"}}"#);
    let first = backend.result(Publish, &keyed("a"));
    backend.result(Publish, r#"{"channel":"a","data":2}"#);
    assert_eq!(backend.result(Publish, &keyed("a")), first);
    assert_eq!(backend.result(Publish, &keyed("b"))["offset"], 1);
    assert_eq!(client.published(), [json!(1), json!(2)]);
    // The repeated one is no publication.
    assert_eq!(backend.metric(PUBLISHED, &[("origin", "api")]), 3.0);
}

#[test]
fn a_version_that_comes_too_late_is_not_published() {
    let mut backend = Backend::new(remembering());
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"a"}"#);
    let versioned = |version, epoch| {
        let fields = format!(r#""version":{version},"version_epoch":"{epoch}""#);
        format!(r#"{{"channel":"a","data":{version},{fields}}}"#)
    };
    for (version, epoch, offset) in
        [(5, "x", 1), (4, "x", 1), (5, "x", 1), (6, "x", 2), (1, "y", 3), (7, "", 4)]
    {
        let place = backend.result(Publish, &versioned(version, epoch));
        assert_eq!(place["offset"], offset, "{version} {epoch}");
    }
    assert_eq!(client.published(), [json!(5), json!(6), json!(1), json!(7)]);
}

#[test]
fn bytes_come_in_base64_and_are_given_back_so() {
    let options = ChannelOptions { publication_data_format: DataFormat::Binary, ..remembering() };
    let mut backend = Backend::new(options);
    backend.result(Publish, r#"{"channel":"a","b64data":"AP8="}"#);
    backend.result(Publish, r#"{"channel":"a","b64data":"eyJhIjoxfQ=="}"#);
    let kept = backend.result(History, r#"{"channel":"a","limit":10}"#);
    assert_eq!(kept["publications"][0], json!({"offset": 1, "b64data": "AP8="}));
    assert_eq!(kept["publications"][1], json!({"offset": 2, "data": {"a": 1}}));
    assert_eq!(backend.code(Publish, r#"{"channel":"a","b64data":"%"}"#), 107);
}

#[test]
fn what_cannot_be_published_is_told_with_its_code_and_publishes_nothing() {
    let mut backend = Backend::new(remembering());
    for (request, code) in [
        (r#"{"channel":"a"}"#, 107),
        (r#"{"channel":"","data":1}"#, 107),
        (r#"{"data":1}"#, 107),
        (r#"{"channel":"a\nb","data":1}"#, 107),
        (r#"{"channel":1,"data":1}"#, 107),
        (r#"{"channel":"unknown:a","data":1}"#, 102),
    ] {
        assert_eq!(backend.code(Publish, request), code, "{request}");
    }
    let (status, answer) = backend.ask(Publish, ErrorMode::Body, r#"{"channel":"a","data":"#);
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(107)));
    let unknown = r#"{"channel":"unknown:a","data":1}"#;
    assert_eq!(backend.ask(Publish, ErrorMode::Transport, unknown).0, 404);
    assert_eq!(backend.metric(PUBLISHED, &[]), 0.0);
    let errors = |backend: &Backend, code| {
        backend.metric("weir_channels_api_errors_total", &[("error", code)])
    };
    assert_eq!(errors(&backend, "bad_request"), 6.0);
    assert_eq!(errors(&backend, "unknown_channel"), 2.0);
    let commands = [("method", "publish")];
    assert_eq!(backend.metric("weir_channels_api_commands_total", &commands), 8.0);
}

#[test]
fn a_broadcast_reaches_every_channel_that_it_can() {
    let mut backend = Backend::new(remembering());
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"a"}"#);
    client.ask(&mut backend.world, r#""subscribe":{"channel":"b"}"#);
    let request = r#"{"channels":["a","unknown:x","","b"],"data":7}"#;
    let answer = backend.result(Broadcast, request);
    let responses = answer["responses"].as_array().unwrap();
    let offset = |at: usize| &responses[at]["result"]["offset"];
    assert_eq!((responses.len(), offset(0), offset(3)), (4, &json!(1), &json!(1)));
    assert_eq!(responses[1]["error"]["code"], 102);
    assert_eq!(responses[2]["error"]["code"], 107);
    assert_eq!(client.published(), [json!(7), json!(7)]);
    // Not even where errors have a status.
    assert_eq!(backend.ask(Broadcast, ErrorMode::Transport, request).0, 200);
}

#[test]
fn a_broadcast_to_too_many_channels_is_refused_as_a_whole_with_the_limit() {
    let limits = ApiLimits { broadcast_channels_max: 2, ..ApiLimits::default() };
    let mut backend = Backend::limited(remembering(), limits);
    backend.result(Broadcast, r#"{"channels":["a","b"],"data":1}"#);
    let (_, answer) =
        backend.ask(Broadcast, ErrorMode::Body, r#"{"channels":["a","b","c"],"data":1}"#);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("3 channels, and at most 2"), "{message}");
    assert_eq!(backend.metric(PUBLISHED, &[]), 2.0);
}
