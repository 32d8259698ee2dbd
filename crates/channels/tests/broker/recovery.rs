//! Catching up: everything that was missed, or the truth.

use std::time::Duration;

use weir_channels::broker::{Broker, PAGE_MAX, Publish, Since, StreamOptions};

use crate::support::{CHANNEL, Worker, World, answered, ten, text};

/// Recovers from a place; gives the payloads when it was recovered.
fn recover(world: &World, offset: u64, epoch: &str) -> Option<String> {
    let worker = Worker::new();
    let subscribed = world.subscribe(&worker, Some(Since { offset, epoch }));
    world.unsubscribe(&worker, subscribed.channel);
    let recovery = subscribed.recovery.expect("it was asked for");
    let words = recovery.publications.iter().map(|p| text(p)).collect::<Vec<_>>();
    assert!(recovery.recovered || words.is_empty());
    recovery.recovered.then(|| words.join(" "))
}

#[test]
fn a_place_is_recovered_when_nothing_after_it_is_missing() {
    let world = World::new();
    let epoch = world.publish("1").epoch.to_string();
    for i in 2..=12 {
        world.publish(&i.to_string());
    }
    for (offset, expected) in [
        (12, Some("")),
        (11, Some("12")),
        (2, Some("3 4 5 6 7 8 9 10 11 12")),
        (1, None),
        (0, None),
        (13, None),
        (u64::MAX, None),
    ] {
        assert_eq!(recover(&world, offset, &epoch).as_deref(), expected, "{offset}");
        assert_eq!(recover(&world, offset, "").as_deref(), expected, "{offset}, unknown epoch");
        assert_eq!(recover(&world, offset, "other"), None, "{offset}, another epoch");
    }
    let counts = world.broker.counts();
    assert_eq!((counts.recovered, counts.unrecovered), (6, 15));
}

#[test]
fn a_fresh_stream_is_recovered_from_its_beginning() {
    let world = World::new();
    assert_eq!(recover(&world, 0, "").as_deref(), Some(""));
    assert_eq!(recover(&world, 1, ""), None);
}

#[test]
fn an_expired_history_recovers_only_who_has_missed_nothing() {
    let mut world = World::new();
    world.publish("1");
    let epoch = world.publish("2").epoch.to_string();
    world.wait(Duration::from_secs(60));
    assert_eq!(recover(&world, 2, &epoch).as_deref(), Some(""));
    assert_eq!(recover(&world, 1, &epoch), None);
}

#[test]
fn a_removed_history_recovers_nobody() {
    let world = World::new();
    let epoch = world.publish("1").epoch.to_string();
    answered(world.broker.remove_history(CHANNEL, world.now)).unwrap();
    world.publish("1");
    assert_eq!(recover(&world, 1, &epoch), None);
}

#[test]
fn more_than_a_page_is_not_recovered() {
    let world = World::new();
    let stream = Some(StreamOptions { size: 1000, ..ten() });
    let publish = Publish { stream, ..Publish::default() };
    for _ in 0..=PAGE_MAX {
        world.publish_as(CHANNEL, "data", publish).unwrap();
    }
    assert_eq!(recover(&world, 0, ""), None);
    let words = recover(&world, 1, "").unwrap();
    assert_eq!(words.split(' ').count(), PAGE_MAX);
}

#[test]
fn what_is_published_without_history_leaves_no_gap_in_the_stream() {
    let world = World::new();
    world.publish("1");
    world.say("beside");
    world.publish("2");
    assert_eq!(recover(&world, 0, "").as_deref(), Some("1 2"));
}

#[test]
fn recovery_and_live_events_meet_without_a_gap_or_an_overlap() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.publish("1");
    world.publish("2");
    let recovery = world.subscribe(&worker, Some(Since { offset: 1, epoch: "" })).recovery;
    world.publish("3");
    assert_eq!(recovery.unwrap().publications.len(), 1);
    assert_eq!(worker.words(&world.broker), ["3"]);
}
