//! Subscribers that do not keep up: each policy does what it says to them, and nobody else notices.

use serde_json::{Value, json};
use weir_channels::namespace::{ChannelOptions, KeyOf, SlowConsumers, SlowPolicy};
use weir_core::limits::Limits;

use crate::support::{Client, World, history, open};

/// Publications that wait for a slow subscriber: room for some seven of them.
const ROOM: usize = 1000;

fn options(policy: SlowPolicy) -> ChannelOptions {
    ChannelOptions { slow: SlowConsumers { policy, bytes_max: ROOM }, ..open() }
}

fn world(options: ChannelOptions) -> World {
    World::with(options, Limits { outbox_bytes_max: 8 * ROOM, ..Limits::default() }, 1)
}

/// A subscriber whose network holds 200 bytes.
fn slow(world: &mut World) -> Client {
    let mut slow = world.connection(200);
    slow.ask(world, r#""connect":{}"#);
    slow.ask(world, r#""subscribe":{"channel":"news"}"#);
    slow
}

fn publish(world: &mut World, talker: &mut Client, channel: &str, data: &Value) {
    talker.ask(world, &format!(r#""publish":{{"channel":"{channel}","data":{data}}}"#));
}

/// Reads until nothing comes any more.
fn read_all(world: &mut World, client: &mut Client) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let said = client.heard_in_part();
        world.settle();
        if said == 0 {
            all.extend(client.heard());
            return all;
        }
    }
}

fn data(said: &[Value], channel: &str) -> Vec<Value> {
    let pushes = said.iter().map(|said| &said["push"]).filter(|push| push["channel"] == channel);
    let published = pushes.filter(|push| push["pub"].is_object());
    published.map(|push| push["pub"]["data"].clone()).collect()
}

#[test]
fn the_oldest_are_dropped_for_who_is_slow_and_everybody_else_has_all() {
    let mut world = world(options(SlowPolicy::DropOldest));
    let mut slow = slow(&mut world);
    slow.ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    let mut talker = world.client();
    talker.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let mut fast = world.client();
    fast.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    publish(&mut world, &mut talker, "news", &json!(0));
    publish(&mut world, &mut talker, "news", &json!(1));
    publish(&mut world, &mut talker, "other", &json!("once"));
    slow.say(&mut world, r#"{"id":77,"presence_stats":{"channel":"news"}}"#);
    for n in 2..50 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    assert_eq!(fast.published(), (0..50).map(Value::from).collect::<Vec<_>>());
    let said = read_all(&mut world, &mut slow);
    assert_eq!(data(&said, "other"), [json!("once")]);
    assert!(said.iter().any(|said| said["id"] == 77), "an answer is never dropped: {said:?}");
    let got: Vec<_> = data(&said, "news").iter().filter_map(Value::as_u64).collect();
    let newest: Vec<_> = (50 - 4..50).collect();
    assert!(got.ends_with(&newest) && got.starts_with(&[0]) && got.is_sorted(), "{got:?}");
    let dropped = world.metric_with("weir_channels_slow_consumers_total", "dropped");
    assert_eq!(got.len() as f64 + dropped, 50.0, "{got:?}");
    assert!(dropped > 30.0, "{dropped}");
    assert_eq!(world.metric("weir_channels_subscriptions"), 4.0, "nobody was ended");
}

#[test]
fn the_newest_of_each_key_is_kept_for_who_is_slow() {
    let mut world = world(options(SlowPolicy::LatestByKey(KeyOf::Json("s".into()))));
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..90 {
        let symbol = ["A", "B", "C"][n % 3];
        publish(&mut world, &mut talker, "news", &json!({"n": n, "s": symbol}));
    }
    let said = read_all(&mut world, &mut slow);
    let got = data(&said, "news");
    for (symbol, last) in [("A", 87), ("B", 88), ("C", 89)] {
        let mut of_symbol = got.iter().filter(|data| data["s"] == symbol);
        assert_eq!(of_symbol.next_back().map(|data| &data["n"]), Some(&json!(last)), "{got:?}");
    }
    let numbers: Vec<_> = got.iter().filter_map(|data| data["n"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() < 20, "{numbers:?}");
    let superseded = world.metric_with("weir_channels_slow_consumers_total", "superseded");
    assert_eq!(numbers.len() as f64 + superseded, 90.0);
    assert_eq!(world.metric("weir_channels_subscriptions"), 1.0);
}

#[test]
fn where_the_newest_of_each_key_find_no_room_the_connection_ends() {
    let mut world = world(options(SlowPolicy::LatestByKey(KeyOf::Json("s".into()))));
    let slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..20 {
        // Without a key each is one of its own.
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    assert!(slow.peer.is_reset());
    let ended = world.metric_with("weir_channels_slow_consumers_total", "disconnected");
    assert_eq!(ended, 1.0);
    assert_eq!(world.metric("weir_channels_subscriptions"), 0.0);
}

#[test]
fn where_publications_are_dropped_nobody_is_promised_a_place_in_the_stream() {
    let options = ChannelOptions { history: history(100), ..options(SlowPolicy::DropOldest) };
    let mut world = world(options);
    let mut client = world.client();
    let asked = r#""subscribe":{"channel":"news","positioned":true,"recoverable":true}"#;
    let result = client.ask(&mut world, asked)["subscribe"].clone();
    assert!(result["positioned"].is_null() && result["recoverable"].is_null(), "{result}");
}

fn catch_up(kept: usize) -> World {
    world(ChannelOptions { history: history(kept), ..options(SlowPolicy::CatchUp) })
}

#[test]
fn who_is_slow_reads_from_the_history_and_notices_nothing() {
    let mut world = catch_up(1000);
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    let mut said = Vec::new();
    for n in 0..400 {
        publish(&mut world, &mut talker, "news", &json!(n));
        if n % 100 == 99 {
            // It comes back to life now and then, while more is published.
            slow.heard_in_part();
            world.settle();
        }
    }
    said.extend(read_all(&mut world, &mut slow));
    // It has joined the others again.
    publish(&mut world, &mut talker, "news", &json!(400));
    said.extend(read_all(&mut world, &mut slow));
    let pushes: Vec<_> = said.iter().map(|said| &said["push"]["pub"]).collect();
    let offsets: Vec<_> = pushes.iter().filter_map(|push| push["offset"].as_u64()).collect();
    assert_eq!(offsets, (1..=401).collect::<Vec<_>>());
    assert_eq!(said.len(), 401, "and nothing else is said");
    assert!(world.metric_with("weir_channels_slow_consumers_total", "caught_up") >= 1.0);
    assert_eq!(world.metric("weir_channels_gaps_total"), 0.0);
}

#[test]
fn who_is_slower_than_the_history_is_long_is_told_to_come_back() {
    let mut world = catch_up(5);
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..100 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    let said = read_all(&mut world, &mut slow);
    let last = said.last().expect("something was said");
    assert_eq!(last["push"]["unsubscribe"]["code"], 2500, "{last}");
    let got = data(&said, "news");
    assert_eq!(got, (0..got.len()).map(Value::from).collect::<Vec<_>>(), "no hole before it");
    assert_eq!(world.metric("weir_channels_gaps_total"), 1.0);
}

#[test]
fn a_stream_that_begins_anew_under_one_that_is_behind_is_told() {
    let mut world = catch_up(1000);
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..100 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    let broker = std::sync::Arc::clone(world.shared.broker());
    assert!(matches!(
        broker.remove_history("news", world.now),
        weir_channels::broker::Answer::Now(Ok(()))
    ));
    publish(&mut world, &mut talker, "news", &json!("new"));
    let said = read_all(&mut world, &mut slow);
    assert_eq!(said.last().expect("a word")["push"]["unsubscribe"]["code"], 2500);
    assert!(!data(&said, "news").contains(&json!("new")));
}

#[test]
fn what_can_not_be_read_later_is_told_at_once_also_to_those_who_are_behind() {
    let mut world = world(ChannelOptions {
        history: history(1000),
        join_leave: true,
        force_push_join_leave: true,
        ..options(SlowPolicy::CatchUp)
    });
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..50 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    talker.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    let said = read_all(&mut world, &mut slow);
    assert_eq!(data(&said, "news").len(), 50);
    let joins = said.iter().filter(|said| said["push"]["join"].is_object()).count();
    assert_eq!(joins, 1, "the talker's");
}

#[test]
fn a_slow_subscriber_that_leaves_is_told_nothing_more() {
    let mut world = catch_up(1000);
    let mut slow = slow(&mut world);
    let mut talker = world.client();
    for n in 0..50 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    slow.say(&mut world, r#"{"id":70,"unsubscribe":{"channel":"news"}}"#);
    slow.say(&mut world, r#"{"id":71,"subscribe":{"channel":"other"}}"#);
    let said = read_all(&mut world, &mut slow);
    let left = said.iter().position(|said| said["id"] == 70).expect("an answer");
    assert!(data(&said[left..], "news").is_empty() && left < 20, "{said:?}");
    publish(&mut world, &mut talker, "other", &json!("more"));
    assert_eq!(data(&read_all(&mut world, &mut slow), "other"), [json!("more")]);
}

#[test]
fn one_that_takes_something_now_and_then_stays_and_one_that_takes_nothing_is_ended() {
    let mut world = world(options(SlowPolicy::DropOldest));
    let (mut slow, stuck) = (slow(&mut world), slow(&mut world));
    for second in 0..60 {
        let mut talker = world.client();
        for n in 0..5 {
            publish(&mut world, &mut talker, "news", &json!([second, n]));
        }
        slow.heard_in_part();
        world.pass(1);
    }
    assert!(stuck.peer.is_reset(), "it took nothing for timeouts.write");
    assert!(!slow.peer.is_reset() && !slow.peer.at_end(), "no ping was behind what waits");
    assert_eq!(world.metric("weir_channels_subscriptions"), 1.0);
}

#[test]
fn who_is_behind_while_places_are_compared_has_missed_nothing() {
    let mut world = catch_up(1000);
    let mut slow = slow(&mut world);
    let mut fast = world.client();
    fast.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    for second in 0..60 {
        let mut talker = world.client();
        for n in 0..5 {
            publish(&mut world, &mut talker, "news", &json!(5 * second + n));
        }
        slow.heard_in_part();
        if fast.heard().contains(&json!({})) {
            fast.say(&mut world, "{}");
        }
        world.pass(1);
    }
    assert!(world.metric("weir_channels_positions_checked_total") >= 1.0, "the other one's");
    assert_eq!(world.metric("weir_channels_gaps_total"), 0.0);
    let said = read_all(&mut world, &mut slow);
    assert_eq!(data(&said, "news"), (0..300).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_publication_counts_once_however_many_outboxes_have_it() {
    let mut world = world(options(SlowPolicy::Disconnect));
    let subscribers: Vec<_> = (0..20).map(|_| slow(&mut world)).collect();
    let mut talker = world.client();
    let before = world.engine.outboxes();
    publish(&mut world, &mut talker, "news", &json!("x".repeat(1000)));
    let held = world.engine.outboxes() - before;
    // A place in each queue, and the bytes once, with what was allocated for more of them.
    assert!(held > 20 * 64 + 1000 && held < 20 * 64 + 2 * 1500, "{held}");
    drop(subscribers);
    world.settle();
    assert_eq!(world.engine.outboxes(), 0);
}

#[test]
fn over_the_budget_of_all_outboxes_the_fullest_give_way_by_their_policy() {
    let mut world = World::with(
        options(SlowPolicy::DropOldest),
        Limits { outbox_bytes_max: 1 << 20, ..Limits::default() },
        1,
    );
    let mut dropping = slow(&mut world);
    let mut fast = world.client();
    fast.ask(&mut world, r#""subscribe":{"channel":"news"}"#);
    // Answers are never dropped: who asks for many and reads none fills its outbox with them.
    let stuck = world.connection(200);
    stuck.peer.send(b"{\"id\":1,\"connect\":{}}\n");
    world.settle();
    for id in 2..200 {
        stuck
            .peer
            .send(format!("{{\"id\":{id},\"presence\":{{\"channel\":\"news\"}}}}\n").as_bytes());
        world.settle();
    }
    let mut talker = world.client();
    for n in 0..7 {
        publish(&mut world, &mut talker, "news", &json!(n));
    }
    assert!(world.engine.outboxes() > 4000, "{}", world.engine.outboxes());
    world.engine.keep_outboxes_within(1000);
    world.settle();
    assert!(stuck.peer.is_reset(), "the fullest goes first");
    assert!(world.engine.outboxes() <= 1000, "{}", world.engine.outboxes());
    assert!(!dropping.peer.is_reset());
    assert_eq!(fast.published().len(), 7, "who keeps up has everything");
    let said = read_all(&mut world, &mut dropping);
    let got = data(&said, "news");
    assert!(got.len() < 7 && got.last() == Some(&json!(6)), "{got:?}");
}
