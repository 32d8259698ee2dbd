//! What has happened in one channel and was not read by every worker yet, and who must read it.
//! Pure: the lock around it is the shard's.
//!
//! A worker is listed in its inbox from the first event that it has not read, or from when it asks
//! where the stream is, until it has read the last one, so that a channel is never there twice, not even when the worker leaves and comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::event::{Event, Live, Missed, Read};
use super::inbox::{ChannelId, Inbox};
use super::limits::Limits;
use super::publication::Position;

/// A worker and how far it has read.
#[derive(Debug)]
struct Interest {
    inbox: Arc<Inbox>,
    /// The number of the last event that it was given.
    read: u64,
    /// The channel is in its inbox.
    listed: bool,
    /// It wants to know where the stream is when it has read everything.
    asked: bool,
    /// It has subscribers. One that has none is remembered until it is not listed any more.
    wanted: bool,
}

/// The unread events of one channel. Empty whenever every worker has caught up.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    interests: Vec<Interest>,
    /// Numbered without a gap up to `top`.
    events: VecDeque<Event>,
    top: u64,
    bytes: usize,
    /// The last event with a place in the stream that was forgotten before everybody had read it:
    /// its number and its place.
    passed: Option<(u64, Position)>,
}

impl Tail {
    /// Whether any worker has subscribers.
    pub(crate) fn is_wanted(&self) -> bool {
        self.interests.iter().any(|interest| interest.wanted)
    }

    /// Whether nobody would notice if the channel were gone.
    pub(crate) fn is_idle(&self) -> bool {
        self.interests.is_empty()
    }

    /// The number of the last event.
    pub(crate) fn top(&self) -> u64 {
        self.top
    }

    /// The bytes it is charged for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The worker is told of every event from now on. What it has not read yet stays unread when
    /// it was told before.
    pub(crate) fn register(&mut self, inbox: &Arc<Inbox>) {
        let top = self.top;
        match self.find(inbox) {
            Some(interest) if interest.wanted => {}
            Some(interest) => (interest.wanted, interest.read) = (true, top),
            None => {
                let inbox = Arc::clone(inbox);
                let (listed, asked, wanted) = (false, false, true);
                self.interests.push(Interest { inbox, read: top, listed, asked, wanted });
            }
        }
    }

    /// The worker has no subscribers any more.
    pub(crate) fn unregister(&mut self, inbox: &Arc<Inbox>) {
        if let Some(interest) = self.find(inbox) {
            interest.wanted = false;
        }
        self.interests.retain(|interest| interest.wanted || interest.listed);
        self.forget_read();
    }

    /// Adds an event and lists the channel with each worker that is not told already. Workers that
    /// must be woken are added to `wakes`.
    pub(crate) fn push(
        &mut self,
        channel: ChannelId,
        event: Event,
        limits: &Limits,
        wakes: &mut Vec<Arc<Inbox>>,
    ) {
        self.top += 1;
        if !self.is_wanted() {
            return;
        }
        self.bytes += event.cost();
        self.events.push_back(event);
        self.forget_oldest(limits);
        for interest in self.interests.iter_mut().filter(|interest| interest.wanted) {
            if !interest.listed {
                interest.listed = true;
                if interest.inbox.post(channel) {
                    wakes.push(Arc::clone(&interest.inbox));
                }
            }
        }
    }

    /// The worker wants to know where the stream is: lists the channel with it.
    pub(crate) fn ask(
        &mut self,
        channel: ChannelId,
        inbox: &Arc<Inbox>,
        wakes: &mut Vec<Arc<Inbox>>,
    ) {
        let Some(interest) = self.find(inbox).filter(|interest| interest.wanted) else { return };
        interest.asked = true;
        if !std::mem::replace(&mut interest.listed, true) && inbox.post(channel) {
            wakes.push(Arc::clone(inbox));
        }
    }

    /// Whether the worker has asked and was not answered; it is now.
    pub(crate) fn take_asked(&mut self, inbox: &Arc<Inbox>) -> bool {
        self.find(inbox).is_some_and(|interest| std::mem::take(&mut interest.asked))
    }

    /// Gives a worker at most `max` of the events that it has not read. Called at least once for each
    /// time that the channel was listed, and again as long as there is more.
    pub(crate) fn read(&mut self, inbox: &Arc<Inbox>, max: usize, live: &mut Vec<Live>) -> Read {
        let first = self.first();
        let (top, passed) = (self.top, self.passed);
        let Some(interest) = self.interests.iter_mut().find(|i| Arc::ptr_eq(&i.inbox, inbox))
        else {
            return Read::default();
        };
        if !interest.wanted {
            self.interests.retain(|interest| !Arc::ptr_eq(&interest.inbox, inbox));
            return Read::default();
        }
        let start = first.max(interest.read + 1);
        let missed = start - (interest.read + 1);
        // What was passed over in an older hole is none of this one's.
        let through = passed.filter(|(number, _)| *number > interest.read).map(|(_, place)| place);
        let skipped = usize::try_from(start - first).expect("no more than are kept");
        let events = self.events.iter().skip(skipped).take(max);
        live.extend(
            (start..).zip(events).map(|(number, event)| Live { number, event: event.clone() }),
        );
        interest.read = start.saturating_add(max as u64).saturating_sub(1).min(top);
        interest.listed = interest.read < top;
        let more = interest.listed;
        self.forget_read();
        let missed = (missed > 0).then_some(Missed { events: missed, through });
        Read { more, missed, top: None }
    }

    /// The number of the oldest event that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.top + 1 - self.events.len() as u64
    }

    fn find(&mut self, inbox: &Arc<Inbox>) -> Option<&mut Interest> {
        self.interests.iter_mut().find(|interest| Arc::ptr_eq(&interest.inbox, inbox))
    }

    /// Forgets what every worker has read.
    fn forget_read(&mut self) {
        let wanted = self.interests.iter().filter(|interest| interest.wanted);
        let read = wanted.map(|interest| interest.read).min().unwrap_or(self.top);
        while self.first() <= read
            && let Some(event) = self.events.pop_front()
        {
            self.bytes -= event.cost();
        }
    }

    /// Forgets what is beyond the bounds, read or not.
    fn forget_oldest(&mut self, limits: &Limits) {
        while self.events.len() > limits.unread_events_max.max(1)
            || (self.bytes > limits.unread_bytes_max && self.events.len() > 1)
        {
            let number = self.first();
            let Some(event) = self.events.pop_front() else { return };
            self.bytes -= event.cost();
            if let Some(place) = event.position() {
                self.passed = Some((number, place));
            }
        }
    }
}
