//! The broker that fails does so as it was told, the same for the same seed.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use weir_channels::broker::faulty::{Faults, Faulty};
use weir_channels::broker::{
    Answer, Broker, BrokerError, Limits, Memory, Publication, Publish, Published, Subscribe,
};

use crate::support::{CHANNEL, META_TTL, Worker, offset, ten};

/// Polls until it is there; gives how often.
fn wait<T>(answer: Answer<T>) -> (Result<T, BrokerError>, usize) {
    let mut future = pin!(answer.wait());
    let mut polls = 0;
    loop {
        polls += 1;
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (result, polls);
        }
    }
}

/// Publishes a hundred times; gives the offsets that a worker was told, and the answers.
fn run(faults: Faults, seed: u64) -> (Vec<u64>, Vec<Result<Published, BrokerError>>, Faults) {
    let broker = Faulty::new(Memory::new(Limits::default(), 1), faults, seed);
    let now = weir_core::clock::now();
    let mut worker = Worker::new();
    let subscribe = Subscribe { meta_ttl: Some(META_TTL), recover: None };
    while wait(broker.subscribe(worker.reader.inbox(), CHANNEL, subscribe, now)).0.is_err() {}
    let publish = Publish { stream: Some(ten()), ..Publish::default() };
    let (mut told, mut answers) = (Vec::new(), Vec::new());
    for i in 0..100 {
        let publication = Publication::new(b"data", 0, now);
        answers.push(wait(broker.publish(CHANNEL, publication, publish, now)).0);
        if i % 5 == 0 {
            told.extend(worker.drain(&broker, 3));
        }
    }
    broker.set(Faults::default());
    told.extend(worker.drain(&broker, 100));
    let offsets = told.iter().map(offset);
    (offsets.collect(), answers, broker.faulted())
}

#[test]
fn without_faults_everything_arrives() {
    let (told, answers, faulted) = run(Faults::default(), 7);
    assert!(told.into_iter().eq(1..=100) && answers.iter().all(Result::is_ok));
    assert_eq!(faulted, Faults::default());
}

#[test]
fn events_are_lost_doubled_reordered_and_held_back_as_often_as_it_says() {
    let faults = Faults { lose: 10, ..Faults::default() };
    let (told, _, faulted) = run(faults, 7);
    assert!(faulted.lose > 0 && told.is_sorted());
    assert_eq!(told.len() as u64, 100 - faulted.lose);

    let faults = Faults { double: 10, ..Faults::default() };
    let (told, _, faulted) = run(faults, 7);
    assert!(faulted.double > 0 && told.is_sorted());
    assert_eq!(told.len() as u64, 100 + faulted.double);

    let faults = Faults { reorder: 2, hold: 2, ..Faults::default() };
    let (mut told, _, faulted) = run(faults, 7);
    assert!(faulted.reorder > 0 && faulted.hold > 0 && !told.is_sorted());
    told.sort_unstable();
    assert!(told.into_iter().eq(1..=100), "nothing is missing");
}

#[test]
fn a_call_that_is_ignored_has_no_effect_and_one_without_an_answer_has() {
    let (told, answers, faulted) = run(Faults { ignore: 5, silent: 5, ..Faults::default() }, 7);
    assert!(faulted.ignore > 0 && faulted.silent > 0);
    let failed = answers.iter().filter(|answer| **answer == Err(BrokerError::Silent)).count();
    assert!(failed > 0 && failed < 100);
    let published = told.len();
    assert!(published < 100 && published > 100 - failed);
}

#[test]
fn answers_come_late() {
    let faults = Faults { late: 1, ..Faults::default() };
    let broker = Faulty::new(Memory::new(Limits::default(), 1), faults, 7);
    let now = weir_core::clock::now();
    let mut polls = (0..20).map(|_| wait(broker.presence_stats(CHANNEL, now)).1);
    assert!(polls.any(|polls| polls > 3));
}

#[test]
fn what_happens_before_a_late_answer_is_put_back_and_read_after_it() {
    let faults = Faults { late: 1, ..Faults::default() };
    let broker = Faulty::new(Memory::new(Limits::default(), 1), faults, 7);
    let now = weir_core::clock::now();
    let mut worker = Worker::new();
    let subscribe = Subscribe { meta_ttl: Some(META_TTL), recover: None };
    let answer = broker.subscribe(worker.reader.inbox(), CHANNEL, subscribe, now);
    let publish = Publish { stream: Some(ten()), ..Publish::default() };
    wait(broker.publish(CHANNEL, Publication::new(b"early", 0, now), publish, now)).0.unwrap();

    let mut aside = Vec::new();
    worker.reader.drain(10, |channel| {
        aside.push(channel);
        false
    });
    let subscribed = wait(answer).0.unwrap();
    assert_eq!((aside.as_slice(), subscribed.number), ([subscribed.channel].as_slice(), 0));
    worker.reader.put_back(subscribed.channel);
    assert_eq!(worker.words(&broker), ["early"]);
}

#[test]
fn the_same_seed_fails_in_the_same_way() {
    let faults = Faults { lose: 5, double: 5, reorder: 5, hold: 5, late: 5, ignore: 5, silent: 5 };
    assert_eq!(run(faults, 7), run(faults, 7));
    assert_ne!(run(faults, 7), run(faults, 8));
}
