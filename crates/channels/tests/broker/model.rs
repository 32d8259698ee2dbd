//! The broker against a model of it that keeps everything in one list, by random steps.

use std::time::Duration;

use proptest::prelude::*;
use weir_channels::broker::{
    Broker, BrokerError, Epoch, Limits, PAGE_MAX, Publish, Range, Since, StreamOptions, Subscribe,
    Subscribed,
};

use crate::support::{CHANNEL, Worker, World, answered, text, word};

#[derive(Clone, Debug)]
enum Do {
    Publish { size: usize, ttl: u64 },
    Say,
    Remove,
    Wait(u64),
    Sweep,
    Read { since: Option<(u64, Whose)>, limit: usize, reverse: bool },
    Recover { back: i64, epoch: Whose },
    Subscribe,
    Unsubscribe,
    Drain(usize),
}

/// Which epoch is claimed.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Ours,
    Unknown,
    Earlier,
}

const META_SECS: u64 = 100;

fn step() -> impl Strategy<Value = Do> {
    let whose = || prop_oneof![4 => Just(Whose::Ours), 1 => Just(Whose::Unknown), 1 => Just(Whose::Earlier)];
    let since = proptest::option::of((0..30_u64, whose()));
    prop_oneof![
        12 => (1..8_usize, 1..40_u64).prop_map(|(size, ttl)| Do::Publish { size, ttl }),
        3 => Just(Do::Say),
        1 => Just(Do::Remove),
        5 => (0..30_u64).prop_map(Do::Wait),
        1 => Just(Do::Wait(META_SECS)),
        2 => Just(Do::Sweep),
        6 => (since, 0..10_usize, any::<bool>())
            .prop_map(|(since, limit, reverse)| Do::Read { since, limit, reverse }),
        6 => (-2..12_i64, whose()).prop_map(|(back, epoch)| Do::Recover { back, epoch }),
        2 => Just(Do::Subscribe),
        2 => Just(Do::Unsubscribe),
        4 => (1..5_usize).prop_map(Do::Drain),
    ]
}

/// All that was ever published in this life of the stream, and how much of it is kept.
#[derive(Debug, Default)]
struct Model {
    log: Vec<String>,
    kept: usize,
    appended: u64,
    ttl: u64,
    touched: u64,
    alive: bool,
    subscribed: bool,
    /// What the worker must still be told.
    unread: Vec<String>,
    now: u64,
    said: usize,
    /// The epoch of this life when it is known, and one of an earlier life.
    epoch: Option<Epoch>,
    earlier: Option<Epoch>,
}

impl Model {
    fn settle(&mut self) {
        if self.now - self.appended >= self.ttl {
            self.kept = 0;
        }
        if self.alive && !self.subscribed && self.now - self.touched >= META_SECS {
            self.end();
        }
    }

    fn end(&mut self) {
        self.earlier = self.epoch.take().or(self.earlier);
        (self.alive, self.kept) = (false, 0);
        self.log.clear();
    }

    fn touch(&mut self) {
        (self.alive, self.touched) = (true, self.now);
    }

    /// The stream is of this epoch: the one it had, or a new one that was never seen.
    fn see(&mut self, epoch: Epoch) {
        assert!(self.epoch.is_none_or(|known| known == epoch), "the epoch of a living stream");
        assert_ne!(self.earlier, Some(epoch), "an epoch of an earlier life");
        self.epoch = Some(epoch);
    }

    fn text(&self, whose: Whose) -> String {
        let epoch = match whose {
            Whose::Unknown => return String::new(),
            Whose::Ours => self.epoch,
            Whose::Earlier => self.earlier,
        };
        epoch.map_or("never".to_owned(), |epoch| epoch.to_string())
    }

    fn accepts(&self, text: &str) -> bool {
        text.is_empty() || self.epoch.is_some_and(|epoch| epoch.to_string() == text)
    }

    /// What is kept with offsets above `offset`.
    fn after(&self, offset: u64) -> Vec<String> {
        let forgotten = self.log.len() - self.kept;
        let from = forgotten.max(usize::try_from(offset).unwrap_or(usize::MAX));
        self.log.get(from..).unwrap_or_default().to_vec()
    }

    fn page(&self, since: Option<u64>, limit: usize, reverse: bool) -> Vec<String> {
        let limit = limit.min(PAGE_MAX);
        if !reverse {
            return self.after(since.unwrap_or(0)).into_iter().take(limit).collect();
        }
        let mut before = self.after(0);
        if let Some(since) = since {
            let forgotten = self.log.len() - self.kept;
            let below = usize::try_from(since.saturating_sub(1)).unwrap();
            before.truncate(below.saturating_sub(forgotten));
        }
        before.into_iter().rev().take(limit).collect()
    }
}

struct Run {
    world: World,
    worker: Worker,
    model: Model,
}

