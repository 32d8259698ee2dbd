//! What a worker reads of a channel, in the order in which it happened.

use std::sync::Arc;

use super::epoch::Epoch;
use super::publication::{ClientInfo, Position, Publication};

/// One thing that subscribers are told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publication.
    Publication(Arc<Publication>),
    /// A client has subscribed.
    Join(Arc<ClientInfo>),
    /// A client is subscribed no more.
    Leave(Arc<ClientInfo>),
    /// The stream has begun anew under this epoch: every position of another one is void.
    Reset(Epoch),
}

impl Event {
    /// The bytes it is charged for while a worker has not read it. A new beginning costs nothing,
    /// so that a history can be removed when nothing else fits.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Publication(publication) => publication.cost(),
            Self::Join(info) | Self::Leave(info) => info.cost(),
            Self::Reset(_) => 0,
        }
    }

    /// Its place in the stream, when it has one.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Publication(publication) => publication.position,
            Self::Reset(epoch) => Some(Position { epoch: *epoch, offset: 0 }),
            Self::Join(_) | Self::Leave(_) => None,
        }
    }
}

/// An event with its number in the channel. Numbers count every event, with or without a place in
/// the stream, and are of this process only: a subscriber is told of nothing up to the number
/// that its subscription came with.
#[derive(Clone, Debug)]
pub struct Live {
    /// Counts the events of a channel from 1.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// What one read of a worker found beside the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Events are left: the channel stays listed, and the worker reads it again.
    pub more: bool,
    /// What was forgotten before this worker came to read it.
    pub missed: Option<Missed>,
    /// Where the stream is, when the worker has asked ([`super::Broker::verify`]) and nothing of it is
    /// unread.
    pub top: Option<Top>,
}

/// Where a stream is: who is subscribed has been told all of it, or has missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// The number of the last event: this is for subscriptions that have not begun after it.
    pub number: u64,
    /// The place.
    pub position: Position,
}

/// A hole: the worker was so late that the log's bound has passed over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many events nobody on this worker will see.
    pub events: u64,
    /// The place of the last of them that had one: a publication, or the beginning of a new
    /// stream. Subscribers that are there or beyond have missed no place in the stream. `None`
    /// when only events without one are gone.
    pub through: Option<Position>,
}
