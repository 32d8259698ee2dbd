//! What is kept, for how long, and what a repeated or late publish does.

use std::time::Duration;

use weir_channels::broker::{
    Broker, BrokerError, IDEMPOTENCY_TTL, Limits, Memory, PAGE_MAX, Publish, Range, Since,
    StreamOptions, Suppressed, Version,
};

use crate::support::{CHANNEL, META_TTL, Worker, World, answered, ten, text};

fn with_history() -> Publish<'static> {
    Publish { stream: Some(ten()), ..Publish::default() }
}

#[test]
fn a_history_keeps_the_newest_and_its_offsets_go_on() {
    let world = World::new();
    for i in 1..=12 {
        assert_eq!(world.publish(&i.to_string()).offset, i);
    }
    assert_eq!(world.kept(), ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]);
}

#[test]
fn each_publication_renews_the_history_and_its_end_leaves_the_stream() {
    let mut world = World::new();
    let first = world.publish("1");
    world.wait(Duration::from_secs(59));
    world.publish("2");
    world.wait(Duration::from_secs(59));
    assert_eq!(world.kept(), ["1", "2"]);
    world.wait(Duration::from_secs(1));
    assert!(world.kept().is_empty());
    let third = world.publish("3");
    assert_eq!((third.offset, third.epoch), (3, first.epoch));
}

#[test]
fn a_stream_that_nobody_wants_is_forgotten_with_its_epoch() {
    let mut world = World::new();
    let old = world.publish("1");
    world.wait(META_TTL - Duration::from_secs(1));
    world.history(Range::default()).unwrap();
    world.wait(META_TTL - Duration::from_secs(1));
    assert_eq!(world.publish("2").epoch, old.epoch, "a read keeps it");
    world.wait(META_TTL);
    let new = world.publish("3");
    assert_eq!(new.offset, 1);
    assert_ne!(new.epoch, old.epoch);
}

#[test]
fn a_stream_with_subscribers_is_not_forgotten_and_for_as_long_afterwards() {
    let (mut world, worker) = (World::new(), Worker::new());
    let subscribed = world.subscribe(&worker, None);
    world.wait(3 * META_TTL);
    world.broker.sweep(world.now);
    world.unsubscribe(&worker, subscribed.channel);
    world.wait(META_TTL - Duration::from_secs(1));
    let page = world.history(Range::default()).unwrap();
    assert_eq!(Some(page.position), subscribed.position);
}

#[test]
fn the_sweep_frees_what_is_over() {
    let mut world = World::new();
    for i in 0..1000 {
        let publish = Publish { idempotency_key: Some("once"), ..with_history() };
        world.publish_as(&format!("channel {i}"), "data", publish).unwrap();
    }
    assert!(world.broker.bytes() > 1_000 * 100);
    world.wait(META_TTL);
    world.broker.sweep(world.now);
    assert_eq!((world.broker.channels(), world.broker.bytes()), (0, 0));
}

#[test]
fn a_sweep_stops_after_many_bytes_and_the_next_one_goes_on() {
    let mut world = World::new();
    world.broker = Memory::with_shards(Limits::default(), 1, 1);
    let large = "x".repeat(900_000);
    for i in 0..10 {
        world.publish_as(&i.to_string(), &large, with_history()).unwrap();
    }
    world.wait(META_TTL);
    let left = (0..5).map(|_| {
        world.broker.sweep(world.now);
        world.broker.channels()
    });
    assert_eq!(left.collect::<Vec<_>>(), [8, 6, 4, 2, 0]);
    assert_eq!(world.broker.bytes(), 0);
}

#[test]
fn a_page_is_what_was_asked_for() {
    let world = World::new();
    for i in 1..=12 {
        world.publish(&i.to_string());
    }
    let epoch = world.history(Range::default()).unwrap().position.epoch.to_string();
    let since = |offset| Some(Since { offset, epoch: &epoch });
    let unknown = Some(Since { offset: 10, epoch: "" });
    for (since, limit, reverse, expected) in [
        (None, 0, false, ""),
        (None, 2, false, "3 4"),
        (None, 2, true, "12 11"),
        (None, 100, true, "12 11 10 9 8 7 6 5 4 3"),
        (since(0), 1, false, "3"),
        (since(10), 100, false, "11 12"),
        (unknown, 100, false, "11 12"),
        (since(12), 100, false, ""),
        (since(u64::MAX), 100, false, ""),
        (since(5), 100, true, "4 3"),
        (since(5), 1, true, "4"),
        (since(0), 100, true, ""),
        (since(u64::MAX), 1, true, "12"),
    ] {
        let page = world.history(Range { since, limit, reverse }).unwrap();
        let words = page.publications.iter().map(|p| text(p)).collect::<Vec<_>>();
        assert_eq!(words.join(" "), expected, "{since:?} {limit} {reverse}");
        assert_eq!(page.position.offset, 12);
    }
    let other = Some(Since { offset: 10, epoch: "other" });
    let refused = world.history(Range { since: other, ..Range::default() });
    assert_eq!(refused.unwrap_err(), BrokerError::WrongEpoch);
}

#[test]
fn a_page_has_a_bound() {
    let world = World::new();
    let stream = Some(StreamOptions { size: 1000, ..ten() });
    for _ in 0..400 {
        world.publish_as(CHANNEL, "data", Publish { stream, ..Publish::default() }).unwrap();
    }
    assert_eq!(world.kept().len(), PAGE_MAX);
}

#[test]
fn a_repeated_key_gives_the_first_result_for_five_minutes() {
    let (mut world, mut worker) = (World::new(), Worker::new());
    world.subscribe(&worker, None);
    let publish = Publish { idempotency_key: Some("k"), ..with_history() };
    let first = world.publish_as(CHANNEL, "first", publish).unwrap();
    world.publish("second");
    world.wait(IDEMPOTENCY_TTL - Duration::from_secs(1));
    let again = world.publish_as(CHANNEL, "again", publish).unwrap();
    assert_eq!(again.position, first.position);
    assert_eq!(again.suppressed, Some(Suppressed::Repeated));
    assert_eq!(worker.words(&world.broker), ["first", "second"]);
    let elsewhere = world.publish_as("newsk", "elsewhere", publish).unwrap();
    assert_eq!(elsewhere.suppressed, None);
    world.wait(Duration::from_secs(1));
    let later = world.publish_as(CHANNEL, "later", publish).unwrap();
    assert_eq!((later.suppressed, later.position.unwrap().offset), (None, 3));
    assert_eq!(world.broker.counts().repeated, 1);
}

#[test]
fn a_version_that_is_not_above_the_streams_is_suppressed() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.subscribe(&worker, None);
    for (number, epoch, taken) in [
        (2, "a", true),
        (2, "a", false),
        (1, "a", false),
        (3, "a", true),
        (3, "", false),
        (1, "b", true),
        (1, "b", false),
        (4, "", true),
    ] {
        let version = Some(Version { number, epoch });
        let published = world.publish_as(CHANNEL, "v", Publish { version, ..with_history() });
        let published = published.unwrap();
        let suppressed = (!taken).then_some(Suppressed::Outdated);
        assert_eq!(published.suppressed, suppressed, "{number} {epoch}");
        assert_eq!(worker.words(&world.broker).len(), usize::from(taken));
    }
    assert_eq!(world.kept().len(), 4);
    assert_eq!(world.broker.counts().outdated, 4);
}

#[test]
fn removing_what_is_not_there_begins_nothing() {
    let world = World::new();
    answered(world.broker.remove_history(CHANNEL, world.now)).unwrap();
    assert_eq!(world.broker.channels(), 0);
}
