//! What has happened in channels, told to their subscribers: at most so many frames a turn, each
//! channel that has something in its turn.

use std::time::Instant;

use weir_core::close::CloseReason;
use weir_core::local::{Delivery, Keep, Post};

use super::channel::{Channel, Subscriber};
use super::events::Framed;
use super::joined::Joined;
use super::{Hub, Place, RandomState, Told};
use crate::broker::{ChannelId, Epoch, Event, Live, Position, Top};
use crate::metrics::{NamespaceCounts, PositionCheck, SlowAction};
use crate::traced::Spans;

/// Frames that are handed out in one turn: some 20 µs, and some 500 µs until they are written.
const FRAMES_MAX: usize = 256;
/// Frames in one turn of one channel, when others wait.
const SLICE_MAX: usize = 64;
/// Channels that are looked into in one turn.
const READS_MAX: usize = 256;
/// Events of a channel that are told in one pass over its subscribers: as many as one vectored write takes.
const EVENTS_MAX: usize = 64;

/// What is being told to a channel's subscribers.
pub(super) struct Running {
    events: Vec<Framed>,
    /// All of them as one, for who is told all of them.
    joined: Option<Joined>,
    /// A hole before these events: what was lost before this worker came to read it.
    hole: Option<Position>,
    /// The next subscriber.
    at: usize,
    /// The channel has more that was not read: it is listed again when these are told.
    more: bool,
    /// Those of sampled publications.
    spans: Spans,
    /// Where the stream is behind these events, when that is to be compared.
    top: Option<Top>,
}

impl Running {
    /// Whether the channel came out of the inbox and was not read to its end.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether it tells nothing: it is there for the comparison.
    fn is_check(&self) -> bool {
        self.events.is_empty() && self.hole.is_none()
    }

    /// When the oldest of its publications was taken.
    fn taken(&self) -> Option<Instant> {
        self.events.iter().find_map(|framed| match &framed.event {
            Event::Publication(publication) => Some(publication.taken),
            Event::Join(_) | Event::Leave(_) | Event::Reset(_) => None,
        })
    }
}

/// One turn of the fan-out.
pub(super) struct Fanout<'a> {
    hub: &'a mut Hub,
    now: Instant,
    post: &'a mut dyn Post,
    left: usize,
}

impl<'a> Fanout<'a> {
    pub(super) fn new(hub: &'a mut Hub, now: Instant, post: &'a mut dyn Post) -> Self {
        Self { hub, now, post, left: FRAMES_MAX }
    }

    /// True when something is left for the next turn.
    pub(super) fn run(mut self) -> bool {
        let unread = self.read();
        while self.left > 0 {
            let Some(channel) = self.hub.running.pop_front() else { break };
            if !self.slice(channel) {
                self.hub.running.push_back(channel);
            }
        }
        unread || !self.hub.running.is_empty() || self.hub.reader.is_waiting()
    }

    /// Takes the events of channels that have grown, unless their earlier ones are still being told.
    fn read(&mut self) -> bool {
        let (mut live, now) = (Vec::new(), self.now);
        let Hub { reader, shared, by_id, channels, running, expected, aside, .. } = &mut *self.hub;
        let inbox = std::sync::Arc::clone(reader.inbox());
        reader.drain(READS_MAX, |id: ChannelId| {
            let Some(at) = by_id.get(&id) else {
                if !expected.is_empty() {
                    aside.push(id);
                    return false;
                }
                // Nobody here is subscribed any more; the broker lists it until it was read.
                live.clear();
                let more = shared.broker.read(&inbox, id, EVENTS_MAX, &mut live).more;
                if !more {
                    // A subscribe that failed half-way may have left it interested.
                    shared.broker.unsubscribe(&inbox, id, now);
                }
                return more;
            };
            let channel = &mut channels[*at as usize];
            if !expected.is_empty() && expected.contains_key(&channel.name) {
                aside.push(id);
                return false;
            }
            if let Some(running) = &mut channel.running
                && !running.is_check()
            {
                // Listed again now, it would keep others from being looked at.
                running.more = true;
                return false;
            }
            live.clear();
            let read = shared.broker.read(&inbox, id, EVENTS_MAX, &mut live);
            let hole = read.missed.and_then(|missed| missed.through);
            if read.missed.is_some() {
                channel.counts.behind.inc();
            }
            if live.is_empty() && hole.is_none() && read.top.is_none() {
                return read.more;
            }
            let spans = Spans::begin(live.iter().map(|live| &live.event));
            let places = live.iter().filter_map(|live| live.event.position());
            for place in hole.into_iter().chain(places) {
                channel.has_read(place);
            }
            let frames = &shared.frames;
            let framed = |live: Live| Framed::new(live.number, live.event, frames.clone());
            let events: Vec<_> = live.drain(..).map(framed).collect();
            let joined = if hole.is_none() { Joined::of(&events, frames) } else { None };
            // A comparison that is not over goes on behind what has come: it delays nothing.
            let check = channel.running.take();
            let top = read.top.or(check.as_ref().and_then(|check| check.top));
            let new = Running { events, joined, hole, at: 0, more: read.more, spans, top };
            if !new.is_check() {
                channel.counts.width.observe(channel.len() as f64);
            }
            channel.running = Some(Box::new(new));
            if check.is_none() {
                running.push_back(*at);
            }
            false
        })
    }

