//! Subscriptions, publications, history, presence: each command with its reply, and its error.

use serde_json::{Value, json};
use weir_channels::namespace::ChannelOptions;

use crate::support::{Client, World, history, open};

fn kept(size: usize) -> ChannelOptions {
    ChannelOptions {
        history: history(size),
        allow_recovery: true,
        allow_positioning: true,
        ..open()
    }
}

fn publish(client: &mut Client, world: &mut World, channel: &str, n: u64) {
    let request = format!(r#""publish":{{"channel":"{channel}","data":{n}}}"#);
    let reply = client.ask(world, &request);
    assert_eq!(reply["error"], Value::Null, "{reply}");
}

#[test]
fn what_is_published_reaches_every_subscriber_and_nobody_else() {
    let mut world = World::new(open());
    let mut clients: Vec<_> = (0..4).map(|_| world.client()).collect();
    for client in &mut clients[..3] {
        client.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    }
    clients[3].ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    clients[0].say(&mut world, r#"{"id":9,"publish":{"channel":"news","data":{"n":1}}}"#);
    let said = clients[0].heard();
    assert_eq!(said[0], json!({"id": 9, "publish": {}}), "the reply comes first");
    assert_eq!(said[1]["push"]["pub"]["data"], json!({"n": 1}));
    assert_eq!(said[1]["push"]["channel"], "news");
    assert_eq!(said[1]["push"]["pub"]["info"]["user"], "");
    assert_eq!(clients[1].published(), [json!({"n": 1})]);
    assert_eq!(clients[2].published(), [json!({"n": 1})]);
    assert!(clients[3].published().is_empty());
    clients[1].ask(&mut world, r#""unsubscribe":{"channel":"news"}"#);
    publish(&mut clients[0], &mut world, "news", 2);
    assert!(clients[1].published().is_empty());
    assert_eq!(clients[2].published(), [json!(2)]);
}

#[test]
fn errors_have_the_codes_of_the_protocol() {
    let mut world = World::new(ChannelOptions::default());
    let mut client = world.client();
    let mut check = |request: &str, code: u64| {
        let reply = client.ask(&mut world, request);
        assert_eq!(reply["error"]["code"], json!(code), "{request}: {reply}");
    };
    check(r#""subscribe":{"channel":"news"}"#, 103);
    check(r#""subscribe":{"channel":"nowhere:news"}"#, 102);
    check(r#""subscribe":{"channel":"news","type":1}"#, 108);
    check(&format!(r#""subscribe":{{"channel":"{}"}}"#, "x".repeat(256)), 107);
    check(r#""publish":{"channel":"news","data":1}"#, 103);
    check(r#""presence":{"channel":"news"}"#, 108);
    check(r#""presence_stats":{"channel":"news"}"#, 108);
    check(r#""history":{"channel":"news"}"#, 108);
    check(r#""rpc":{"method":"x","data":1}"#, 108);
    check(r#""sub_refresh":{"channel":"news","token":"x"}"#, 103);
    assert_eq!(world.metric("weir_channels_errors_total"), 10.0);
}

#[test]
fn a_second_subscription_and_one_too_many_are_refused() {
    let mut world = World::new(open());
    let mut client = world.client();
    client.ask(&mut world, r#""subscribe":{"channel":"c0"}"#);
    let again = client.ask(&mut world, r#""subscribe":{"channel":"c0"}"#);
    assert_eq!(again["error"]["code"], 105);
    for n in 1..128 {
        client.ask(&mut world, &format!(r#""subscribe":{{"channel":"c{n}"}}"#));
    }
    let reply = client.ask(&mut world, r#""subscribe":{"channel":"one too many"}"#);
    assert_eq!(reply["error"]["code"], 106);
    assert_eq!(world.metric("weir_channels_subscriptions"), 128.0);
    drop(client);
    world.settle();
    assert_eq!(world.metric("weir_channels_subscriptions"), 0.0);
}

#[test]
fn history_is_read_from_either_end() {
    let mut world = World::new(kept(3));
    let mut client = world.client();
    for n in 1..=5 {
        publish(&mut client, &mut world, "news", n);
    }
    let mut ask = |request: &str| {
        let reply = client.ask(&mut world, &format!(r#""history":{{"channel":"news",{request}}}"#));
        let publications = reply["history"]["publications"].as_array().cloned().unwrap_or_default();
        assert_eq!(reply["history"]["offset"], 5, "{reply}");
        publications.iter().map(|one| one["offset"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ask(r#""limit":0"#), [0u64; 0]);
    assert_eq!(ask(r#""limit":-1"#), [3, 4, 5]);
    assert_eq!(ask(r#""limit":2,"reverse":true"#), [5, 4]);
    assert_eq!(ask(r#""limit":9,"since":{"offset":4,"epoch":""}"#), [5]);
    let other = r#""history":{"channel":"news","limit":1,"since":{"offset":1,"epoch":"other"}}"#;
    assert_eq!(client.ask(&mut world, other)["error"]["code"], 112);
}

#[test]
fn who_comes_back_gets_exactly_what_it_missed() {
    let mut world = World::new(kept(10));
    let (mut talker, mut listener) = (world.client(), world.client());
    let recoverable = r#""subscribe":{"channel":"news","recoverable":true}"#;
    let reply = listener.ask(&mut world, recoverable);
    let epoch = reply["subscribe"]["epoch"].as_str().unwrap().to_owned();
    assert_eq!(reply["subscribe"]["recoverable"], true);
    publish(&mut talker, &mut world, "news", 1);
    assert_eq!(listener.published(), [json!(1)]);
    drop(listener);
    for n in 2..=4 {
        publish(&mut talker, &mut world, "news", n);
    }
    let back = |offset: u64, epoch: &str| {
        format!(
            r#""subscribe":{{"channel":"news","recoverable":true,"recover":true,"offset":{offset},"epoch":"{epoch}"}}"#
        )
    };
    let mut listener = world.client();
    let reply = &listener.ask(&mut world, &back(1, &epoch))["subscribe"];
    assert_eq!((&reply["recovered"], &reply["was_recovering"]), (&json!(true), &json!(true)));
    assert_eq!(reply["offset"], 1);
    let missed: Vec<_> =
        reply["publications"].as_array().unwrap().iter().map(|one| &one["data"]).collect();
    assert_eq!(missed, [2, 3, 4]);
    publish(&mut talker, &mut world, "news", 5);
    assert_eq!(listener.published(), [json!(5)]);

    let mut other = world.client();
    let reply = &other.ask(&mut world, &back(1, "0123456789abcdef"))["subscribe"];
    assert_eq!((&reply["recovered"], &reply["was_recovering"]), (&json!(null), &json!(true)));
    assert_eq!((&reply["offset"], &reply["publications"]), (&json!(5), &json!(null)));
    let strict =
        back(1, "0123456789abcdef").replace(r#""recover":true"#, r#""recover":true,"flag":2"#);
    let mut strictest = world.client();
    assert_eq!(strictest.ask(&mut world, &strict)["error"]["code"], 112);
    assert_eq!(world.metric("weir_channels_recoveries_total"), 3.0);
}

#[test]
fn no_client_is_sent_the_time_of_a_publication() {
    let mut world = World::new(kept(10));
    let (mut talker, mut listener) = (world.client(), world.client());
    let subscribe = r#""subscribe":{"channel":"news","recoverable":true"#;
    listener.ask(&mut world, &format!("{subscribe}}}"));
    publish(&mut talker, &mut world, "news", 1);
    let live = listener.heard().remove(0)["push"]["pub"].take();
    let reply = talker.ask(&mut world, r#""history":{"channel":"news","limit":1}"#);
    let kept = reply["history"]["publications"][0].clone();
    let reply = talker.ask(&mut world, &format!(r#"{subscribe},"recover":true,"offset":0}}"#));
    let recovered = reply["subscribe"]["publications"][0].clone();
    for publication in [live, kept, recovered] {
        assert_eq!((&publication["data"], &publication["offset"]), (&json!(1), &json!(1)));
        assert_eq!(publication["time"], Value::Null, "{publication}");
    }
}

#[test]
fn a_stream_that_begins_anew_is_told_at_once() {
    let mut world = World::new(kept(10));
    let (mut talker, mut listener) = (world.client(), world.client());
    listener.ask(&mut world, r#""subscribe":{"channel":"news","positioned":true}"#);
    publish(&mut talker, &mut world, "news", 1);
    listener.heard();
    let broker = world.shared.broker().clone();
    assert!(matches!(
        broker.remove_history("news", world.now),
        weir_channels::broker::Answer::Now(Ok(()))
    ));
    world.settle();
    let said = listener.heard();
    assert_eq!(said[0]["push"]["unsubscribe"]["code"], 2500, "{said:?}");
    let again = listener.ask(&mut world, r#""subscribe":{"channel":"news","positioned":true}"#);
    assert!(again["subscribe"].is_object(), "{again}");
    publish(&mut talker, &mut world, "news", 2);
    assert_eq!(listener.published(), [json!(2)]);
    assert_eq!(world.metric("weir_channels_gaps_total"), 1.0);
}

#[test]
fn who_is_there_is_known_and_told() {
    let options = ChannelOptions { presence: true, join_leave: true, ..open() };
    let mut world = World::new(options);
    let (mut ann, mut bob) = (world.client(), world.client());
    let request = r#""subscribe":{"channel":"room","join_leave":true}"#;
    ann.say(&mut world, &format!(r#"{{"id":7,{request}}}"#));
    let said = ann.heard();
    assert!(said[0]["subscribe"].is_object());
    assert!(said[1]["push"]["join"]["info"]["client"].is_string(), "its own join: {said:?}");
    bob.ask(&mut world, request);
    assert!(ann.heard()[0]["push"]["join"].is_object());
    let presence = ann.ask(&mut world, r#""presence":{"channel":"room"}"#);
    assert_eq!(presence["presence"]["presence"].as_object().unwrap().len(), 2);
    let stats = ann.ask(&mut world, r#""presence_stats":{"channel":"room"}"#);
    assert_eq!(stats["presence_stats"], json!({"num_clients": 2, "num_users": 1}));
    for _ in 0..24 {
        // Presence outlives its time, since it is said again.
        world.pass(5);
        for client in [&mut ann, &mut bob] {
            if client.heard().iter().any(|said| *said == json!({})) {
                client.say(&mut world, "{}");
            }
        }
    }
    drop(bob);
    world.settle();
    let leave = ann.heard();
    assert!(leave.iter().any(|said| said["push"]["leave"].is_object()), "{leave:?}");
    let stats = ann.ask(&mut world, r#""presence_stats":{"channel":"room"}"#);
    assert_eq!(stats["presence_stats"]["num_clients"], 1);
}
