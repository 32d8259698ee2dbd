//! The look at positions: a publication that was lost on its way, and that nothing comes after, is
//! noticed all the same; and nobody who has everything is told anything.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_channels::broker::faulty::{Faults, Faulty};
use weir_channels::broker::{Broker, Limits, Memory};
use weir_channels::hub::POSITION_CHECK_INTERVAL;
use weir_channels::namespace::{ChannelOptions, Overrides};
use weir_core::limits::Limits as ConnectionLimits;

use crate::support::{Client, World, history, open, subscribe_by_server};

const NOTHING: Faults =
    Faults { lose: 0, double: 0, reorder: 0, hold: 0, late: 0, ignore: 0, silent: 0 };
const EVERYTHING: Faults = Faults { lose: 1, ..NOTHING };

fn world(workers: usize) -> (World, Arc<Faulty<Memory>>) {
    let broker = Arc::new(Faulty::new(Memory::new(Limits::default(), 7), NOTHING, 7));
    let options = ChannelOptions { history: history(100), allow_recovery: true, ..open() };
    let dynamic = Arc::clone(&broker) as Arc<dyn Broker>;
    (World::on(dynamic, options, ConnectionLimits::default(), workers), broker)
}

/// What a client is told in as long as a look may take, but for pings, which it answers.
fn told_within_the_interval(client: &mut Client, world: &mut World) -> Vec<Value> {
    let mut told = Vec::new();
    for _ in 0..POSITION_CHECK_INTERVAL.as_secs() {
        world.pass(1);
        for said in client.heard() {
            if said == json!({}) {
                client.say(world, "{}");
            } else {
                told.push(said);
            }
        }
    }
    told
}

fn publish(client: &mut Client, world: &mut World, n: u64) {
    let reply = client.ask(world, &format!(r#""publish":{{"channel":"news","data":{n}}}"#));
    assert_eq!(reply["error"], Value::Null, "{reply}");
}

#[test]
fn the_last_publication_that_was_lost_is_noticed_and_recovered() {
    let (mut world, broker) = world(1);
    let (mut talker, mut listener) = (world.client(), world.client());
    let request = r#""subscribe":{"channel":"news","recoverable":true}"#;
    let reply = listener.ask(&mut world, request);
    let epoch = reply["subscribe"]["epoch"].as_str().expect("a position").to_owned();
    publish(&mut talker, &mut world, 1);
    assert_eq!(listener.published(), [json!(1)]);
    broker.set(EVERYTHING);
    publish(&mut talker, &mut world, 2);
    broker.set(NOTHING);
    assert!(listener.heard().is_empty(), "nobody knows yet");

    let told = told_within_the_interval(&mut listener, &mut world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["push"]["unsubscribe"]["code"], 2500);
    assert_eq!(world.metric("weir_channels_gaps_total"), 1.0);
    let again = format!(
        r#""subscribe":{{"channel":"news","recoverable":true,"recover":true,"offset":1,"epoch":"{epoch}"}}"#
    );
    let reply = listener.ask(&mut world, &again);
    assert_eq!(reply["subscribe"]["recovered"], true);
    assert_eq!(reply["subscribe"]["publications"][0]["data"], 2);
}

#[test]
fn a_connection_with_a_server_side_subscription_that_is_behind_is_ended() {
    let (mut world, broker) = world(2);
    let mut listener = world.connection(1 << 20);
    let reply = listener.ask(&mut world, r#""connect":{}"#);
    let overrides = Overrides { force_recovery: Some(true), ..Overrides::default() };
    subscribe_by_server(&mut world, &reply, overrides);
    assert_eq!(listener.heard()[0]["push"]["subscribe"]["positioned"], true);
    let mut talker = world.client();
    broker.set(EVERYTHING);
    publish(&mut talker, &mut world, 1);
    broker.set(NOTHING);
    let told = told_within_the_interval(&mut listener, &mut world);
    let code = told.iter().find_map(|said| said["push"]["disconnect"]["code"].as_u64());
    assert_eq!(code, Some(3010), "{told:?}");
}

#[test]
fn who_has_everything_is_told_nothing_and_who_has_no_position_is_not_asked_about() {
    let (mut world, broker) = world(2);
    let mut talker = world.client();
    let mut listeners: Vec<_> = (0..20).map(|_| world.client()).collect();
    let mut without = world.client();
    without.ask(&mut world, r#""subscribe":{"channel":"plain"}"#);
    for listener in &mut listeners {
        listener.ask(&mut world, r#""subscribe":{"channel":"news","positioned":true}"#);
    }
    for n in 0..90 {
        if n % 3 == 0 {
            publish(&mut talker, &mut world, n);
        }
        if n == 45 {
            broker.set(EVERYTHING);
            talker.ask(&mut world, r#""publish":{"channel":"plain","data":1}"#);
            broker.set(NOTHING);
        }
        world.pass(1);
        for client in listeners.iter_mut().chain([&mut talker, &mut without]) {
            for said in client.heard() {
                assert!(said["push"]["unsubscribe"].is_null(), "{said}");
                if said == json!({}) {
                    client.say(&mut world, "{}");
                }
            }
        }
    }
    assert_eq!(world.metric("weir_channels_gaps_total"), 0.0);
    let checked = world.metric("weir_channels_positions_checked_total");
    assert!((40.0..=80.0).contains(&checked), "{checked}: each twice or so");
}

#[test]
fn a_comparison_with_very_many_delays_nobody() {
    let (mut world, _) = world(1);
    let mut listeners: Vec<_> = (0..2500).map(|_| world.client()).collect();
    for listener in &mut listeners {
        listener.ask(&mut world, r#""subscribe":{"channel":"news","positioned":true}"#);
    }
    let talker = world.client();
    let mut told = 0;
    let (mut quickest, mut slowest) = (usize::MAX, 0);
    // Before they are pinged; the look comes somewhere among these.
    for second in 0..12 {
        world.now += std::time::Duration::from_secs(1);
        if second % 2 == 0 {
            // A comparison may have begun.
            world.engine.turn(world.now).expect("pipes do not fail");
        }
        let line =
            format!("{{\"id\":{},\"publish\":{{\"channel\":\"news\",\"data\":1}}}}\n", second + 9);
        talker.peer.send(line.as_bytes());
        told += 2500;
        let mut turns = 0;
        while world.metric("weir_channels_deliveries_total") < f64::from(told) {
            world.engine.turn(world.now).expect("pipes do not fail");
            turns += 1;
        }
        assert_eq!(world.metric("weir_channels_deliveries_total"), f64::from(told));
        slowest = slowest.max(turns);
        quickest = quickest.min(turns);
        world.settle();
    }
    assert!(slowest <= quickest + 1, "{quickest} turns, and {slowest} beside a comparison");
    assert!(world.metric("weir_channels_positions_checked_total") >= 2500.0);
    assert_eq!(world.metric("weir_channels_gaps_total"), 0.0);
}