    /// Tells the next subscribers of a channel. True when all of them know.
    fn slice(&mut self, at: u32) -> bool {
        let Some(channel) = self.hub.channels.get_mut(at as usize) else { return true };
        let Some(mut running) = channel.running.take() else { return true };
        let mut left = SLICE_MAX.min(self.left);
        let begun = left;
        let counts = std::sync::Arc::clone(&channel.counts);
        let mut sent = 0;
        while left > 0 && running.at < channel.subscribers.len() {
            let slot = running.at;
            running.at += 1;
            let Some(mut subscriber) = channel.subscribers[slot] else { continue };
            let place = Place { channel: at, slot: slot as u32 };
            let mut teller = Teller {
                post: &mut *self.post,
                counts: &counts,
                place,
                keys: &self.hub.keys,
                epoch: channel.epoch,
                frames: 0,
                sent: 0,
            };
            teller.tell(&mut subscriber, &mut running, channel);
            left = left.saturating_sub(teller.frames.max(1));
            sent += teller.sent;
            channel.subscribers[slot] = Some(subscriber);
        }
        counts.deliveries.inc_by(sent);
        if let Some(taken) = running.taken()
            && sent > 0
        {
            self.post.delivered(taken, sent);
            self.hub.latency.delivered(taken, sent, counts);
        }
        self.left = self.left.saturating_sub(begun - left);
        if running.at < channel.subscribers.len() {
            channel.running = Some(running);
            return false;
        }
        Self::finish(channel, &running);
        if running.more {
            self.hub.reader.put_back(channel.id);
        }
        running.spans.end(self.hub.worker, &channel.name, channel.len());
        true
    }

    /// Everybody has been told: the epoch is that of the last event.
    fn finish(channel: &mut Channel, running: &Running) {
        let positions = running.events.iter().filter_map(|framed| framed.event.position());
        let last = running.hole.into_iter().chain(positions).last();
        if let Some(last) = last {
            channel.epoch = Some(last.epoch);
        }
    }
}

/// Tells one subscriber.
struct Teller<'a> {
    post: &'a mut dyn Post,
    counts: &'a NamespaceCounts,
    place: Place,
    keys: &'a RandomState,
    /// The life of the stream that its offset is of.
    epoch: Option<Epoch>,
    /// Frames that were offered to it.
    frames: usize,
    /// Publications, joins and leaves that it was sent.
    sent: u64,
}

