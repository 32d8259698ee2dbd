//! Who is in a channel.

use std::sync::Arc;
use std::time::Duration;

use weir_channels::broker::{Broker, ClientInfo, PresenceStats};

use crate::support::{CHANNEL, World, answered};

const TTL: Duration = Duration::from_secs(60);

fn keep(world: &World, client: &str, user: &str) -> bool {
    let info = ClientInfo { client: client.into(), user: user.into(), ..ClientInfo::default() };
    answered(world.broker.keep_present(CHANNEL, &Arc::new(info), TTL, world.now)).unwrap()
}

fn end(world: &World, client: &str) -> bool {
    answered(world.broker.end_present(CHANNEL, client, world.now)).unwrap()
}

fn present(world: &World) -> String {
    let list = answered(world.broker.presence(CHANNEL, world.now)).unwrap();
    let mut list = list.iter().map(|i| format!("{}:{}", i.client, i.user)).collect::<Vec<_>>();
    list.sort();
    list.join(" ")
}

fn stats(world: &World) -> (usize, usize) {
    let stats: PresenceStats = answered(world.broker.presence_stats(CHANNEL, world.now)).unwrap();
    (stats.clients, stats.users)
}

#[test]
fn clients_and_users_are_counted() {
    let world = World::new();
    assert_eq!(stats(&world), (0, 0));
    assert!(keep(&world, "1", "ann") && keep(&world, "2", "ann") && keep(&world, "3", "bob"));
    assert!(!keep(&world, "1", "ann"));
    assert_eq!((present(&world).as_str(), stats(&world)), ("1:ann 2:ann 3:bob", (3, 2)));
    assert!(end(&world, "3") && !end(&world, "3"));
    assert_eq!((present(&world).as_str(), stats(&world)), ("1:ann 2:ann", (2, 1)));
    assert!(end(&world, "1") && end(&world, "2"));
    assert_eq!((present(&world).as_str(), stats(&world)), ("", (0, 0)));
}

#[test]
fn a_client_is_what_it_last_said() {
    let world = World::new();
    keep(&world, "1", "ann");
    assert!(!keep(&world, "1", "bob"));
    assert_eq!((present(&world).as_str(), stats(&world)), ("1:bob", (1, 1)));
}

#[test]
fn who_is_not_refreshed_is_gone() {
    let mut world = World::new();
    keep(&world, "1", "ann");
    world.wait(TTL / 2);
    keep(&world, "2", "bob");
    world.wait(TTL / 2);
    assert_eq!((present(&world).as_str(), stats(&world)), ("2:bob", (1, 1)));
    keep(&world, "2", "bob");
    world.wait(TTL / 2);
    assert_eq!(present(&world), "2:bob");
    world.wait(TTL / 2);
    assert_eq!((stats(&world), end(&world, "2")), ((0, 0), false));
    assert!(keep(&world, "2", "bob"), "it is new again");
}

#[test]
fn the_sweep_frees_the_presence_of_channels_that_nobody_asks_for() {
    let mut world = World::new();
    for i in 0..5_000 {
        let info = Arc::new(ClientInfo { client: i.to_string().into(), ..ClientInfo::default() });
        let channel = format!("room {i}");
        answered(world.broker.keep_present(&channel, &info, TTL, world.now)).unwrap();
    }
    assert!(world.broker.bytes() > 5_000 * 100);
    world.wait(TTL);
    for _ in 0..64 {
        world.broker.sweep(world.now);
    }
    assert_eq!(world.broker.bytes(), 0);
}
