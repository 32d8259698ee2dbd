//! One channel on one worker: its subscribers in places that stay, and how far each has been told.

use std::sync::Arc;

use weir_core::local::Address;

use crate::broker::{ChannelId, Epoch};
use crate::hub::events::Dialect;
use crate::hub::fanout::Running;
use crate::metrics::NamespaceCounts;

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
}

/// A channel that somebody on this worker is subscribed to.
pub(super) struct Channel {
    pub(super) name: Arc<str>,
    pub(super) id: ChannelId,
    /// The life of the stream that the subscribers' offsets are of.
    pub(super) epoch: Option<Epoch>,
    pub(super) counts: Arc<NamespaceCounts>,
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
        epoch: Option<Epoch>,
        counts: Arc<NamespaceCounts>,
    ) -> Self {
        let (subscribers, free) = (Vec::new(), Vec::new());
        Self { name, id, epoch, counts, subscribers, free, positioned: 0, running: None }
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
