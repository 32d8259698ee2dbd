//! A broker that fails on purpose, for tests: it passes everything to another one, and delays, loses,
//! doubles and reorders by a seed what comes back, as a network with a broker at its end would.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::inbox::{ChannelId, Inbox};
use super::{
    Answer, Broker, BrokerError, ClientInfo, Live, Notice, Page, PresenceStats, Publication,
    Publish, Published, Range, Read, Subscribe, Subscribed,
};
use crate::sync::Mutex;

/// How often something goes wrong: once in so many times; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// An event never reaches a worker.
    pub lose: u64,
    /// An event reaches it twice.
    pub double: u64,
    /// An event comes after the one that follows it.
    pub reorder: u64,
    /// A worker is given nothing this time, and what there is at another.
    pub hold: u64,
    /// An answer comes after a few polls, when other things have happened.
    pub late: u64,
    /// A call is not passed on, and answered with [`BrokerError::Silent`].
    pub ignore: u64,
    /// A call is passed on, and answered with [`BrokerError::Silent`].
    pub silent: u64,
}

/// How often what has gone wrong, in the words of [`Faults`].
pub type Faulted = Faults;

/// A broker that fails by a seed.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    chance: Mutex<Chance>,
}

#[derive(Debug)]
struct Chance {
    state: u64,
    faults: Faults,
    done: Faulted,
    /// What was read for a worker and not given to it yet. The address of its inbox says who it is.
    held: HashMap<(usize, ChannelId), VecDeque<Live>>,
}

impl<B: Broker> Faulty<B> {
    /// Puts faults before `inner`.
    pub fn new(inner: B, faults: Faults, seed: u64) -> Self {
        let (done, held) = (Faulted::default(), HashMap::new());
        Self { inner, chance: Mutex::new(Chance { state: seed, faults, done, held }) }
    }

    /// The broker behind the faults.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Changes the faults from here on.
    pub fn set(&self, faults: Faults) {
        self.chance.lock().faults = faults;
    }

    /// What has gone wrong so far.
    pub fn faulted(&self) -> Faulted {
        self.chance.lock().done
    }

    /// Passes a call on, or does not, and answers now or later.
    fn pass<T: Send + 'static>(&self, call: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let (ignore, silent, late) = self.chance.lock().draw_call();
        if ignore {
            return answer(late, Err(BrokerError::Silent));
        }
        match call() {
            Answer::Now(_) if silent => answer(late, Err(BrokerError::Silent)),
            Answer::Now(result) => answer(late, result),
            Answer::Later(future) => Answer::Later(future),
        }
    }
}

