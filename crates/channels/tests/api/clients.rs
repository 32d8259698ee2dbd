//! What is done to connections: `subscribe`, `unsubscribe`, `disconnect`, `refresh`.

use serde_json::{Value, json};
use weir_channels::api::Method::{Disconnect, Publish, Refresh, Subscribe, Unsubscribe};
use weir_channels::namespace::ChannelOptions;

use crate::session::{Client, history, open};
use crate::support::Backend;

/// A connected client and its id.
fn connected(backend: &mut Backend) -> (Client, String) {
    let mut client = backend.world.connection(1 << 20);
    let reply = client.ask(&mut backend.world, r#""connect":{}"#);
    (client, reply["connect"]["client"].as_str().expect("an id").to_owned())
}

fn pushes(client: &mut Client) -> Vec<Value> {
    client.heard().into_iter().map(|mut said| said["push"].take()).collect()
}

#[test]
fn a_client_is_subscribed_hears_what_is_published_and_is_unsubscribed() {
    let mut backend = Backend::new(ChannelOptions { history: history(10), ..open() });
    let (mut client, id) = connected(&mut backend);
    let (mut other, _) = connected(&mut backend);
    let data = r#""data":{"hello":1}"#;
    let request = format!(r#"{{"client":"{id}","channel":"news",{data}}}"#);
    assert_eq!(backend.result(Subscribe, &request), json!({}));
    let told = pushes(&mut client);
    assert_eq!(told[0]["channel"], "news");
    assert_eq!(told[0]["subscribe"]["data"], json!({"hello": 1}));
    backend.result(Publish, r#"{"channel":"news","data":1}"#);
    assert_eq!(client.published(), [json!(1)]);
    let request = format!(r#"{{"client":"{id}","channel":"news"}}"#);
    assert_eq!(backend.result(Unsubscribe, &request), json!({}));
    assert_eq!(pushes(&mut client)[0]["unsubscribe"]["code"], 2000);
    backend.result(Publish, r#"{"channel":"news","data":2}"#);
    assert!(client.heard().is_empty());
    assert!(other.heard().is_empty(), "not meant");
}

#[test]
fn a_subscription_ends_at_its_time() {
    let mut backend = Backend::new(open());
    let (_client, id) = connected(&mut backend);
    let expired = format!(r#"{{"client":"{id}","channel":"news","expire_at":1}}"#);
    assert_eq!(backend.code(Subscribe, &expired), 110);
    assert_eq!(backend.world.metric("weir_channels_subscriptions"), 0.0);
}

#[test]
fn without_a_channel_every_subscription_ends() {
    let mut backend = Backend::new(open());
    let (mut client, id) = connected(&mut backend);
    for channel in ["a", "b"] {
        client.ask(&mut backend.world, &format!(r#""subscribe":{{"channel":"{channel}"}}"#));
    }
    backend.result(Unsubscribe, &format!(r#"{{"client":"{id}"}}"#));
    assert_eq!(pushes(&mut client).len(), 2);
    assert_eq!(backend.world.metric("weir_channels_subscriptions"), 0.0);
}

#[test]
fn a_client_is_disconnected_with_the_code_that_is_wanted_unless_it_is_to_stay() {
    let mut backend = Backend::new(open());
    let (mut usual, id) = connected(&mut backend);
    backend.result(Disconnect, &format!(r#"{{"client":"{id}"}}"#));
    assert_eq!(usual.told_to_go(), 3503);
    let (mut client, id) = connected(&mut backend);
    backend.result(Disconnect, &format!(r#"{{"client":"{id}","whitelist":["{id}"]}}"#));
    assert!(client.heard().is_empty());
    let custom = r#""disconnect":{"code":4321,"reason":"bye"}"#;
    backend.result(Disconnect, &format!(r#"{{"client":"{id}",{custom}}}"#));
    assert_eq!(client.told_to_go(), 4321);
    for code in [0, 1000, 2999, 5000] {
        let custom = format!(r#"{{"user":"ann","disconnect":{{"code":{code}}}}}"#);
        assert_eq!(backend.code(Disconnect, &custom), 107, "{code}");
    }
}

#[test]
fn a_connection_that_is_refreshed_gets_its_new_time() {
    let mut backend = Backend::new(open());
    let (mut client, id) = connected(&mut backend);
    backend.result(Refresh, &format!(r#"{{"client":"{id}","expire_at":9000000000}}"#));
    let told = pushes(&mut client);
    assert_eq!(told[0]["refresh"]["expires"], true);
    assert!(told[0]["refresh"]["ttl"].as_u64().unwrap() > 1_000_000);
    backend.result(Refresh, &format!(r#"{{"client":"{id}","expire_at":1}}"#));
    assert_eq!(client.told_to_go(), 3005);
    let (mut client, id) = connected(&mut backend);
    backend.result(Refresh, &format!(r#"{{"client":"{id}","expired":true}}"#));
    assert_eq!(client.told_to_go(), 3005);
}

#[test]
fn nobody_is_meant_by_an_order_that_names_nobody() {
    let mut backend = Backend::new(open());
    let (mut client, _) = connected(&mut backend);
    for method in [Unsubscribe, Disconnect, Refresh] {
        assert_eq!(backend.code(method, "{}"), 107);
        assert_eq!(backend.code(method, r#"{"user":"","client":""}"#), 107);
        assert_eq!(backend.result(method, r#"{"session":"nobody's"}"#), json!({}));
        let strangers = r#"{"user":"ann","client":"no id of weir"}"#;
        assert_eq!(backend.result(method, strangers), json!({}));
    }
    assert_eq!(backend.code(Subscribe, r#"{"user":"ann"}"#), 107);
    assert_eq!(backend.code(Subscribe, r#"{"user":"ann","channel":"unknown:a"}"#), 102);
    assert_eq!(backend.code(Unsubscribe, r#"{"user":"ann","channel":"unknown:a"}"#), 102);
    assert!(client.heard().is_empty());
}
