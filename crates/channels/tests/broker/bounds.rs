//! Every bound has a verdict and a count, and a refusal changes nothing.

use std::sync::Arc;
use std::time::Duration;

use weir_channels::broker::{
    Broker, BrokerError, ClientInfo, IDEMPOTENCY_TTL, Limits, Memory, Notice, Publication, Publish,
    Range, Refusal, Subscribe,
};

use crate::support::{CHANNEL, META_TTL, Worker, World, answered, ten};

fn with_history() -> Publish<'static> {
    Publish { stream: Some(ten()), ..Publish::default() }
}

fn refused(world: &World, refusal: Refusal) -> u64 {
    let i = Refusal::ALL.iter().position(|other| *other == refusal).unwrap();
    world.broker.counts().refused[i]
}

#[test]
fn channels_are_bounded() {
    let mut world = World::with(Limits { channels_max: 2, ..Limits::default() });
    let worker = Worker::new();
    world.publish_as("one", "data", with_history()).unwrap();
    world.subscribe(&worker, None);
    let full = BrokerError::Refused(Refusal::Channels);
    assert_eq!(world.publish_as("three", "data", with_history()).unwrap_err(), full);
    let inbox = worker.reader.inbox();
    let subscribed = world.broker.subscribe(inbox, "three", Subscribe::default(), world.now);
    assert_eq!(answered(subscribed).unwrap_err(), full);
    let page = world.broker.history("three", Range::default(), META_TTL, world.now);
    assert_eq!(answered(page).unwrap_err(), full);
    assert_eq!((world.broker.channels(), refused(&world, Refusal::Channels)), (2, 3));
    // Without history there is nothing to keep, and so nothing to refuse.
    world.publish_as("three", "data", Publish::default()).unwrap();
    world.wait(META_TTL);
    world.broker.sweep(world.now);
    world.publish_as("three", "data", with_history()).unwrap();
}

#[test]
fn a_history_is_bounded_in_bytes() {
    let world = World::with(Limits { history_bytes_max: 5_000, ..Limits::default() });
    for i in 0..9 {
        world.publish(&format!("{i}{}", "x".repeat(1_000)));
    }
    let kept = world.kept();
    assert!((3..=4).contains(&kept.len()), "{}", kept.len());
    assert!(kept.last().unwrap().starts_with('8'));
    let large = world.publish_as(CHANNEL, &"x".repeat(5_001), with_history());
    assert_eq!(large.unwrap_err(), BrokerError::Refused(Refusal::PublicationBytes));
    assert_eq!((world.kept().len(), refused(&world, Refusal::PublicationBytes)), (kept.len(), 1));
}

#[test]
fn all_streams_together_are_bounded_in_bytes() {
    let mut world = World::with(Limits { bytes_max: 200_000, ..Limits::default() });
    let (mut taken, data) = (0, "x".repeat(1_000));
    while world.publish_as(&format!("channel {taken}"), &data, with_history()).is_ok() {
        taken += 1;
        assert!(world.broker.bytes() <= 200_000);
    }
    assert!((60..180).contains(&taken), "{taken}");
    assert_eq!((world.broker.channels(), refused(&world, Refusal::Bytes)), (taken, 1));
    world.wait(META_TTL);
    world.broker.sweep(world.now);
    for i in 0..taken {
        world.publish_as(&format!("channel {i}"), &data, with_history()).unwrap();
    }
}

#[test]
fn what_waits_for_a_worker_is_charged_until_it_is_read() {
    let world = World::with(Limits { bytes_max: 30_000, ..Limits::default() });
    let mut worker = Worker::new();
    let channel = world.subscribe(&worker, None).channel;
    let somebody = Arc::new(ClientInfo::default());
    for _ in 0..3 {
        let mut taken = 0;
        while world.publish_as(CHANNEL, &"x".repeat(1_000), Publish::default()).is_ok() {
            taken += 1;
        }
        assert!((15..30).contains(&taken), "{taken}");
        while answered(world.broker.announce(
            CHANNEL,
            Notice::Join(Arc::clone(&somebody)),
            world.now,
        ))
        .is_ok()
        {
            taken += 1;
        }
        // Removing a history needs no room.
        answered(world.broker.remove_history(CHANNEL, world.now)).unwrap();
        assert_eq!(worker.words(&world.broker).len(), taken + 1);
    }
    world.say("unread");
    let held = world.broker.bytes();
    world.unsubscribe(&worker, channel);
    assert!(world.broker.bytes() < held);
}

