//! From a publish to a worker.

use std::sync::Arc;

use weir_channels::broker::{
    Broker, ClientInfo, Event, Limits, Missed, Notice, Publish, Subscribe,
};

use crate::support::{CHANNEL, Worker, World, answered, offset, ten, word};

fn somebody() -> Arc<ClientInfo> {
    Arc::new(ClientInfo { client: "ann".into(), ..ClientInfo::default() })
}

#[test]
fn a_worker_reads_what_happened_since_it_subscribed_in_order_and_once() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.publish("before");
    let subscribed = world.subscribe(&worker, None);
    assert_eq!(subscribed.position.unwrap().offset, 1);
    world.publish("one");
    world.say("two");
    answered(world.broker.announce(CHANNEL, Notice::Join(somebody()), world.now)).unwrap();
    answered(world.broker.announce(CHANNEL, Notice::Leave(somebody()), world.now)).unwrap();
    world.publish("three");
    assert_eq!(worker.words(&world.broker), ["one", "two", "+ann", "-ann", "three"]);
    assert!(worker.words(&world.broker).is_empty());
}

#[test]
fn a_channel_is_listed_once_and_its_worker_woken_once_until_it_has_read() {
    let (world, mut worker) = (World::new(), Worker::new());
    let channel = world.subscribe(&worker, None).channel;
    for _ in 0..5 {
        world.publish("again");
    }
    assert_eq!((worker.reader.listed(), worker.woken()), (vec![channel], 1));
    assert_eq!(worker.words(&world.broker).len(), 5);
    world.publish("more");
    assert_eq!((worker.reader.listed(), worker.woken()), (vec![channel], 2));
}

#[test]
fn a_worker_that_leaves_and_comes_back_is_listed_once_and_told_of_nothing_in_between() {
    let (world, mut worker) = (World::new(), Worker::new());
    let first = world.subscribe(&worker, None).channel;
    world.publish("unread");
    world.unsubscribe(&worker, first);
    world.publish("unheard");
    let second = world.subscribe(&worker, None);
    assert_eq!((second.channel, second.position.unwrap().offset), (first, 2));
    world.publish("heard");
    assert_eq!(worker.reader.listed(), [first]);
    assert_eq!(worker.words(&world.broker), ["heard"]);
}

#[test]
fn each_worker_reads_from_its_own_place() {
    let (world, mut fast, mut slow) = (World::new(), Worker::new(), Worker::new());
    world.subscribe(&fast, None);
    world.subscribe(&slow, None);
    world.publish("one");
    assert_eq!(fast.words(&world.broker), ["one"]);
    world.publish("two");
    assert_eq!(slow.words(&world.broker), ["one", "two"]);
    assert_eq!(fast.words(&world.broker), ["two"]);
}

#[test]
fn a_long_channel_is_read_in_slices_between_the_others() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.subscribe(&worker, None);
    let inbox = worker.reader.inbox();
    answered(world.broker.subscribe(inbox, "short", Subscribe::default(), world.now)).unwrap();
    for i in 0..5 {
        world.publish(&i.to_string());
    }
    world.publish_as("short", "in between", Publish::default()).unwrap();
    let words = worker.drain(&world.broker, 2);
    let words = words.iter().map(word).collect::<Vec<_>>();
    assert_eq!(words, ["0", "1", "in between", "2", "3", "4"]);
}

#[test]
fn a_second_subscriber_of_a_worker_knows_what_is_from_before_it() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.subscribe(&worker, None);
    world.say("for the first only");
    let second = world.subscribe(&worker, None);
    world.say("for both");
    let events = worker.drain(&world.broker, 100);
    let new = events.iter().filter(|live| live.number > second.number);
    assert_eq!(new.map(word).collect::<Vec<_>>(), ["for both"]);
    assert_eq!(events.len(), 2);
}

