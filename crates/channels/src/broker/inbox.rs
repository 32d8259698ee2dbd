//! How a worker learns that channels have grown: a list that holds a channel at most once, and a
//! call that wakes the worker when the list was empty. Posting cannot fail, as there are no more
//! entries than channels, and waits for nothing but a lock that is held for one push or one swap.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use crate::sync::Mutex;

/// A channel as a broker knows it, for as long as the worker that was given this is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    /// Which part of the broker.
    pub(crate) shard: u32,
    /// Which channel there.
    pub(crate) slot: u32,
}

/// Gets a worker to look into its inbox soon. Called from any thread, with no lock held.
pub trait Wake: Send + Sync {
    /// Wakes it; more often than needed does no harm.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// The posting side of a worker's inbox; its address is who the worker is.
pub struct Inbox {
    posted: Mutex<VecDeque<ChannelId>>,
    wake: Box<dyn Wake>,
}

impl Inbox {
    /// Lists a channel; true when the worker must be woken. A broker calls it only for a channel
    /// that is not listed.
    #[must_use]
    pub(crate) fn post(&self, channel: ChannelId) -> bool {
        let mut posted = self.posted.lock();
        posted.push_back(channel);
        posted.len() == 1
    }

    /// Wakes the worker.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("posted", &self.posted.lock().len()).finish()
    }
}

/// The reading side, which the worker owns.
#[derive(Debug)]
pub struct Reader {
    inbox: Arc<Inbox>,
    taken: VecDeque<ChannelId>,
}

impl Reader {
    /// An inbox whose worker is woken by `wake`.
    pub fn new(wake: impl Wake + 'static) -> Self {
        let inbox = Inbox { posted: Mutex::new(VecDeque::new()), wake: Box::new(wake) };
        Self { inbox: Arc::new(inbox), taken: VecDeque::new() }
    }

    /// What the worker shows to a broker to say who it is.
    pub fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Calls `read` for channels that have grown, `channels_max` times at most. When `read`
    /// answers that more is left of a channel, it comes again after the others. True when channels
    /// are left over for the next turn.
    pub fn drain(&mut self, channels_max: usize, mut read: impl FnMut(ChannelId) -> bool) -> bool {
        for _ in 0..channels_max {
            let Some(channel) = self.next() else { return false };
            if read(channel) {
                self.taken.push_back(channel);
            }
        }
        self.is_waiting()
    }

    /// Lists a channel again that came out and was not read.
    pub fn put_back(&mut self, channel: ChannelId) {
        self.taken.push_back(channel);
    }

    /// Whether a channel has grown that was not read yet.
    pub fn is_waiting(&self) -> bool {
        !self.taken.is_empty() || !self.inbox.posted.lock().is_empty()
    }

    /// The channels that are listed, each of them once.
    pub fn listed(&self) -> Vec<ChannelId> {
        self.taken.iter().copied().chain(self.inbox.posted.lock().iter().copied()).collect()
    }

    fn next(&mut self) -> Option<ChannelId> {
        if self.taken.is_empty() {
            mem::swap(&mut *self.inbox.posted.lock(), &mut self.taken);
        }
        self.taken.pop_front()
    }
}
