//! One publication for very many, several workers, and subscribers that do not read.

use serde_json::json;
use weir_channels::namespace::ChannelOptions;
use weir_core::limits::Limits;

use crate::support::{Client, World, history, open};

const SUBSCRIBE: &str = r#""subscribe":{"channel":"news"}"#;

fn subscribers(world: &mut World, n: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..n).map(|_| world.client()).collect();
    for client in &mut clients {
        client.ask(world, SUBSCRIBE);
    }
    clients
}

#[test]
fn three_thousand_on_two_workers_are_told_in_slices_each_once_and_in_order() {
    let options = ChannelOptions { history: history(100), force_positioning: true, ..open() };
    let mut world = World::with(options, Limits::default(), 2);
    let mut clients = subscribers(&mut world, 3000);
    let talker = world.client();
    for n in 0..5 {
        // Not settled in between: the second comes while the first is being told.
        let line =
            format!("{{\"id\":{},\"publish\":{{\"channel\":\"news\",\"data\":{n}}}}}\n", n + 9);
        talker.peer.send(line.as_bytes());
        let busy = world.engine.turn(world.now).unwrap();
        assert!(busy, "one turn does not tell everybody");
    }
    world.settle();
    let all = [json!(0), json!(1), json!(2), json!(3), json!(4)];
    for client in &mut clients {
        assert_eq!(client.published(), all);
    }
    assert_eq!(world.metric("weir_channels_deliveries_total"), 15_000.0);
    assert_eq!(world.metric("weir_channels_gaps_total"), 0.0);
}

#[test]
fn somebody_who_comes_while_others_are_told_is_told_of_what_comes_after() {
    let options = ChannelOptions { history: history(100), force_positioning: true, ..open() };
    let mut world = World::new(options);
    let _clients = subscribers(&mut world, 2000);
    let (talker, mut late) = (world.client(), world.client());
    talker.peer.send(b"{\"id\":9,\"publish\":{\"channel\":\"news\",\"data\":1}}\n");
    assert!(world.engine.turn(world.now).unwrap());
    late.peer.send(b"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    assert!(world.engine.turn(world.now).unwrap());
    talker.peer.send(b"{\"id\":10,\"publish\":{\"channel\":\"news\",\"data\":2}}\n");
    world.settle();
    let said = late.heard();
    assert_eq!(said[0]["subscribe"]["offset"], 1);
    assert_eq!(said[1]["push"]["pub"]["data"], 2);
    assert_eq!(said.len(), 2);
}

#[test]
fn one_that_does_not_read_is_ended_and_the_others_are_complete() {
    let limits = Limits { outbox_bytes_max: 1000, ..Limits::default() };
    let mut world = World::with(open(), limits, 1);
    let mut clients = subscribers(&mut world, 3);
    let mut slow = world.connection(200);
    slow.ask(&mut world, r#""connect":{}"#);
    slow.ask(&mut world, SUBSCRIBE);
    let mut talker = world.client();
    for n in 0..50 {
        talker.ask(&mut world, &format!(r#""publish":{{"channel":"news","data":{n}}}"#));
    }
    for client in &mut clients {
        assert_eq!(client.published().len(), 50);
    }
    assert!(slow.peer.is_reset());
    assert_eq!(world.metric("weir_channels_slow_consumers_total"), 1.0);
    assert_eq!(world.metric("weir_channels_subscriptions"), 3.0);
}

#[test]
fn a_channel_with_many_subscribers_keeps_no_other_one_waiting() {
    let mut world = World::new(open());
    let mut clients = subscribers(&mut world, 3000);
    let mut other = world.client();
    other.ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    let talker = world.client();
    // More than one read of the channel, so that there is always more of it.
    let mut id = 10;
    let mut publish = |channel: &str, times: u64| {
        for _ in 0..times {
            id += 1;
            let command = format!(r#"{{"id":{id},"publish":{{"channel":"{channel}","data":1}}}}"#);
            talker.peer.send(command.as_bytes());
            talker.peer.send(b"\n");
        }
    };
    publish("news", 80);
    assert!(world.engine.turn(world.now).expect("pipes do not fail"));
    publish("other", 1);
    let mut turns = 0;
    while other.published().is_empty() {
        assert!(world.engine.turn(world.now).expect("pipes do not fail"), "it is told at last");
        turns += 1;
    }
    // What was handed out before is written first: four turns.
    assert!(turns <= 6, "{turns} turns");
    world.settle();
    for client in &mut clients {
        assert_eq!(client.published().len(), 80);
    }
}

#[test]
fn what_was_published_together_is_told_in_order_to_everybody_and_once() {
    let options = ChannelOptions { history: history(100), join_leave: true, ..open() };
    let mut world = World::new(options);
    let mut clients = Vec::new();
    for asks in ["", r#","positioned":true"#, r#","join_leave":true"#] {
        let mut client = world.client();
        client.ask(&mut world, &format!(r#""subscribe":{{"channel":"news"{asks}}}"#));
        clients.push(client);
    }
    let talker = world.client();
    let mut late = world.client();
    // Long and short ones: some of what comes together is longer than one frame is made.
    let sizes = [1, 2, 3, 20_000, 1, 9_000, 9_000, 1];
    for (n, size) in sizes.into_iter().cycle().take(40).enumerate() {
        let text = "x".repeat(size);
        let line = format!(
            "{{\"id\":{},\"publish\":{{\"channel\":\"news\",\"data\":\"{text}\"}}}}\n",
            n + 9
        );
        talker.peer.send(line.as_bytes());
        if n == 17 {
            late.peer.send(b"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
        }
        if n % 3 == 0 {
            world.engine.turn(world.now).expect("pipes do not fail");
        }
    }
    world.settle();
    let lengths = |client: &mut Client| -> Vec<_> {
        client.published().iter().filter_map(|data| data.as_str().map(str::len)).collect()
    };
    let all: Vec<_> = sizes.into_iter().cycle().take(40).collect();
    for client in &mut clients {
        assert_eq!(lengths(client), all);
    }
    let late = lengths(&mut late);
    assert!(!late.is_empty() && late.len() < 40);
    assert_eq!(late, all[40 - late.len()..]);
}
