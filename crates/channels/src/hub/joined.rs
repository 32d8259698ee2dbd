//! Publications that are told together: one frame for all of them, where each would have its own. Who
//! is told one by one, and what becomes of a frame, is the fan-out's business.

use bytes::Bytes;
use weir_core::budget::SharedFrames;

use super::channel::{Slow, Subscriber};
use super::events::{Dialect, Framed};
use crate::broker::{Epoch, Event, Position};

/// Bytes of a joined frame at most: a longer one is copied for less than it saves.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Several publications that follow each other, as one.
pub(super) struct Joined {
    /// How many they are.
    pub(super) count: u32,
    /// The number of the first.
    number: u64,
    /// The places of the first and the last, when they are of a stream.
    ends: Option<(Position, Position)>,
    /// Their frames, one behind the other; `None`: too long, or one of them has none. As many as a
    /// publication has forms.
    made: Vec<(Dialect, Option<Bytes>)>,
    /// Counts its bytes.
    frames: SharedFrames,
}

impl Joined {
    /// All of these; `None` when there are not several, or not only publications that follow each other.
    pub(super) fn of(events: &[Framed], frames: &SharedFrames) -> Option<Self> {
        let [first, .., last] = events else { return None };
        let begin = first.event.position();
        let follows = |(framed, at): (&Framed, u64)| {
            let is_publication = matches!(framed.event, Event::Publication(_));
            let place = begin.map(|begin| Position { offset: begin.offset + at, ..begin });
            is_publication && framed.event.position() == place
        };
        events.iter().zip(0..).all(follows).then(|| Self {
            count: events.len() as u32,
            number: first.number,
            ends: begin.zip(last.event.position()),
            made: Vec::new(),
            frames: frames.clone(),
        })
    }

    /// Whether all of them are next for this subscriber, and wait for it until they are written.
    pub(super) fn suit(&self, subscriber: &Subscriber, epoch: Option<Epoch>) -> bool {
        let are_kept = matches!(subscriber.slow, Slow::Disconnect | Slow::CatchUp);
        let are_next = match self.ends {
            Some((first, _)) if subscriber.positioned => {
                let same = epoch.is_none_or(|epoch| epoch == first.epoch);
                same && !subscriber.behind && subscriber.offset + 1 == first.offset
            }
            Some(_) | None => true,
        };
        are_kept && are_next && subscriber.number < self.number
    }

    /// The last one's place, for a subscriber with a position.
    pub(super) fn end(&self, subscriber: &Subscriber) -> Option<Position> {
        self.ends.filter(|_| subscriber.positioned).map(|(_, last)| last)
    }

    /// The bytes of these events, which are those that it was made of, in this dialect; `None` when they
    /// are told one by one.
    pub(super) fn frame(
        &mut self,
        dialect: Dialect,
        events: &mut [Framed],
        channel: &str,
    ) -> Option<&Bytes> {
        let made = self.made.iter().position(|(made, _)| *made == dialect);
        let at = made.unwrap_or_else(|| {
            let frame = join(dialect, events, channel).map(|bytes| self.frames.frame(bytes));
            self.made.push((dialect, frame));
            self.made.len() - 1
        });
        self.made[at].1.as_ref()
    }
}

#[cold]
fn join(dialect: Dialect, events: &mut [Framed], channel: &str) -> Option<Vec<u8>> {
    let mut size = 0;
    for framed in &mut *events {
        size += framed.frame(dialect, channel).ok()?.len();
    }
    if size > JOINED_BYTES_MAX {
        return None;
    }
    let mut joined = Vec::with_capacity(size);
    for framed in events {
        joined.extend_from_slice(framed.frame(dialect, channel).ok()?);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weir_core::clock;

    use super::*;
    use crate::broker::epoch::Epochs;
    use crate::broker::{ClientInfo, Publication};
    use crate::protocol::Form;

    /// Publications with these numbers, and a place in a stream where one is given.
    fn published(of: &[(u64, Option<Position>)], data: &str) -> Vec<Framed> {
        let framed = |(number, position): &(u64, Option<Position>)| {
            let mut publication = Publication::new(data.as_bytes(), 0, clock::now());
            publication.position = *position;
            let event = Event::Publication(Arc::new(publication));
            Framed::new(*number, event, SharedFrames::default())
        };
        of.iter().map(framed).collect()
    }

    fn is_joined(events: &[Framed]) -> bool {
        Joined::of(events, &SharedFrames::default()).is_some()
    }

    #[test]
    fn only_publications_that_follow_each_other_are_joined() {
        let epochs = Epochs::new(1);
        let (one, two) = (epochs.draw(), epochs.draw());
        let at = |epoch, offset| Some(Position { epoch, offset });
        assert!(is_joined(&published(&[(1, None), (2, None)], "1")));
        assert!(is_joined(&published(&[(1, at(one, 7)), (2, at(one, 8)), (3, at(one, 9))], "1")));
        assert!(!is_joined(&published(&[(1, at(one, 7))], "1")), "there is nothing to join");
        assert!(!is_joined(&published(&[(1, at(one, 7)), (2, at(one, 9))], "1")), "a hole");
        assert!(!is_joined(&published(&[(1, at(one, 7)), (2, at(two, 8))], "1")), "another stream");
        assert!(!is_joined(&published(&[(1, at(one, 7)), (2, None)], "1")));
        let mut with_join = published(&[(1, None)], "1");
        let join = Event::Join(Arc::new(ClientInfo::default()));
        with_join.push(Framed::new(2, join, SharedFrames::default()));
        assert!(!is_joined(&with_join));
    }

    #[test]
    fn a_joined_frame_is_the_frames_of_all_and_made_once() {
        let frames = SharedFrames::default();
        let mut events = published(&[(1, None), (2, None)], r#"{"a":1}"#);
        let mut joined = Joined::of(&events, &frames).expect("two publications");
        let lines = Dialect::Protocol(Form::JsonLine);
        let one = events[0].frame(lines, "news").expect("it is JSON").clone();
        let both = joined.frame(lines, &mut events, "news").expect("short").clone();
        assert_eq!(both, [&one[..], &one[..]].concat());
        let again = joined.frame(lines, &mut events, "news").expect("it was there");
        assert_eq!((again.as_ptr(), frames.bytes()), (both.as_ptr(), both.len() as u64));
    }

    #[test]
    fn what_is_long_or_has_no_form_is_told_one_by_one() {
        let lines = Dialect::Protocol(Form::JsonLine);
        for data in [format!("\"{}\"", "x".repeat(JOINED_BYTES_MAX / 2)), "not json".to_owned()] {
            let mut events = published(&[(1, None), (2, None)], &data);
            let mut joined = Joined::of(&events, &SharedFrames::default()).expect("two");
            assert_eq!(joined.frame(lines, &mut events, "news"), None, "{}", data.len());
        }
    }
}