impl Teller<'_> {
    fn tell(&mut self, subscriber: &mut Subscriber, running: &mut Running, channel: &Channel) {
        if subscriber.over {
            return;
        }
        if let Some(through) = running.hole
            && subscriber.positioned
            && !subscriber.behind
        {
            let same = self.epoch.is_none_or(|epoch| epoch == through.epoch);
            if !same || subscriber.offset < through.offset {
                return self.hole(subscriber);
            }
        }
        let events = &mut running.events;
        let joined = running.joined.as_mut();
        let joined = joined.filter(|joined| joined.suit(subscriber, self.epoch));
        if joined.is_none_or(|joined| !self.tell_together(joined, subscriber, events, channel)) {
            self.tell_each(subscriber, events, channel);
        }
        if let Some(top) = running.top
            && subscriber.positioned
            && !subscriber.behind
            && !subscriber.over
            && subscriber.number <= top.number
        {
            self.compare(subscriber, top.position);
        }
    }

    /// Tells it everything in one frame. False when that finds no room: a part of it may.
    fn tell_together(
        &mut self,
        joined: &mut Joined,
        subscriber: &mut Subscriber,
        events: &mut [Framed],
        channel: &Channel,
    ) -> bool {
        let Some(first) = events.first_mut() else { return false };
        let terms = channel.terms(subscriber.slow, first, self.keys);
        let (count, end) = (joined.count, joined.end(subscriber));
        let Some(frame) = joined.frame(subscriber.dialect, events, &channel.name) else {
            return false;
        };
        self.frames += 1;
        match self.post.deliver(subscriber.address, frame, count, terms) {
            Delivery::Taken => self.sent += u64::from(count),
            Delivery::Gone => subscriber.over = true,
            // By these terms nothing gives way.
            Delivery::Full | Delivery::Displaced(_) | Delivery::Dropped => return false,
        }
        if let Some(end) = end {
            (subscriber.offset, self.epoch) = (end.offset, Some(end.epoch));
        }
        true
    }

    /// Tells it one by one what is for it and it does not have.
    fn tell_each(&mut self, subscriber: &mut Subscriber, events: &mut [Framed], channel: &Channel) {
        for framed in events {
            if subscriber.over {
                return;
            }
            if framed.number <= subscriber.number {
                // The subscription began in the stream that this was of, or in the one after it.
                self.epoch = framed.event.position().map(|place| place.epoch).or(self.epoch);
                continue;
            }
            let before = subscriber.offset;
            if let Some(position) = framed.event.position()
                && subscriber.positioned
            {
                if subscriber.behind {
                    // Its session reads it.
                    continue;
                }
                let other = self.epoch.is_some_and(|epoch| epoch != position.epoch);
                if other || position.offset > subscriber.offset + 1 {
                    return self.hole(subscriber);
                }
                if position.offset <= subscriber.offset {
                    continue;
                }
                self.epoch = Some(position.epoch);
                subscriber.offset = position.offset;
            }
            let wanted = match framed.event {
                Event::Publication(_) => true,
                Event::Join(_) | Event::Leave(_) => subscriber.told_of_others,
                Event::Reset(_) => false,
            };
            if wanted {
                self.tell_one(subscriber, framed, before, channel);
            }
        }
    }

    /// Tells it one thing; it was at `before` until then.
    fn tell_one(
        &mut self,
        subscriber: &mut Subscriber,
        framed: &mut Framed,
        before: u64,
        channel: &Channel,
    ) {
        let terms = channel.terms(subscriber.slow, framed, self.keys);
        let place = framed.event.position();
        let Ok(frame) = framed.frame(subscriber.dialect, &channel.name) else {
            self.post.tell(subscriber.address, Box::new(Told::NotJson));
            return subscriber.over = true;
        };
        self.frames += 1;
        match self.post.deliver(subscriber.address, frame, 1, terms) {
            Delivery::Taken => self.sent += 1,
            Delivery::Displaced(others) => {
                self.sent += 1;
                self.counts.slow(subscriber.slow.loses(), others);
            }
            Delivery::Dropped => self.counts.slow(SlowAction::Dropped, 1),
            Delivery::Full => match place {
                Some(place) if terms.keep == Keep::Patiently => {
                    subscriber.offset = before;
                    self.fall_behind(subscriber, Position { offset: before, ..place });
                }
                Some(_) | None => self.slow(subscriber),
            },
            // Its session will say so, and take it out.
            Delivery::Gone => subscriber.over = true,
        }
    }

    /// Everything up to this place has been read: whoever is not there has missed something.
    fn compare(&mut self, subscriber: &mut Subscriber, top: Position) {
        let other = self.epoch.is_some_and(|epoch| epoch != top.epoch);
        if other || subscriber.offset < top.offset {
            self.counts.checked(PositionCheck::Behind);
            self.hole(subscriber);
        } else {
            self.counts.checked(PositionCheck::Good);
        }
    }

    /// What is next is not what comes: the client is told at once.
    fn hole(&mut self, subscriber: &mut Subscriber) {
        self.counts.gaps.inc();
        subscriber.over = true;
        self.post.tell(subscriber.address, Box::new(Told::Insufficient(self.place)));
    }

    /// Its session reads on from this place when it has room.
    fn fall_behind(&mut self, subscriber: &mut Subscriber, position: Position) {
        self.counts.slow(SlowAction::CaughtUp, 1);
        subscriber.behind = true;
        self.post.tell(subscriber.address, Box::new(Told::Behind(self.place, position)));
    }

    fn slow(&mut self, subscriber: &mut Subscriber) {
        self.counts.slow(SlowAction::Disconnected, 1);
        subscriber.over = true;
        self.post.close(subscriber.address, CloseReason::SlowConsumer);
    }
}
