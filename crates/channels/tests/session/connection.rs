//! The life of a connection: connect first and once, pings, deadlines, and what is no command.

use serde_json::json;

use crate::support::{World, open};

#[track_caller]
fn ends_with(code: u64, lines: &[&str]) {
    let mut world = World::new(open());
    let mut other = world.client();
    let mut client = world.connection(1 << 20);
    for line in lines {
        client.say(&mut world, line);
    }
    assert_eq!(client.told_to_go(), code, "{lines:?}");
    assert!(client.peer.at_end());
    let reply = other.ask(&mut world, r#""subscribe":{"channel":"other"}"#);
    assert_eq!(reply["error"], json!(null), "others do not notice");
}

#[test]
fn what_is_no_command_or_out_of_order_ends_its_connection_alone() {
    let connect = r#"{"id":1,"connect":{}}"#;
    ends_with(3501, &["{nonsense"]);
    ends_with(3501, &[connect, ""]);
    ends_with(3501, &["{}"]);
    ends_with(3501, &[r#"{"id":1,"subscribe":{"channel":"a"}}"#]);
    ends_with(3501, &[r#"{"connect":{}}"#]);
    ends_with(3501, &[connect, r#"{"id":2,"connect":{}}"#]);
    ends_with(3501, &[connect, r#"{"id":2,"whatever":{}}"#]);
    ends_with(3501, &[connect, r#"{"id":2,"subscribe":{}}"#]);
    ends_with(3501, &[connect, r#"{"id":2,"ping":{}}"#]);
    ends_with(3501, &[connect, "{}"]);
    ends_with(3508, &[connect, r#"{"send":{"data":1}}"#]);
    ends_with(3500, &[r#"{"id":1,"connect":{"token":"x.y.z"}}"#]);
}

#[test]
fn a_connect_tells_who_the_client_is_and_how_it_is_pinged() {
    let mut world = World::new(open());
    let mut client = world.connection(1 << 20);
    let reply = client.ask(&mut world, r#""connect":{"name":"js"}"#);
    let connect = &reply["connect"];
    assert_eq!(connect["client"].as_str().map(str::len), Some(36));
    assert_eq!((&connect["ping"], &connect["pong"]), (&json!(25), &json!(true)));
    assert_eq!(connect["expires"], json!(null));
    assert_eq!(world.metric("weir_channels_clients"), 1.0);
    drop(client);
    world.settle();
    assert_eq!(world.metric("weir_channels_clients"), 0.0);
}

#[test]
fn commands_behind_the_connect_are_handled_in_order() {
    let mut world = World::new(open());
    let mut client = world.connection(1 << 20);
    client.peer.send(b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n");
    world.settle();
    let said = client.heard();
    assert_eq!(
        said.iter().map(|reply| reply["id"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );
    assert!(said[1]["subscribe"].is_object());
}

#[test]
fn a_client_that_does_not_connect_is_stale() {
    let mut world = World::new(open());
    let mut client = world.connection(1 << 20);
    world.pass(9);
    assert!(client.heard().is_empty());
    world.pass(3);
    assert_eq!(client.told_to_go(), 3502);
}

#[test]
fn a_client_is_pinged_and_goes_when_it_does_not_answer() {
    let mut world = World::new(open());
    let (mut lively, mut dead) = (world.client(), world.client());
    let mut pings = 0;
    let mut gone = false;
    for _ in 0..120 {
        world.pass(1);
        for said in lively.heard() {
            assert_eq!(said, json!({}));
            lively.say(&mut world, "{}");
            pings += 1;
        }
        gone |= dead.heard().iter().any(|push| push["push"]["disconnect"]["code"] == 3012);
    }
    assert!((4..=5).contains(&pings), "{pings}");
    assert!(gone);
    assert!(!lively.peer.at_end());
}

#[test]
fn a_drain_tells_clients_to_come_back() {
    let mut world = World::new(open());
    let mut client = world.client();
    world.engine.drain(std::time::Duration::ZERO);
    world.pass(2);
    let said = client.heard();
    let disconnect = &said[0]["push"]["disconnect"];
    assert_eq!(*disconnect, json!({"code": 3001, "reason": "shutdown", "reconnect": true}));
}