/// Answers at once, or when it was polled `late` times.
fn answer<T: Send + 'static>(late: u64, result: Result<T, BrokerError>) -> Answer<T> {
    if late == 0 {
        return Answer::Now(result);
    }
    Answer::Later(Box::pin(async move {
        let mut left = late;
        poll_fn(|context| {
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        result
    }))
}

impl Chance {
    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Whether a fault happens that `rate` and `done` find in their lists; counts it.
    fn happens(&mut self, which: fn(&mut Faults) -> &mut u64) -> bool {
        let rate = *which(&mut self.faults);
        let happens = rate > 0 && self.draw().is_multiple_of(rate);
        *which(&mut self.done) += u64::from(happens);
        happens
    }

    /// Whether a call is not passed on, whether its answer is kept back, and how late it comes.
    fn draw_call(&mut self) -> (bool, bool, u64) {
        let late = if self.happens(|f| &mut f.late) { 1 + self.draw() % 8 } else { 0 };
        let ignore = self.happens(|f| &mut f.ignore);
        (ignore, !ignore && self.happens(|f| &mut f.silent), late)
    }

    /// Puts events into the queue of what this worker is given, with the faults of the way.
    fn garble(&mut self, key: (usize, ChannelId), read: Vec<Live>) {
        let mut queue = self.held.remove(&key).unwrap_or_default();
        for live in read {
            if self.happens(|f| &mut f.lose) {
                continue;
            }
            if self.happens(|f| &mut f.double) {
                queue.push_back(live.clone());
            }
            let last = queue.len();
            queue.push_back(live);
            if last > 0 && self.happens(|f| &mut f.reorder) {
                queue.swap(last, last - 1);
            }
        }
        self.held.insert(key, queue);
    }

    /// Gives the worker what it is to have now; true when something is left.
    fn give(&mut self, key: (usize, ChannelId), max: usize, live: &mut Vec<Live>) -> bool {
        let holds = self.happens(|f| &mut f.hold);
        let Some(queue) = self.held.get_mut(&key) else { return false };
        if !holds {
            live.extend(queue.drain(..max.min(queue.len())));
        }
        let more = !queue.is_empty();
        if !more {
            self.held.remove(&key);
        }
        more
    }
}

impl<B: Broker> Broker for Faulty<B> {
    fn publish(
        &self,
        channel: &str,
        publication: Publication,
        publish: Publish<'_>,
        now: Instant,
    ) -> Answer<Published> {
        self.pass(|| self.inner.publish(channel, publication, publish, now))
    }

    fn announce(&self, channel: &str, notice: Notice, now: Instant) -> Answer<()> {
        self.pass(|| self.inner.announce(channel, notice, now))
    }

    fn subscribe(
        &self,
        inbox: &Arc<Inbox>,
        channel: &str,
        subscribe: Subscribe<'_>,
        now: Instant,
    ) -> Answer<Subscribed> {
        // A worker that is subscribed without knowing it is a fault of the broker, not of the way.
        let (ignore, _, late) = self.chance.lock().draw_call();
        if ignore {
            return answer(late, Err(BrokerError::Silent));
        }
        match self.inner.subscribe(inbox, channel, subscribe, now) {
            Answer::Now(result) => answer(late, result),
            Answer::Later(future) => Answer::Later(future),
        }
    }

    fn unsubscribe(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant) {
        self.chance.lock().held.remove(&key(inbox, channel));
        self.inner.unsubscribe(inbox, channel, now);
    }

    fn read(
        &self,
        inbox: &Arc<Inbox>,
        channel: ChannelId,
        max: usize,
        live: &mut Vec<Live>,
    ) -> Read {
        let mut events = Vec::new();
        let read = self.inner.read(inbox, channel, max, &mut events);
        let mut chance = self.chance.lock();
        chance.garble(key(inbox, channel), events);
        let held = chance.give(key(inbox, channel), max, live);
        // What is held back is no loss.
        let top = read.top.filter(|_| !held);
        Read { more: read.more || held, top, ..read }
    }

    fn verify(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant) {
        self.inner.verify(inbox, channel, now);
    }

    fn history(
        &self,
        channel: &str,
        range: Range<'_>,
        meta_ttl: Duration,
        now: Instant,
    ) -> Answer<Page> {
        self.pass(|| self.inner.history(channel, range, meta_ttl, now))
    }

    fn remove_history(&self, channel: &str, now: Instant) -> Answer<()> {
        self.pass(|| self.inner.remove_history(channel, now))
    }

    fn keep_present(
        &self,
        channel: &str,
        info: &Arc<ClientInfo>,
        ttl: Duration,
        now: Instant,
    ) -> Answer<bool> {
        self.pass(|| self.inner.keep_present(channel, info, ttl, now))
    }

    fn end_present(&self, channel: &str, client: &str, now: Instant) -> Answer<bool> {
        self.pass(|| self.inner.end_present(channel, client, now))
    }

    fn presence(&self, channel: &str, now: Instant) -> Answer<Vec<Arc<ClientInfo>>> {
        self.pass(|| self.inner.presence(channel, now))
    }

    fn presence_stats(&self, channel: &str, now: Instant) -> Answer<PresenceStats> {
        self.pass(|| self.inner.presence_stats(channel, now))
    }

    fn sweep(&self, now: Instant) {
        self.inner.sweep(now);
    }
}

fn key(inbox: &Arc<Inbox>, channel: ChannelId) -> (usize, ChannelId) {
    (Arc::as_ptr(inbox).addr(), channel)
}
