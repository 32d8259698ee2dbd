//! What backends are told of channels.

use serde_json::json;
use weir_channels::api::Method::{
    Channels, History, HistoryRemove, Info, Presence, PresenceStats, Publish,
};
use weir_channels::api::{ApiLimits, ErrorMode};
use weir_channels::namespace::ChannelOptions;

use crate::session::{history, open};
use crate::support::Backend;

#[test]
fn presence_tells_who_is_there_and_how_many() {
    let mut backend = Backend::new(ChannelOptions { presence: true, ..open() });
    let mut client = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"room"}"#);
    let room = r#"{"channel":"room"}"#;
    let present = backend.result(Presence, room);
    let present = present["presence"].as_object().unwrap();
    let (id, info) = present.iter().next().unwrap();
    assert_eq!((present.len(), &info["client"], &info["user"]), (1, &json!(id), &json!("")));
    assert_eq!(backend.result(PresenceStats, room), json!({"num_clients": 1, "num_users": 1}));
    let empty = backend.result(Presence, r#"{"channel":"other"}"#);
    assert_eq!(empty, json!({"presence": {}}));
}

#[test]
fn a_namespace_without_the_feature_says_so() {
    let mut backend = Backend::new(open());
    for method in [Presence, PresenceStats, History, HistoryRemove] {
        assert_eq!(backend.code(method, r#"{"channel":"a"}"#), 108, "{}", method.as_str());
        assert_eq!(backend.code(method, r#"{"channel":"unknown:a"}"#), 102);
    }
}

#[test]
fn a_history_is_read_from_a_place_in_either_direction() {
    let mut backend = Backend::new(ChannelOptions { history: history(10), ..open() });
    for n in 1..=5 {
        backend.result(Publish, &format!(r#"{{"channel":"a","data":{n}}}"#));
    }
    let position = backend.result(History, r#"{"channel":"a"}"#);
    assert_eq!(position["publications"], json!([]));
    let epoch = position["epoch"].as_str().unwrap().to_owned();
    let mut offsets = |fields: &str| -> Vec<u64> {
        let page = backend.result(History, &format!(r#"{{"channel":"a",{fields}}}"#));
        assert_eq!(page["offset"], 5);
        let publications = page["publications"].as_array().unwrap();
        publications.iter().map(|one| one["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(r#""limit":-1"#), [1, 2, 3, 4, 5]);
    assert_eq!(offsets(r#""limit":2,"reverse":true"#), [5, 4]);
    let since = format!(r#""limit":2,"since":{{"offset":2,"epoch":"{epoch}"}}"#);
    assert_eq!(offsets(&since), [3, 4]);
    let other = r#"{"channel":"a","limit":1,"since":{"offset":2,"epoch":"other"}}"#;
    let (status, answer) = backend.ask(History, ErrorMode::Transport, other);
    assert_eq!((status, &answer["error"]["code"]), (416, &json!(112)));
    assert_eq!(backend.result(HistoryRemove, r#"{"channel":"a"}"#), json!({}));
    let after = backend.result(History, r#"{"channel":"a","limit":-1}"#);
    assert_eq!((&after["publications"], &after["offset"]), (&json!([]), &json!(0)));
    assert_ne!(after["epoch"], json!(epoch));
}

#[test]
fn channels_are_listed_over_all_workers_by_a_pattern() {
    let limits = ApiLimits { channels_max: 2, ..ApiLimits::default() };
    let mut backend = Backend::limited(open(), limits);
    let mut clients = [backend.world.client(), backend.world.client(), backend.world.client()];
    for (client, channels) in clients.iter_mut().zip([&["a1", "b1"][..], &["a1"], &["a2"]]) {
        for channel in channels {
            client.ask(&mut backend.world, &format!(r#""subscribe":{{"channel":"{channel}"}}"#));
        }
    }
    let all = json!({"channels": {"a1": {"num_clients": 2}, "a2": {"num_clients": 1}}});
    assert_eq!(backend.result(Channels, r#"{"pattern":"a*"}"#), all);
    let one = json!({"channels": {"b1": {"num_clients": 1}}});
    assert_eq!(backend.result(Channels, r#"{"pattern":"[!a]?"}"#), one);
    // More than may be listed.
    assert_eq!(backend.code(Channels, "{}"), 106);
    assert_eq!(backend.ask(Channels, ErrorMode::Transport, "{}").0, 429);
    assert_eq!(backend.code(Channels, r#"{"pattern":"["}"#), 107);
}

#[test]
fn info_tells_what_the_process_has() {
    let mut backend = Backend::new(open());
    let mut client = backend.world.client();
    let _other = backend.world.client();
    client.ask(&mut backend.world, r#""subscribe":{"channel":"a"}"#);
    backend.world.pass(3);
    let info = backend.result(Info, "{}");
    let node = &info["nodes"][0];
    let counts = ["num_clients", "num_users", "num_subs", "num_channels", "uptime"];
    assert_eq!(counts.map(|name| node[name].as_u64()), [2, 0, 1, 1, 3].map(Some));
    assert_eq!((&node["name"], node["uid"].as_str().map(str::len)), (&json!("weir"), Some(16)));
    assert_eq!(backend.result(Info, "{}")["nodes"][0]["uid"], node["uid"]);
}
