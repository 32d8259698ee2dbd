//! The memory broker in every order of its threads: the same files, compiled against locks that
//! switch threads wherever they can, so that a rare interleaving is found in a second.
//!
//! What holds in all of them: nothing is lost, nothing is doubled, a channel is listed at most once
//! a worker, and a worker that sleeps is woken.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like the tests themselves")]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "only what the threads need is used here"
)]

#[path = "../../src/broker/mod.rs"]
mod broker;
mod sync;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Condvar;
use shuttle::{Config, Runner, thread};

use broker::{
    Answer, Broker, ChannelId, Event, Limits, Memory, Publication, Publish, Reader, Since,
    StreamOptions, Subscribe,
};

/// Interleavings of each scheduler.
const RUNS: usize = 3_000;

const HOUR: Duration = Duration::from_secs(3600);

fn everywhere(test: fn()) {
    Runner::new(RandomScheduler::new(RUNS), Config::new()).run(test);
    Runner::new(PctScheduler::new(4, RUNS), Config::new()).run(test);
}

fn now() -> Instant {
    weir_core::clock::now()
}

fn done<T>(answer: Answer<T>) -> T {
    match answer {
        Answer::Now(result) => result.expect("nothing is refused here"),
        Answer::Later(_) => panic!("it answers in place"),
    }
}

/// A bell that a worker sleeps on.
#[derive(Default)]
struct Bell {
    rung: shuttle::sync::Mutex<bool>,
    ring: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.ring.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.ring.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn stream() -> StreamOptions {
    StreamOptions { size: 100, ttl: HOUR, meta_ttl: HOUR }
}

fn publish(broker: &Memory, now: Instant) -> u64 {
    let publication = Publication::new(b"data", 0, now);
    let publish = Publish { stream: Some(stream()), ..Publish::default() };
    done(broker.publish("channel", publication, publish, now)).position.unwrap().offset
}

/// A worker's thread: what it was told, in offsets.
struct Worker {
    broker: Arc<Memory>,
    bell: Arc<Bell>,
    reader: Reader,
    now: Instant,
    told: Vec<u64>,
}

impl Worker {
    fn new(broker: &Arc<Memory>, now: Instant) -> Self {
        let bell = Arc::new(Bell::default());
        let ringer = Arc::clone(&bell);
        let reader = Reader::new(move || ringer.ring());
        Self { broker: Arc::clone(broker), bell, reader, now, told: Vec::new() }
    }

    /// Subscribes from the beginning of the stream: what is recovered is told as well.
    fn subscribe(&mut self) -> ChannelId {
        let since = Since { offset: self.told.last().copied().unwrap_or(0), epoch: "" };
        let subscribe = Subscribe { meta_ttl: Some(HOUR), recover: Some(since) };
        let inbox = self.reader.inbox();
        let subscribed = done(self.broker.subscribe(inbox, "channel", subscribe, self.now));
        let recovery = subscribed.recovery.unwrap();
        assert!(recovery.recovered);
        self.told.extend(recovery.publications.iter().map(|publication| publication.offset()));
        subscribed.channel
    }

    fn drain(&mut self, max: usize) {
        let listed = self.reader.listed();
        let different = listed.iter().collect::<HashSet<_>>();
        assert_eq!(different.len(), listed.len(), "a channel is listed once");
        let inbox = Arc::clone(self.reader.inbox());
        let mut live = Vec::new();
        self.reader.drain(10, |channel| {
            let read = self.broker.read(&inbox, channel, max, &mut live);
            assert_eq!(read.missed, None);
            read.more
        });
        for live in live {
            let Event::Publication(publication) = live.event else { panic!("{live:?}") };
            self.told.push(publication.offset());
        }
    }

    /// Sleeps and drains until the last publication is told. A wake that is lost is a deadlock,
    /// which the scheduler finds.
    fn until(&mut self, last: u64) {
        while self.told.last() != Some(&last) {
            if !self.reader.is_waiting() {
                self.bell.wait();
            }
            self.drain(1);
        }
        assert!(self.told.iter().copied().eq(1..=last), "{:?}", self.told);
    }
}

#[test]
fn a_subscriber_that_comes_at_any_time_gets_everything_once() {
    everywhere(|| {
        let now = now();
        let broker = Arc::new(Memory::with_shards(Limits::default(), 1, 1));
        let publishers = (0..2).map(|_| {
            let broker = Arc::clone(&broker);
            thread::spawn(move || {
                for _ in 0..2 {
                    publish(&broker, now);
                }
            })
        });
        let publishers = publishers.collect::<Vec<_>>();
        let workers = (0..2).map(|_| {
            let mut worker = Worker::new(&broker, now);
            thread::spawn(move || {
                worker.subscribe();
                worker.until(4);
            })
        });
        let workers = workers.collect::<Vec<_>>();
        for thread in publishers.into_iter().chain(workers) {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_worker_that_leaves_and_comes_back_misses_nothing_and_is_listed_once() {
    everywhere(|| {
        let now = now();
        let broker = Arc::new(Memory::with_shards(Limits::default(), 1, 1));
        let publisher = {
            let broker = Arc::clone(&broker);
            thread::spawn(move || (0..4).for_each(|i| assert!(publish(&broker, now) > i)))
        };
        let mut worker = Worker::new(&broker, now);
        let channel = worker.subscribe();
        worker.drain(1);
        broker.unsubscribe(worker.reader.inbox(), channel, now);
        // What was left unread comes out of the history.
        assert_eq!(worker.subscribe(), channel, "its stream has kept the channel");
        worker.until(4);
        publisher.join().unwrap();
    });
}

#[test]
fn a_second_subscriber_of_a_worker_moves_nothing_for_the_first() {
    everywhere(|| {
        let now = now();
        let broker = Arc::new(Memory::with_shards(Limits::default(), 1, 1));
        let mut worker = Worker::new(&broker, now);
        worker.subscribe();
        let publisher = {
            let broker = Arc::clone(&broker);
            thread::spawn(move || (0..3).for_each(|i| assert!(publish(&broker, now) > i)))
        };
        worker.drain(1);
        let subscribe = Subscribe { meta_ttl: Some(HOUR), recover: None };
        let inbox = worker.reader.inbox();
        let second = done(broker.subscribe(inbox, "channel", subscribe, now));
        worker.until(3);
        // What is behind the second one's place is what it is told.
        let after = second.position.unwrap().offset;
        assert_eq!(worker.told.iter().filter(|offset| **offset > after).count() as u64, 3 - after);
        publisher.join().unwrap();
    });
}

#[test]
fn a_channel_that_ends_while_it_is_published_to_leaves_nothing_behind() {
    everywhere(|| {
        let now = now();
        let broker = Arc::new(Memory::with_shards(Limits::default(), 1, 1));
        let mut worker = Worker::new(&broker, now);
        let inbox = worker.reader.inbox();
        let channel = done(broker.subscribe(inbox, "channel", Subscribe::default(), now)).channel;
        let publisher = {
            let broker = Arc::clone(&broker);
            thread::spawn(move || {
                for _ in 0..2 {
                    let publication = Publication::new(b"data", 0, now);
                    done(broker.publish("channel", publication, Publish::default(), now));
                }
            })
        };
        broker.unsubscribe(worker.reader.inbox(), channel, now);
        publisher.join().unwrap();
        worker.drain(1);
        assert!(worker.told.is_empty());
        assert_eq!((broker.channels(), worker.reader.is_waiting()), (0, false));
    });
}
