//! Subscribers that do not keep up: what is done about each, and the way back for those that read from
//! the history meanwhile.

use weir_core::local::{Keep, Terms};

use super::channel::{Channel, Slow};
use super::events::Framed;
use super::{Hub, Place};
use crate::broker::{Event, Position};
use crate::namespace::SlowPolicy;

/// What came of the attempt to join the others again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caught {
    /// What is published from here on is told to it as to everybody.
    Up,
    /// Something beyond that place was told to the others: there is more to read.
    NotYet,
    /// The stream is another one: what it has is no part of it.
    Hole,
    /// It was not behind, or is not there any more.
    Gone,
}

impl Hub {
    /// Whether a subscriber reads from the history.
    pub(crate) fn is_behind(&mut self, place: Place) -> bool {
        let channel = self.channels.get_mut(place.channel as usize);
        channel.and_then(|channel| channel.get_mut(place.slot)).is_some_and(|it| it.behind)
    }

    /// A subscriber that was behind has everything up to this place.
    ///
    /// What the others have not been told yet is beyond [`Channel::read`] and comes to it in its turn,
    /// and what they have been told meanwhile is up to there: so nothing is lost or doubled when the
    /// place is not before that.
    pub(crate) fn catch_up(&mut self, place: Place, position: Position) -> Caught {
        let Some(channel) = self.channels.get_mut(place.channel as usize) else {
            return Caught::Gone;
        };
        let read = channel.read;
        let Some(subscriber) = channel.get_mut(place.slot).filter(|it| it.behind && !it.over)
        else {
            return Caught::Gone;
        };
        match read {
            Some(read) if read.epoch != position.epoch => return Caught::Hole,
            Some(read) if read.offset > position.offset => return Caught::NotYet,
            Some(_) | None => {}
        }
        (subscriber.behind, subscriber.offset) = (false, position.offset);
        Caught::Up
    }
}

impl Channel {
    /// The terms on which an event waits for a subscriber of this policy. Only publications give way, and
    /// only those with a place in the stream can be read later.
    pub(super) fn terms(
        &self,
        slow: Slow,
        framed: &mut Framed,
        keys: &super::RandomState,
    ) -> Terms {
        let Event::Publication(publication) = &framed.event else { return Terms::STRICT };
        let keep = match (slow, &self.slow.policy) {
            (Slow::DropOldest, _) => Keep::Newest(self.lane),
            (Slow::LatestByKey, SlowPolicy::LatestByKey(of)) => {
                Keep::NewestOfKey(self.lane, framed.key(of, keys))
            }
            (Slow::CatchUp, _) if publication.position.is_some() => Keep::Patiently,
            // The rules have changed since it came: no key is known any more.
            (Slow::LatestByKey, _) => Keep::Newest(self.lane),
            (Slow::Disconnect | Slow::CatchUp, _) => return Terms::STRICT,
        };
        Terms { keep, bytes_max: self.slow.bytes_max }
    }
}
