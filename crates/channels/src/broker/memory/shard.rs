//! The channels of one shard, under its lock: finds them, pays for them, and does each thing in one
//! step. Nothing here waits, wakes or hands out, and what is refused has changed nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use slab::Slab;

use super::channel::{Channel, begun};
use super::step::{Shared, Step};
use crate::broker::budget::Share;
use crate::broker::event::{Event, Live, Read, Top};
use crate::broker::inbox::{ChannelId, Inbox};
use crate::broker::limits::{Counts, Refusal};
use crate::broker::results::Results;
use crate::broker::{
    BrokerError, Notice, Page, Publication, Publish, Published, Range, Subscribe, Subscribed,
    Suppressed,
};

/// A channel's name, hashed once.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    pub(super) hash: u64,
}

/// One part of the channels.
pub(super) struct Shard {
    index: u32,
    names: HashTable<u32>,
    channels: Slab<Channel>,
    results: Results,
    slots: Share,
    bytes: Share,
    keys: Share,
    pub(super) counts: Counts,
    /// Where the sweep goes on.
    swept: usize,
}

impl Shard {
    pub(super) fn new(index: u32, shared: &Shared) -> Self {
        Self {
            index,
            names: HashTable::new(),
            channels: Slab::new(),
            results: Results::new(shared.seed),
            slots: Share::new(&shared.channels),
            bytes: Share::new(&shared.bytes),
            keys: Share::new(&shared.keys),
            counts: Counts::default(),
            swept: 0,
        }
    }

    /// How many channels it has.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The bytes that it has set aside.
    pub(super) fn bytes_spare(&self) -> usize {
        self.bytes.spare()
    }

    /// Publishes once for each idempotency key.
    pub(super) fn publish(
        &mut self,
        name: Name<'_>,
        publish: Publish<'_>,
        publication: Arc<Publication>,
        step: &mut Step<'_>,
    ) -> Result<Published, Refusal> {
        let Some(key) = publish.idempotency_key else {
            return self.publish_once(name, publish, publication, step);
        };
        self.forget_results(step.now);
        if let Some(first) = self.results.get(name.text, key) {
            self.counts.repeated += 1;
            return Ok(Published { suppressed: Some(Suppressed::Repeated), ..first });
        }
        let cost = Results::cost(name.text, key);
        if !self.keys.take(1) {
            return Err(self.counts.refuse(Refusal::IdempotencyKeys));
        }
        let published = self.take_bytes(cost).and_then(|()| {
            let published = self.publish_once(name, publish, publication, step);
            published.inspect_err(|_| self.bytes.give(cost))
        });
        match published {
            Ok(published) => self.results.put(name.text, key, published, step.now),
            Err(_) => self.keys.give(1),
        }
        published
    }

    fn publish_once(
        &mut self,
        name: Name<'_>,
        publish: Publish<'_>,
        publication: Arc<Publication>,
        step: &mut Step<'_>,
    ) -> Result<Published, Refusal> {
        if publication.cost() > step.limits().history_bytes_max {
            return Err(self.counts.refuse(Refusal::PublicationBytes));
        }
        let found = self.find(name, step.now);
        if found.is_none() && publish.stream.is_none() {
            self.counts.published += 1;
            return Ok(Published::default());
        }
        let slot = found.map_or_else(|| self.begin(name), Ok)?;
        let room = self.channels[slot].room_for(&publication, publish);
        let published =
            self.with_room(slot, room, |channel| channel.publish(publish, publication, step))?;
        match published.suppressed {
            None => self.counts.published += 1,
            Some(_) => self.counts.outdated += 1,
        }
        Ok(published)
    }

    pub(super) fn announce(
        &mut self,
        name: Name<'_>,
        notice: Notice,
        step: &mut Step<'_>,
    ) -> Result<(), Refusal> {
        let Some(slot) = self.find(name, step.now) else { return Ok(()) };
        let event = match notice {
            Notice::Join(info) => Event::Join(info),
            Notice::Leave(info) => Event::Leave(info),
        };
        self.with_room(slot, event.cost(), |channel| channel.tell(event, step))
    }

    pub(super) fn subscribe(
        &mut self,
        name: Name<'_>,
        inbox: &Arc<Inbox>,
        subscribe: Subscribe<'_>,
        step: &Step<'_>,
    ) -> Result<Subscribed, Refusal> {
        let slot = self.find(name, step.now).map_or_else(|| self.begin(name), Ok)?;
        let channel = &mut self.channels[slot];
        let recovery = channel.subscribe(inbox, subscribe, step);
        match &recovery {
            Some(recovery) if recovery.recovered => self.counts.recovered += 1,
            Some(_) => self.counts.unrecovered += 1,
            None => {}
        }
        let stream = channel.stream.as_ref().filter(|_| subscribe.meta_ttl.is_some());
        let position = stream.map(|stream| stream.position());
        Ok(Subscribed { channel: channel.id, number: channel.tail.top(), position, recovery })
    }

    pub(super) fn unsubscribe(&mut self, inbox: &Arc<Inbox>, slot: u32, now: Instant) {
        let slot = slot as usize;
        let Some(channel) = self.channels.get_mut(slot) else { return };
        let before = channel.bytes();
        channel.tail.unregister(inbox);
        if let Some(stream) = &mut channel.stream {
            stream.touch_again(now);
        }
        self.bytes.give(before - channel.bytes());
        self.end_if_idle(slot);
    }

