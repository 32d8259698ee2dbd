//! One channel: its stream, if it has one, and its unread events. Pure: the shard finds it, locks it
//! and pays for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::step::Step;
use crate::broker::event::Event;
use crate::broker::inbox::{ChannelId, Inbox};
use crate::broker::stream::Stream;
use crate::broker::tail::Tail;
use crate::broker::{Publication, Publish, Published, Recovery, Subscribe, Suppressed};

/// A channel of the memory broker.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) name: Box<str>,
    pub(super) hash: u64,
    pub(super) stream: Option<Box<Stream>>,
    pub(super) tail: Tail,
}

impl Channel {
    pub(super) fn new(id: ChannelId, name: &str, hash: u64) -> Self {
        Self { id, name: name.into(), hash, stream: None, tail: Tail::default() }
    }

    /// The bytes that a channel of this name is charged for before anything happens in it.
    pub(super) fn cost(name: &str) -> usize {
        size_of::<Self>() + size_of::<Stream>() + name.len() + 64
    }

    /// The bytes it is charged for.
    pub(super) fn bytes(&self) -> usize {
        let stream = self.stream.as_ref().map_or(0, |stream| stream.bytes());
        Self::cost(&self.name) + stream + self.tail.bytes()
    }

    /// The bytes that it may grow by when this is published.
    pub(super) fn room_for(&self, publication: &Publication, publish: Publish<'_>) -> usize {
        let copies = usize::from(publish.stream.is_some()) + usize::from(self.tail.is_wanted());
        let version = publish.version.map_or(0, |version| version.epoch.len());
        copies * publication.cost() + version
    }

    /// Forgets what has expired. A stream with subscribers is never forgotten.
    pub(super) fn settle(&mut self, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        stream.settle(now);
        if stream.is_over(now) && !self.tail.is_wanted() {
            self.stream = None;
        }
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        self.stream.is_none() && self.tail.is_idle()
    }

    pub(super) fn publish(
        &mut self,
        publish: Publish<'_>,
        mut publication: Arc<Publication>,
        step: &mut Step<'_>,
    ) -> Published {
        let mut position = None;
        if let Some(options) = publish.stream {
            let stream = begun(&mut self.stream, options.meta_ttl, step);
            if let Some(version) = publish.version {
                if stream.is_outdated(version) {
                    let position = Some(stream.position());
                    return Published { position, suppressed: Some(Suppressed::Outdated) };
                }
                stream.set_version(version);
            }
            position = Some(stream.next_position());
            Arc::make_mut(&mut publication).position = position;
            stream.append(Arc::clone(&publication), options, step.limits(), step.now);
        }
        self.tell(Event::Publication(publication), step);
        Published { position, suppressed: None }
    }

    /// Adds an event for the workers that are subscribed.
    pub(super) fn tell(&mut self, event: Event, step: &mut Step<'_>) {
        self.tail.push(self.id, event, step.limits(), &mut step.wakes);
    }

    /// Registers the worker; gives what came of catching up, when it was asked for.
    pub(super) fn subscribe(
        &mut self,
        inbox: &Arc<Inbox>,
        subscribe: Subscribe<'_>,
        step: &Step<'_>,
    ) -> Option<Recovery> {
        self.tail.register(inbox);
        let stream = begun(&mut self.stream, subscribe.meta_ttl?, step);
        stream.touch(subscribe.meta_ttl?, step.now);
        subscribe.recover.map(|since| stream.recover(since))
    }

    /// The stream begins anew; without one there is nothing to remove.
    pub(super) fn remove_history(&mut self, step: &mut Step<'_>) {
        let Some(stream) = &mut self.stream else { return };
        let epoch = step.shared.epochs.draw();
        **stream = Stream::new(epoch, stream.meta_ttl(), step.now);
        self.tell(Event::Reset(epoch), step);
    }
}

/// The stream, which begins now when there is none.
pub(super) fn begun<'a>(
    stream: &'a mut Option<Box<Stream>>,
    meta_ttl: Duration,
    step: &Step<'_>,
) -> &'a mut Stream {
    stream
        .get_or_insert_with(|| Box::new(Stream::new(step.shared.epochs.draw(), meta_ttl, step.now)))
}