#[test]
fn idempotency_keys_are_bounded_and_a_publish_that_cannot_have_one_is_refused() {
    let mut world = World::with(Limits { idempotency_keys_max: 2, ..Limits::default() });
    let publish = |key| Publish { idempotency_key: Some(key), ..with_history() };
    for key in ["one", "two"] {
        world.publish_as(CHANNEL, key, publish(key)).unwrap();
    }
    let refusal = world.publish_as(CHANNEL, "three", publish("three")).unwrap_err();
    assert_eq!(refusal, BrokerError::Refused(Refusal::IdempotencyKeys));
    assert_eq!(world.kept(), ["one", "two"]);
    assert_eq!(refused(&world, Refusal::IdempotencyKeys), 1);
    world.wait(IDEMPOTENCY_TTL);
    world.publish_as(CHANNEL, "three", publish("three")).unwrap();
}

#[test]
fn a_key_of_a_publish_that_was_refused_can_be_used_again() {
    let world = World::with(Limits { history_bytes_max: 1_000, ..Limits::default() });
    let publish = Publish { idempotency_key: Some("key"), ..with_history() };
    let large = world.publish_as(CHANNEL, &"x".repeat(1_000), publish);
    assert_eq!(large.unwrap_err(), BrokerError::Refused(Refusal::PublicationBytes));
    assert_eq!(world.publish_as(CHANNEL, "small", publish).unwrap().suppressed, None);
}

#[test]
fn presence_is_bounded_in_clients_and_in_bytes() {
    let limits = Limits { presence_clients_max: 2, bytes_max: 100_000, ..Limits::default() };
    let world = World::with(limits);
    let keep = |channel: &str, client: &str| {
        let info = Arc::new(ClientInfo { client: client.into(), ..ClientInfo::default() });
        answered(world.broker.keep_present(channel, &info, Duration::from_secs(60), world.now))
    };
    assert!(keep(CHANNEL, "one").unwrap() && keep(CHANNEL, "two").unwrap());
    let full = BrokerError::Refused(Refusal::PresenceClients);
    assert_eq!(keep(CHANNEL, "three").unwrap_err(), full);
    assert!(!keep(CHANNEL, "one").unwrap(), "who is there may stay");
    assert_eq!(refused(&world, Refusal::PresenceClients), 1);
    let mut channels = 0;
    while keep(&channels.to_string(), "one").is_ok() {
        channels += 1;
    }
    assert!(channels > 50);
    assert_eq!(refused(&world, Refusal::Bytes), 1);
    for channel in 0..channels {
        assert!(!keep(&channel.to_string(), "one").unwrap(), "who is there may stay");
    }
}

#[test]
fn how_full_the_broker_is_and_what_it_refused_is_gathered() {
    let broker = Arc::new(Memory::new(Limits { channels_max: 2, ..Limits::default() }, 1));
    let registry = prometheus::Registry::new();
    weir_channels::BrokerMetrics::register(&registry, Arc::clone(&broker)).unwrap();
    let gathered = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let value = |metric: &prometheus::proto::Metric| {
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        family.get_metric().iter().map(value).sum::<f64>()
    };
    assert_eq!(gathered("weir_channels_broker_refused_total"), 0.0);
    let now = weir_core::clock::now();
    for (name, taken) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        let publication = Publication::new(b"1", 0, now);
        let published = answered(broker.publish(name, publication, with_history(), now));
        assert_eq!(published.is_ok(), taken, "{name}");
    }
    assert_eq!(gathered("weir_channels_broker_refused_total"), 2.0);
    assert_eq!(gathered("weir_channels_broker_refused_total"), 2.0, "once, however often asked");
    assert_eq!(gathered("weir_channels_broker_channels"), 2.0);
    assert_eq!(gathered("weir_channels_broker_channels_limit"), 2.0);
    assert!(gathered("weir_channels_broker_bytes") > 0.0);
}