    pub(super) fn read(
        &mut self,
        inbox: &Arc<Inbox>,
        slot: u32,
        max: usize,
        live: &mut Vec<Live>,
    ) -> Read {
        let slot = slot as usize;
        let Some(channel) = self.channels.get_mut(slot) else { return Read::default() };
        let before = channel.bytes();
        let mut read = channel.tail.read(inbox, max, live);
        if !read.more && channel.tail.take_asked(inbox) {
            let number = channel.tail.top();
            let stream = channel.stream.as_ref();
            read.top = stream.map(|stream| Top { number, position: stream.position() });
        }
        if let Some(missed) = read.missed {
            self.counts.holes += 1;
            self.counts.missed += missed.events;
        }
        self.bytes.give(before - channel.bytes());
        self.end_if_idle(slot);
        read
    }

    pub(super) fn verify(&mut self, inbox: &Arc<Inbox>, slot: u32, step: &mut Step<'_>) {
        let Some(channel) = self.channels.get_mut(slot as usize) else { return };
        channel.tail.ask(channel.id, inbox, &mut step.wakes);
    }

    pub(super) fn history(
        &mut self,
        name: Name<'_>,
        range: Range<'_>,
        meta_ttl: Duration,
        step: &Step<'_>,
    ) -> Result<Page, BrokerError> {
        let slot = self.find(name, step.now).map_or_else(|| self.begin(name), Ok)?;
        let stream = begun(&mut self.channels[slot].stream, meta_ttl, step);
        stream.touch(meta_ttl, step.now);
        Ok(stream.page(range)?)
    }

    pub(super) fn remove_history(&mut self, name: Name<'_>, step: &mut Step<'_>) {
        let Some(slot) = self.find(name, step.now) else { return };
        let channel = &mut self.channels[slot];
        let before = channel.bytes();
        channel.remove_history(step);
        self.bytes.give(before - channel.bytes());
    }

    /// Frees what has expired of the next `slots` channels, or of fewer when these were many bytes.
    pub(super) fn sweep(&mut self, slots: usize, bytes: usize, now: Instant) {
        self.forget_results(now);
        let end = (self.swept + slots).min(self.channels.capacity());
        let mut freed = 0;
        while self.swept < end && freed < bytes {
            if self.channels.contains(self.swept) {
                freed += self.settle(self.swept, now);
                self.end_if_idle(self.swept);
            }
            self.swept += 1;
        }
        if self.swept >= self.channels.capacity() {
            self.swept = 0;
        }
    }

    /// The channel of this name, without what has expired.
    fn find(&mut self, name: Name<'_>, now: Instant) -> Option<usize> {
        let is_it = |slot: &u32| *self.channels[*slot as usize].name == *name.text;
        let slot = *self.names.find(name.hash, is_it)? as usize;
        self.settle(slot, now);
        Some(slot)
    }

    /// Forgets what has expired in a channel; gives how many bytes that were.
    fn settle(&mut self, slot: usize, now: Instant) -> usize {
        let channel = &mut self.channels[slot];
        let before = channel.bytes();
        channel.settle(now);
        let freed = before - channel.bytes();
        self.bytes.give(freed);
        freed
    }

    /// A channel of this name, of which there is none.
    fn begin(&mut self, name: Name<'_>) -> Result<usize, Refusal> {
        if !self.slots.take(1) {
            return Err(self.counts.refuse(Refusal::Channels));
        }
        if let Err(refusal) = self.take_bytes(Channel::cost(name.text)) {
            self.slots.give(1);
            return Err(refusal);
        }
        let entry = self.channels.vacant_entry();
        let slot = entry.key();
        let id = ChannelId {
            shard: self.index,
            slot: u32::try_from(slot).expect("fewer channels than 2^32"),
        };
        entry.insert(Channel::new(id, name.text, name.hash));
        let channels = &self.channels;
        let hash = |slot: &u32| channels[*slot as usize].hash;
        self.names.insert_unique(name.hash, id.slot, hash);
        Ok(slot)
    }

    fn end_if_idle(&mut self, slot: usize) {
        if !self.channels[slot].is_idle() {
            return;
        }
        let channel = self.channels.remove(slot);
        let is_it = |other: &u32| *other as usize == slot;
        if let Ok(entry) = self.names.find_entry(channel.hash, is_it) {
            entry.remove();
        }
        self.bytes.give(channel.bytes());
        self.slots.give(1);
    }

    /// Lets a channel grow by at most `room` bytes, or refuses. Pays for what it has grown by.
    fn with_room<T>(
        &mut self,
        slot: usize,
        room: usize,
        grow: impl FnOnce(&mut Channel) -> T,
    ) -> Result<T, Refusal> {
        if let Err(refusal) = self.take_bytes(room) {
            self.end_if_idle(slot);
            return Err(refusal);
        }
        let channel = &mut self.channels[slot];
        let before = channel.bytes();
        let done = grow(channel);
        self.bytes.give(room + before - channel.bytes());
        Ok(done)
    }

    fn take_bytes(&mut self, n: usize) -> Result<(), Refusal> {
        if self.bytes.take(n) { Ok(()) } else { Err(self.counts.refuse(Refusal::Bytes)) }
    }

    fn forget_results(&mut self, now: Instant) {
        while let Some(cost) = self.results.expire(now) {
            self.bytes.give(cost);
            self.keys.give(1);
        }
    }
}
