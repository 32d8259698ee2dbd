//! One channel on one worker: its subscribers in places that stay, and how far each has been told.

use std::sync::Arc;

use weir_core::local::{Address, Lane};

use crate::broker::{ChannelId, Epoch, Position};
use crate::hub::events::Dialect;
use crate::hub::fanout::Running;
use crate::metrics::{NamespaceCounts, SlowAction};
use crate::namespace::{SlowConsumers, SlowPolicy};

/// One subscriber, as the fan-out needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subscriber {
    pub(super) address: Address,
    pub(super) dialect: Dialect,
    /// It is told of holes.
    pub(super) positioned: bool,
    /// It is told who comes and goes.
    pub(super) told_of_others: bool,
    /// Events up to this number are from before it subscribed.
    pub(super) number: u64,
    /// The last publication that it has.
    pub(super) offset: u64,
    /// It is told nothing more: its session is, and takes it out.
    pub(super) over: bool,
    /// It is told nothing that has a place in the stream: its session reads that from the history.
    pub(super) behind: bool,
    /// What is done when it does not keep up.
    pub(super) slow: Slow,
}

/// A policy for slow subscribers, as the fan-out needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slow {
    Disconnect,
    DropOldest,
    LatestByKey,
    CatchUp,
}

impl Slow {
    /// That of a subscriber with or without a position.
    pub(super) fn of(policy: &SlowPolicy, positioned: bool) -> Self {
        match policy {
            SlowPolicy::DropOldest if !positioned => Self::DropOldest,
            SlowPolicy::LatestByKey(_) if !positioned => Self::LatestByKey,
            SlowPolicy::CatchUp if positioned => Self::CatchUp,
            // The options do not allow the rest.
            SlowPolicy::Disconnect
            | SlowPolicy::DropOldest
            | SlowPolicy::LatestByKey(_)
            | SlowPolicy::CatchUp => Self::Disconnect,
        }
    }

    /// How it is counted when others give way to a publication.
    pub(super) fn loses(self) -> SlowAction {
        match self {
            Self::LatestByKey => SlowAction::Superseded,
            Self::Disconnect | Self::DropOldest | Self::CatchUp => SlowAction::Dropped,
        }
    }
}

/// A channel that somebody on this worker is subscribed to.
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    pub(super) id: ChannelId,
    /// The life of the stream that the subscribers' offsets are of.
    pub(super) epoch: Option<Epoch>,
    pub(super) counts: Arc<NamespaceCounts>,
    /// How slow subscribers are treated, by the rules of the last one that came.
    pub(super) slow: SlowConsumers,
    /// Its publications in outboxes.
    pub(super) lane: Lane,
    /// The newest place in the stream that this worker has read.
    pub(super) read: Option<Position>,
    pub(super) subscribers: Vec<Option<Subscriber>>,
    free: Vec<u32>,
    /// How many subscribers have a position.
    positioned: usize,
    /// What is being told to them; `None` when they know everything.
    pub(super) running: Option<Box<Running>>,
}

impl Channel {
    pub(super) fn new(
        name: Arc<str>,
        id: ChannelId,
        lane: Lane,
        counts: Arc<NamespaceCounts>,
    ) -> Self {
        Self {
            name,
            id,
            epoch: None,
            counts,
            slow: SlowConsumers::default(),
            lane,
            read: None,
            subscribers: Vec::new(),
            free: Vec::new(),
            positioned: 0,
            running: None,
        }
    }

    /// This worker has read so far.
    pub(super) fn has_read(&mut self, position: Position) {
        match &mut self.read {
            Some(read) if read.epoch == position.epoch => {
                read.offset = read.offset.max(position.offset);
            }
            read => *read = Some(position),
        }
    }

    /// The subscriber in this place.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Subscriber> {
        self.subscribers.get_mut(slot as usize)?.as_mut()
    }

    /// Takes note of the stream's life, when nobody here had a position yet.
    pub(super) fn learn(&mut self, epoch: Option<Epoch>) {
        if self.epoch.is_none() {
            self.epoch = epoch;
        }
    }

    pub(super) fn add(&mut self, subscriber: Subscriber) -> u32 {
        self.positioned += usize::from(subscriber.positioned);
        match self.free.pop() {
            Some(slot) => {
                self.subscribers[slot as usize] = Some(subscriber);
                slot
            }
            None => {
                self.subscribers.push(Some(subscriber));
                self.subscribers.len() as u32 - 1
            }
        }
    }

    /// Whether there was somebody.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let Some(was) = self.subscribers.get_mut(slot as usize).and_then(Option::take) else {
            return false;
        };
        self.positioned -= usize::from(was.positioned);
        self.free.push(slot);
        true
    }

    /// Whether somebody here has a position.
    pub(super) fn is_positioned(&self) -> bool {
        self.positioned > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.subscribers.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.subscribers.len() - self.free.len()
    }
}
