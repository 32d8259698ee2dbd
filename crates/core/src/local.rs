//! The seam to what a service keeps on each worker: one [`Local`] a worker, which its sessions reach
//! without a lock, and which hands what it has to connections in bounded turns.
//!
//! Knows no channel and no subscriber. A turn of a `Local` never calls a session: what a session is
//! to know is noted, and told after the turn.

use std::any::Any;
use std::num::NonZeroU32;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::budget::SharedFrames;
use crate::close::CloseReason;
use crate::worker::table::Key;

/// Names a connection to the [`Local`] of its worker, for as long as it is open. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(Key);

impl Address {
    pub(crate) const fn new(key: Key) -> Self {
        Self(key)
    }

    pub(crate) const fn key(self) -> Key {
        self.0
    }
}

/// What a [`Local`] tells a session: whatever the two have agreed on.
pub type Note = Box<dyn Any + Send>;

/// State that the sessions of one worker share.
pub trait Local: Any + Send {
    /// One turn, short enough for an event loop: called after [`Wake::wake`], and again for as long as it
    /// answers that more is left to do. What it has delivered and said so ([`Post::delivered`]) has its
    /// write first, but for the last few connections.
    fn turn(&mut self, now: Instant, post: &mut dyn Post) -> bool;

    /// Called about once a second, for what has a deadline.
    fn tick(&mut self, _now: Instant) {}

    /// What a turn has delivered that said so ([`Post::delivered`]) has had its write: of each such turn
    /// once, in their order. A connection whose socket is full is not waited for.
    fn written(&mut self, _now: Instant) {}
}

/// Makes a [`Local`] for each worker.
pub trait Locals: Send + Sync {
    /// That of the worker with this number. `wake` gets it a turn.
    fn open(&self, worker: usize, wake: Wake) -> Box<dyn Local>;

    /// Where the frames are counted that they deliver to several connections.
    fn frames(&self) -> SharedFrames {
        SharedFrames::default()
    }
}

/// Gets a [`Local`] a turn, from any thread. Waits for nothing.
#[derive(Clone, Debug)]
pub struct Wake(mpsc::Sender<()>);

impl Wake {
    /// A wake, and the lane that it speaks into: one word is as good as many.
    pub(crate) fn new() -> (Self, mpsc::Receiver<()>) {
        let (wake, lane) = mpsc::channel(1);
        (Self(wake), lane)
    }

    /// The next turn of the worker includes one of its [`Local`].
    pub fn wake(&self) {
        // When the lane is full it will have a turn anyway.
        if let Err(mpsc::error::TrySendError::Closed(())) = self.0.try_send(()) {
            tracing::trace!("woken after its worker had ended");
        }
    }
}

/// Frames that may give way to each other in an outbox: those of one channel, for example. A number
/// that a [`Local`] gives once only.
pub type Lane = NonZeroU32;

/// How a frame waits in an outbox that has no room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Until it is written. What finds no room is refused, and `timeouts.write` counts from when a
    /// frame came.
    #[default]
    All,
    /// The same, for a peer that is let be slow: `timeouts.write` counts from when its socket last
    /// took something.
    Patiently,
    /// The oldest of its lane that wait give way to it; where they are not enough, it is dropped. The
    /// peer is let be slow.
    Newest(Lane),
    /// Those of its lane give way that are followed by one with the same key. Where that leaves less
    /// than a quarter of the room, it is refused. The peer is let be slow.
    NewestOfKey(Lane, u64),
}

/// The terms of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How it waits.
    pub keep: Keep,
    /// Most bytes that wait with it, beside `limits.outbox_bytes_max`.
    pub bytes_max: usize,
}

impl Terms {
    /// It waits until it is written, in all the room that there is.
    pub const STRICT: Self = Self { keep: Keep::All, bytes_max: usize::MAX };
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// It waits in the connection's outbox.
    Taken,
    /// The same, and so many others have given way to it and are gone.
    Displaced(u32),
    /// It found no room, nothing could give way, and by its terms it is dropped.
    Dropped,
    /// There is no room for it within its terms: it was not taken. The session is told when
    /// everything before it has been written ([`crate::service::Session::on_room`]).
    Full,
    /// The connection is closing or closed.
    Gone,
}

/// The connections of a worker, as its [`Local`] reaches them in its turn.
pub trait Post {
    /// Queues a frame that is shared with others: one or more messages, each whole and in the form of the
    /// connection's wire ([`crate::site::SiteWire::frame`]). They are taken together or not at all.
    fn deliver(&mut self, to: Address, frame: &Bytes, messages: u32, terms: Terms) -> Delivery;

    /// Says that the last `deliveries` were of something that happened at `since`: what it took is
    /// counted as the stage `fanout`, and [`Local::written`] is called when they have had their write.
    fn delivered(&mut self, since: Instant, deliveries: u64);

    /// Tells the session of a connection something, after this turn.
    fn tell(&mut self, to: Address, note: Note);

    /// Ends a connection for this reason, after this turn, and without a word when its outbox is
    /// full.
    fn close(&mut self, to: Address, reason: CloseReason);
}