#[test]
fn a_worker_that_is_behind_is_told_of_the_hole_and_of_where_it_ends() {
    let limits = Limits { unread_events_max: 3, ..Limits::default() };
    let (world, mut slow, mut fast) = (World::with(limits), Worker::new(), Worker::new());
    world.subscribe(&slow, None);
    world.subscribe(&fast, None);
    let places = ["1", "2", "3", "4", "5"].map(|data| {
        let place = world.publish(data);
        assert_eq!(fast.words(&world.broker), [data]);
        place
    });
    assert_eq!(slow.words(&world.broker), ["3", "4", "5"]);
    assert_eq!(slow.reads[0].missed, Some(Missed { events: 2, through: Some(places[1]) }));
    let counts = world.broker.counts();
    assert_eq!((counts.holes, counts.missed), (1, 2));
    // The history is another bound.
    assert_eq!(world.kept(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_hole_without_publications_does_not_name_the_place_of_an_older_one() {
    let limits = Limits { unread_events_max: 1, ..Limits::default() };
    let (world, mut worker) = (World::with(limits), Worker::new());
    world.subscribe(&worker, None);
    let passed = world.publish("one");
    world.publish("two");
    assert_eq!(worker.words(&world.broker), ["two"]);
    assert_eq!(worker.reads[0].missed, Some(Missed { events: 1, through: Some(passed) }));
    for _ in 0..3 {
        answered(world.broker.announce(CHANNEL, Notice::Join(somebody()), world.now)).unwrap();
    }
    assert_eq!(worker.words(&world.broker), ["+ann"]);
    assert_eq!(worker.reads[0].missed, Some(Missed { events: 2, through: None }));
}

#[test]
fn what_everybody_has_read_is_not_kept() {
    let limits = Limits { unread_bytes_max: 10_000, ..Limits::default() };
    let (world, mut worker) = (World::with(limits), Worker::new());
    let channel = world.subscribe(&worker, None).channel;
    let large = "x".repeat(6_000);
    for _ in 0..10 {
        world.say(&large);
        assert_eq!(worker.words(&world.broker).len(), 1);
    }
    assert_eq!(worker.reads[0].missed, None);
    // What is alone larger than the bound still arrives.
    world.say(&"y".repeat(20_000));
    assert_eq!(worker.words(&world.broker).len(), 1);
    world.unsubscribe(&worker, channel);
}

#[test]
fn a_history_that_is_removed_begins_anew_and_subscribers_are_told_at_once() {
    let (world, mut worker) = (World::new(), Worker::new());
    let old = world.subscribe(&worker, None).position.unwrap();
    world.publish("one");
    answered(world.broker.remove_history(CHANNEL, world.now)).unwrap();
    let place = world.publish("first again");
    assert_eq!(place.offset, 1);
    assert_ne!(place.epoch, old.epoch);
    let events = worker.drain(&world.broker, 100);
    assert_eq!(events.iter().map(word).collect::<Vec<_>>(), ["one", "reset", "first again"]);
    assert!(matches!(events[1].event, Event::Reset(epoch) if epoch == place.epoch));
    assert_eq!(world.kept(), ["first again"]);
}

#[test]
fn a_channel_without_history_and_subscribers_is_nowhere() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.say("to nobody");
    assert_eq!(world.broker.channels(), 0);
    let inbox = worker.reader.inbox();
    let subscribed =
        answered(world.broker.subscribe(inbox, CHANNEL, Subscribe::default(), world.now));
    let subscribed = subscribed.unwrap();
    assert_eq!(subscribed.position, None);
    world.say("to somebody");
    assert_eq!(world.broker.channels(), 1);
    world.unsubscribe(&worker, subscribed.channel);
    // Its id is still listed; when that is read, the channel is gone.
    assert_eq!(world.broker.channels(), 1);
    assert!(worker.words(&world.broker).is_empty());
    assert_eq!((world.broker.channels(), worker.reader.is_waiting()), (0, false));
    assert_eq!(world.broker.counts().published, 2);
}

#[test]
fn publishes_of_many_threads_arrive_whole_and_in_order() {
    let (world, mut worker) = (World::new(), Worker::new());
    world.subscribe(&worker, None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                (0..1000).for_each(|i| assert!(world.publish(&i.to_string()).offset > 0))
            });
        }
    });
    let events = worker.drain(&world.broker, usize::MAX);
    let offsets = events.iter().map(offset);
    assert!(offsets.eq(1..=2000));
    assert_eq!(ten().size, world.kept().len());
}
