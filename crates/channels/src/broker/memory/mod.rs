//! The broker that is in the process itself, called in place by whoever publishes. Streams live as
//! long as the process; a restart begins them anew, under other epochs.
//!
//! Channels are spread over shards by a keyed hash of their names. Everything that happens in a
//! channel happens under its shard's lock, which is held for one step that depends on no client:
//! inboxes are posted to within it, workers are woken after it.

mod channel;
mod presences;
mod shard;
mod step;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use presences::Presences;
use shard::{Name, Shard};
use step::{Shared, Step};

use super::event::{Live, Read};
use super::inbox::{ChannelId, Inbox};
use super::limits::{Counts, Limits};
use super::{
    Answer, Broker, BrokerError, ClientInfo, Notice, Page, PresenceStats, Publication, Publish,
    Published, Range, Subscribe, Subscribed,
};
use crate::sync::Mutex;

/// Shards of a broker; see `docs/decisions/broker-shards.md`.
const SHARDS: usize = 64;

/// Channels of each shard that one sweep looks at, and after how many freed bytes it stops before:
/// the shard is locked meanwhile.
const SWEEP_SLOTS: usize = 256;
const SWEEP_BYTES: usize = 1 << 20;

/// A lock on cache lines of its own, so that neighbours do not slow each other down.
#[repr(align(128))]
struct Apart<T>(Mutex<T>);

/// The memory broker.
pub struct Memory {
    shards: Box<[Apart<Shard>]>,
    presences: Presences,
    shared: Shared,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

impl Memory {
    /// A broker without channels. The seed must differ between processes: epochs, and what nobody
    /// must be able to guess of the hashes, come from it.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self::with_shards(limits, seed, SHARDS)
    }

    /// As [`Memory::new`], with another number of shards: to measure what they are good for.
    pub fn with_shards(limits: Limits, seed: u64, shards: usize) -> Self {
        let shared = Shared::new(limits, seed, shards);
        let shard = |index| Apart(Mutex::new(Shard::new(index, &shared)));
        let shards = (0..shards as u32).map(shard).collect();
        Self { shards, presences: Presences::new(&shared), shared }
    }

    /// What it may hold.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// What it has done since it was made.
    pub fn counts(&self) -> Counts {
        let mut sum = self.presences.counts();
        for shard in &self.shards {
            sum += shard.0.lock().counts;
        }
        sum
    }

    /// How many channels have a stream or a subscriber.
    pub fn channels(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.lock().len()).sum()
    }

    /// The bytes in use: at most [`Limits::bytes_max`]. While others change them it is an
    /// estimate.
    pub fn bytes(&self) -> usize {
        let spare = self.shards.iter().map(|shard| shard.0.lock().bytes_spare()).sum::<usize>();
        self.shared.bytes.taken().saturating_sub(spare + self.presences.bytes_spare())
    }

    /// Does one step in the shard of a channel, then wakes whom it concerns.
    fn step<T>(
        &self,
        channel: &str,
        now: Instant,
        act: impl FnOnce(&mut Shard, Name<'_>, &mut Step<'_>) -> T,
    ) -> T {
        let hash = self.shared.seed.hash_name(channel);
        let mut step = Step::new(&self.shared, now);
        // The table of names uses the low bits and the highest seven.
        let shard = &self.shards[(hash >> 32) as usize % self.shards.len()];
        let answer = act(&mut shard.0.lock(), Name { text: channel, hash }, &mut step);
        step.wake();
        answer
    }
}

impl Broker for Memory {
    fn publish(
        &self,
        channel: &str,
        publication: Publication,
        publish: Publish<'_>,
        now: Instant,
    ) -> Answer<Published> {
        let publication = Arc::new(publication);
        done(self.step(channel, now, |shard, name, step| {
            shard.publish(name, publish, publication, step)
        }))
    }

    fn announce(&self, channel: &str, notice: Notice, now: Instant) -> Answer<()> {
        done(self.step(channel, now, |shard, name, step| shard.announce(name, notice, step)))
    }

    fn subscribe(
        &self,
        inbox: &Arc<Inbox>,
        channel: &str,
        subscribe: Subscribe<'_>,
        now: Instant,
    ) -> Answer<Subscribed> {
        done(
            self.step(channel, now, |shard, name, step| {
                shard.subscribe(name, inbox, subscribe, step)
            }),
        )
    }

    fn unsubscribe(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant) {
        let shard = &self.shards[channel.shard as usize];
        shard.0.lock().unsubscribe(inbox, channel.slot, now);
    }

    fn read(
        &self,
        inbox: &Arc<Inbox>,
        channel: ChannelId,
        max: usize,
        live: &mut Vec<Live>,
    ) -> Read {
        self.shards[channel.shard as usize].0.lock().read(inbox, channel.slot, max, live)
    }

    fn verify(&self, inbox: &Arc<Inbox>, channel: ChannelId, now: Instant) {
        let mut step = Step::new(&self.shared, now);
        self.shards[channel.shard as usize].0.lock().verify(inbox, channel.slot, &mut step);
        step.wake();
    }

    fn history(
        &self,
        channel: &str,
        range: Range<'_>,
        meta_ttl: Duration,
        now: Instant,
    ) -> Answer<Page> {
        Answer::Now(
            self.step(channel, now, |shard, name, step| shard.history(name, range, meta_ttl, step)),
        )
    }

    fn remove_history(&self, channel: &str, now: Instant) -> Answer<()> {
        self.step(channel, now, |shard, name, step| shard.remove_history(name, step));
        Answer::Now(Ok(()))
    }

    fn keep_present(
        &self,
        channel: &str,
        info: &Arc<ClientInfo>,
        ttl: Duration,
        now: Instant,
    ) -> Answer<bool> {
        done(self.presences.keep(channel, info, ttl, now))
    }

    fn end_present(&self, channel: &str, client: &str, now: Instant) -> Answer<bool> {
        Answer::Now(Ok(self.presences.end(channel, client, now)))
    }

    fn presence(&self, channel: &str, now: Instant) -> Answer<Vec<Arc<ClientInfo>>> {
        Answer::Now(Ok(self.presences.list(channel, now)))
    }

    fn presence_stats(&self, channel: &str, now: Instant) -> Answer<PresenceStats> {
        Answer::Now(Ok(self.presences.stats(channel, now)))
    }

    fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            shard.0.lock().sweep(SWEEP_SLOTS, SWEEP_BYTES, now);
        }
        self.presences.sweep(now);
    }
}

/// What was done in place.
fn done<T, E: Into<BrokerError>>(result: Result<T, E>) -> Answer<T> {
    Answer::Now(result.map_err(Into::into))
}