impl Run {
    fn step(&mut self, step: &Do) {
        self.model.settle();
        match step {
            Do::Publish { size, ttl } => self.publish(*size, *ttl),
            Do::Say => {
                self.model.said += 1;
                let word = format!("said {}", self.model.said);
                self.world.say(&word);
                self.tell(word);
            }
            Do::Remove => {
                answered(self.world.broker.remove_history(CHANNEL, self.world.now)).unwrap();
                if self.model.alive {
                    self.model.end();
                    self.model.touch();
                    self.tell("reset".to_owned());
                }
            }
            Do::Wait(seconds) => {
                self.model.now += seconds;
                self.world.wait(Duration::from_secs(*seconds));
            }
            Do::Sweep => self.world.broker.sweep(self.world.now),
            Do::Read { since, limit, reverse } => self.read(*since, *limit, *reverse),
            Do::Recover { back, epoch } => self.recover(*back, *epoch),
            Do::Subscribe => {
                let subscribed = self.subscribe(&self.worker, None);
                self.model.see(subscribed.position.unwrap().epoch);
                self.model.touch();
                if !self.model.subscribed {
                    self.model.unread.clear();
                }
                self.model.subscribed = true;
            }
            Do::Unsubscribe => {
                if std::mem::take(&mut self.model.subscribed) {
                    let id = self.subscribe(&self.worker, None).channel;
                    self.world.unsubscribe(&self.worker, id);
                    self.model.touch();
                    self.model.unread.clear();
                }
            }
            Do::Drain(max) => self.drain(*max),
        }
        let listed = self.worker.reader.listed().len();
        assert!(listed <= 1, "a channel is listed {listed} times");
        assert!(!self.model.subscribed || self.model.unread.is_empty() || listed == 1);
    }

    fn subscribe(&self, worker: &Worker, recover: Option<Since<'_>>) -> Subscribed {
        let subscribe = Subscribe { meta_ttl: Some(Duration::from_secs(META_SECS)), recover };
        let (world, inbox) = (&self.world, worker.reader.inbox());
        answered(world.broker.subscribe(inbox, CHANNEL, subscribe, world.now)).unwrap()
    }

    fn publish(&mut self, size: usize, ttl: u64) {
        let stream = StreamOptions {
            size,
            ttl: Duration::from_secs(ttl),
            meta_ttl: Duration::from_secs(META_SECS),
        };
        let word = format!("{}", self.model.log.len() + 1);
        let publish = Publish { stream: Some(stream), ..Publish::default() };
        let place = self.world.publish_as(CHANNEL, &word, publish).unwrap().position.unwrap();
        self.model.see(place.epoch);
        self.model.log.push(word.clone());
        assert_eq!(place.offset, self.model.log.len() as u64);
        self.model.kept = (self.model.kept + 1).min(size);
        (self.model.appended, self.model.ttl) = (self.model.now, ttl);
        self.model.touch();
        self.tell(word);
    }

    fn tell(&mut self, word: String) {
        if self.model.subscribed {
            self.model.unread.push(word);
        }
    }

    fn drain(&mut self, max: usize) {
        let told = self.worker.drain(&self.world.broker, max);
        let told = told.iter().map(word).collect::<Vec<_>>();
        assert_eq!(told, std::mem::take(&mut self.model.unread));
    }

    fn read(&mut self, since: Option<(u64, Whose)>, limit: usize, reverse: bool) {
        let epoch = since.map(|(_, whose)| self.model.text(whose)).unwrap_or_default();
        let offset = since.map(|(offset, _)| offset);
        let since = offset.map(|offset| Since { offset, epoch: &epoch });
        let range = Range { since, limit, reverse };
        let meta_ttl = Duration::from_secs(META_SECS);
        let page = self.world.broker.history(CHANNEL, range, meta_ttl, self.world.now);
        match answered(page) {
            Ok(page) => {
                assert!(self.model.accepts(&epoch));
                self.model.see(page.position.epoch);
                assert_eq!(page.position.offset, self.model.log.len() as u64);
                let words = page.publications.iter().map(|p| text(p)).collect::<Vec<_>>();
                assert_eq!(words, self.model.page(offset, limit, reverse));
            }
            Err(error) => {
                assert_eq!(error, BrokerError::WrongEpoch);
                assert!(!self.model.accepts(&epoch));
            }
        }
        self.model.touch();
    }

    /// Recovered exactly when nothing is missing.
    fn recover(&mut self, back: i64, whose: Whose) {
        let top = self.model.log.len() as i64;
        let offset = u64::try_from(top - back).unwrap_or(0);
        let epoch = self.model.text(whose);
        let other = Worker::new();
        let subscribed = self.subscribe(&other, Some(Since { offset, epoch: &epoch }));
        self.world.unsubscribe(&other, subscribed.channel);

        let accepted = self.model.accepts(&epoch);
        let all = usize::try_from(offset).ok().and_then(|from| self.model.log.get(from..));
        let nothing_missing =
            accepted && all.is_some_and(|all| all == self.model.after(offset).as_slice());
        let recovery = subscribed.recovery.unwrap();
        assert_eq!(recovery.recovered, nothing_missing, "from {offset} of {top}");
        let words = recovery.publications.iter().map(|p| text(p)).collect::<Vec<_>>();
        let expected = if nothing_missing { self.model.after(offset) } else { Vec::new() };
        assert_eq!(words, expected);
        self.model.see(subscribed.position.unwrap().epoch);
        self.model.touch();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1_000 } else { 20_000 }))]

    #[test]
    fn history_recovery_and_live_events_are_those_of_the_model(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let world = World::with(Limits::default());
        let mut run = Run { world, worker: Worker::new(), model: Model::default() };
        for step in &steps {
            run.step(step);
        }
        run.model.settle();
        run.drain(100);
    }
}
