//! The bounded queue between a session and a socket that is full, or that has its turn later.
//! Bounded in bytes here, in age by the sweep. Never awaits.
//!
//! What finds no room is refused, unless frames of its own lane may give way to it. A frame that the
//! socket has begun to take never does, and what was gathered for the connection alone never does.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::local::{Keep, Lane};
use crate::trace::Trace;
use crate::transport::Transport;

/// Most slices given to one vectored write (Linux takes 1,024; more than 64 brings nothing).
const SLICES_MAX: usize = 64;

/// Bytes below which frames that only this connection holds are joined: one slice in place of many.
const JOIN_BYTES_MAX: usize = 4096;

/// The outbox would pass its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outbox of {held} bytes has no room for {size} more: outbox_bytes_max = {max}")]
pub(crate) struct PushError {
    held: usize,
    size: usize,
    max: usize,
}

enum Frame {
    /// Shared with other subscribers.
    Shared(Bytes),
    /// Gathered for this connection alone.
    Own(Vec<u8>),
}

impl Frame {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// The size of a cache line, and not by chance: thousands of them wait at a time.
struct Entry {
    frame: Frame,
    since: Instant,
    messages: u32,
    /// What it may give way to; `None`: nothing.
    lane: Option<Lane>,
    /// Which of its lane it is followed by, where that is asked.
    key: u64,
}

const _: () = assert!(size_of::<Entry>() == 64);

/// What waits for one socket. Exists only while something waits.
#[derive(Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Bytes that nobody else has.
    own: usize,
    /// Bytes of the first entry that are written already.
    head: usize,
    /// Since when the socket has kept what it took and could not send.
    unsent: Option<Instant>,
    /// When the socket last took something.
    taken: Option<Instant>,
    /// What waits may wait for as long as the socket takes something now and then.
    patient: bool,
    /// Sampled messages whose replies are in it, each with the bytes up to its end that wait.
    traces: Vec<(usize, Arc<Trace>)>,
}

/// What a write did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Bytes the socket took.
    pub(crate) bytes: usize,
    /// The socket is full: wait until it is writable.
    pub(crate) full: bool,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it holds as a budget counts it: its own bytes, and its places in the queue.
    pub(crate) fn cost(&self) -> usize {
        self.own + self.entries.len() * size_of::<Entry>()
    }

    /// Lets those go that a newer one of their lane, and of their key where there are keys, has
    /// followed. Gives how many.
    pub(crate) fn relieve(&mut self) -> u32 {
        self.forget_followed(None)
    }

    /// How long the oldest byte has waited, be it here or in the socket.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.oldest().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The same; with patience no longer than since the socket last took something.
    pub(crate) fn waited(&self, now: Instant) -> Duration {
        match self.taken.filter(|_| self.patient) {
            Some(taken) => self.age(now).min(now.saturating_duration_since(taken)),
            None => self.age(now),
        }
    }

    fn oldest(&self) -> Option<Instant> {
        self.unsent.into_iter().chain(self.entries.front().map(|entry| entry.since)).min()
    }

    /// Whether its peer is let be slow.
    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }

    /// Lets its peer be slow, until it is empty.
    pub(crate) fn be_patient(&mut self) {
        self.patient = true;
    }

    /// The socket took the last bytes and could not send them: the outbox stays until it has.
    pub(crate) fn wait_for_unsent(&mut self, now: Instant) {
        self.unsent.get_or_insert(now);
    }

    /// Appends `frame` for this connection alone, holding `messages` messages.
    pub(crate) fn push_own(
        &mut self,
        frame: &[u8],
        messages: u32,
        max: usize,
        now: Instant,
    ) -> Result<(), PushError> {
        self.check(frame.len(), max)?;
        self.bytes += frame.len();
        self.own += frame.len();
        if let Some(Entry { frame: Frame::Own(tail), messages: held, .. }) = self.entries.back_mut()
            && tail.len() + frame.len() <= JOIN_BYTES_MAX
        {
            tail.extend_from_slice(frame);
            *held += messages;
            return Ok(());
        }
        let frame = Frame::Own(frame.to_vec());
        self.entries.push_back(Entry { frame, since: now, messages, lane: None, key: 0 });
        Ok(())
    }

    /// Appends a frame of `messages` messages that is shared with others. Gives how many frames have given
    /// way to it.
    pub(crate) fn push_shared(
        &mut self,
        frame: Bytes,
        messages: u32,
        keep: Keep,
        max: usize,
        now: Instant,
    ) -> Result<u32, PushError> {
        let size = frame.len();
        self.patient |= keep != Keep::All;
        let displaced = match self.check(size, max) {
            Ok(()) => 0,
            Err(error) => self.make_room(size, keep, max).ok_or(error)?,
        };
        self.bytes += size;
        let (lane, key) = match keep {
            Keep::All | Keep::Patiently => (None, 0),
            Keep::Newest(lane) => (Some(lane), 0),
            Keep::NewestOfKey(lane, key) => (Some(lane), key),
        };
        let frame = Frame::Shared(frame);
        self.entries.push_back(Entry { frame, since: now, messages, lane, key });
        Ok(displaced)
    }

    /// An empty outbox takes anything: a peer that has kept up is not slow because of the size of
    /// what it is sent next.
    fn check(&self, size: usize, max: usize) -> Result<(), PushError> {
        if self.bytes > 0 && self.bytes + size > max {
            return Err(PushError { held: self.bytes, size, max });
        }
        Ok(())
    }

    /// Has others give way to a frame of this size, and gives how many did; `None` when that is not
    /// enough, or nothing may.
    #[cold]
    fn make_room(&mut self, size: usize, keep: Keep, max: usize) -> Option<u32> {
        match keep {
            Keep::All | Keep::Patiently => None,
            Keep::Newest(lane) => self.forget_oldest(lane, size, max),
            Keep::NewestOfKey(lane, key) => {
                let forgotten = self.forget_followed(Some((lane, key)));
                // A quarter is free from here on, or each delivery would look through all that waits.
                let free = self.check(size, max - max / 4).is_ok();
                free.then_some(forgotten)
            }
        }
    }

    /// Forgets as many of this lane, from the oldest on, as make room; none when all are not enough.
    fn forget_oldest(&mut self, lane: Lane, size: usize, max: usize) -> Option<u32> {
        let first = usize::from(self.head > 0);
        let (mut freed, mut count) = (0, 0);
        for entry in self.entries.iter().skip(first).filter(|entry| entry.lane == Some(lane)) {
            freed += entry.frame.as_slice().len();
            count += 1;
            if self.bytes + size <= max + freed || self.bytes == freed {
                self.forget_first(lane, first, count);
                return Some(count);
            }
        }
        None
    }

    /// Forgets the first `count` of this lane from this place on.
    fn forget_first(&mut self, lane: Lane, first: usize, count: u32) {
        let (mut index, mut left) = (first, count);
        let before = self.entries.iter().take(first).map(|entry| entry.frame.as_slice().len());
        let mut at = before.sum::<usize>() - self.head;
        while left > 0 {
            let size = self.entries[index].frame.as_slice().len();
            if self.entries[index].lane == Some(lane) {
                // They are near the front, so that few are moved.
                self.entries.remove(index);
                self.bytes -= size;
                self.move_traces(at, size);
                left -= 1;
            } else {
                (index, at) = (index + 1, at + size);
            }
        }
    }

    /// Forgets those that are followed by one of the same lane and key: of the lane of the next one,
    /// which follows them too; or of any.
    fn forget_followed(&mut self, next: Option<(Lane, u64)>) -> u32 {
        let name = |entry: &Entry| {
            let lane = entry.lane?;
            next.is_none_or(|(next, _)| next == lane).then_some((lane, entry.key))
        };
        let named = self.entries.iter().enumerate();
        let named = named.filter_map(|(index, entry)| Some((name(entry)?, index)));
        let last: HashMap<(Lane, u64), usize> = named.collect();
        let head = self.head;
        let (mut index, mut at, mut forgotten) = (0, 0, Vec::new());
        self.entries.retain(|entry| {
            let begun = if index == 0 { head } else { 0 };
            let name = name(entry);
            let is_last = name != next && name.is_some_and(|name| last.get(&name) == Some(&index));
            let keeps = begun > 0 || name.is_none() || is_last;
            let size = entry.frame.as_slice().len();
            if keeps {
                at += size - begun;
            } else {
                forgotten.push((at, size));
            }
            index += 1;
            keeps
        });
        for (at, size) in &forgotten {
            self.bytes -= size;
            self.move_traces(*at, *size);
        }
        forgotten.len() as u32
    }

    /// So many bytes from this one on are gone: what was behind them is nearer.
    fn move_traces(&mut self, at: usize, size: usize) {
        for (end, _) in self.traces.iter_mut().filter(|(end, _)| *end > at) {
            *end -= size;
        }
    }

    /// One vectored write of what has gathered; what the socket holds of earlier ones goes first. Of each
    /// entry that leaves whole, `left` is told how many messages it has and how long the oldest waited.
    ///
    /// # Errors
    /// Those of the socket; a full socket is not one of them.
    pub(crate) fn write_to(
        &mut self,
        socket: &mut impl Transport,
        now: Instant,
        left: impl FnMut(u32, Duration),
    ) -> io::Result<Written> {
        if self.entries.is_empty() {
            return self.flush(socket);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut offered = 0;
        for (slot, entry) in slices.iter_mut().zip(&self.entries) {
            let skip = if count == 0 { self.head } else { 0 };
            *slot = IoSlice::new(&entry.frame.as_slice()[skip..]);
            offered += slot.len();
            count += 1;
        }
        let bytes = match socket.try_write_vectored(&slices[..count]) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(Written::default());
            }
            Err(error) => return Err(error),
        };
        let unsent = socket.has_unsent();
        if bytes > 0 || !unsent {
            // More was taken, so all that was taken before has gone.
            self.unsent = unsent.then_some(now);
        }
        self.advance(bytes, now, left);
        Ok(Written { bytes, full: unsent || bytes < offered })
    }

    fn flush(&mut self, socket: &mut impl Transport) -> io::Result<Written> {
        match socket.try_flush() {
            Ok(()) => {
                self.unsent = None;
                Ok(Written::default())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Written { bytes: 0, full: true })
            }
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, bytes: usize, now: Instant, mut left: impl FnMut(u32, Duration)) {
        if bytes > 0 {
            self.taken = Some(now);
        }
        self.bytes -= bytes;
        self.head += bytes;
        while let Some(front) = self.entries.front()
            && self.head >= front.frame.as_slice().len()
        {
            self.head -= front.frame.as_slice().len();
            if let Frame::Own(own) = &front.frame {
                self.own -= own.len();
            }
            left(front.messages, now.saturating_duration_since(front.since));
            self.entries.pop_front();
        }
    }

    /// The bytes that were pushed last end the reply of this message.
    pub(crate) fn trace(&mut self, trace: Arc<Trace>) {
        self.traces.push((self.bytes, trace));
    }

    /// Whether the reply of a traced message waits.
    pub(crate) fn has_traces(&self) -> bool {
        !self.traces.is_empty()
    }

    /// The traced messages whose replies have left with the last `bytes` that were written.
    pub(crate) fn take_traces(&mut self, bytes: usize) -> Vec<Arc<Trace>> {
        let left = self.traces.iter().take_while(|(end, _)| *end <= bytes).count();
        let taken = self.traces.drain(..left).map(|(_, trace)| trace).collect();
        for (end, _) in &mut self.traces {
            *end -= bytes;
        }
        taken
    }

    /// Whether nothing waits any more, here or in the socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.unsent.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::transport::pipe;

    #[test]
    fn what_does_not_fit_into_the_socket_leaves_later_and_in_order() {
        let (mut socket, peer) = pipe(10);
        let mut outbox = Outbox::default();
        let now = clock::now();
        outbox.push_own(b"one ", 1, 100, now).unwrap();
        outbox.push_shared(Bytes::from_static(b"two "), 1, Keep::All, 100, now).unwrap();
        outbox.push_own(b"three ", 1, 100, now).unwrap();
        let mut left = Vec::new();
        let written = outbox.write_to(&mut socket, now, |messages, _| left.push(messages)).unwrap();
        assert!(written.full);
        assert_eq!((written.bytes, left), (10, vec![1, 1]));
        assert_eq!(peer.receive(100), b"one two th");
        let written = outbox.write_to(&mut socket, now, |_, _| {}).unwrap();
        assert!(!written.full);
        assert_eq!(peer.receive(100), b"ree ");
        assert!(outbox.is_empty());
    }

    const ONE: Lane = Lane::MIN;
    const TWO: Lane = ONE.saturating_add(1);

    /// What an outbox holds, once `written` bytes of it are with a socket.
    struct Held {
        outbox: Outbox,
        written: Vec<u8>,
    }

    impl Held {
        /// These frames, of which a socket has taken so many bytes.
        fn new(frames: &[(&'static str, Keep)], taken: usize) -> Self {
            let (mut outbox, now) = (Outbox::default(), clock::now());
            for (frame, keep) in frames {
                match keep {
                    Keep::All => outbox.push_own(frame.as_bytes(), 1, 100, now).unwrap(),
                    Keep::Patiently | Keep::Newest(_) | Keep::NewestOfKey(..) => {
                        assert_eq!(outbox.push_shared((*frame).into(), 1, *keep, 100, now), Ok(0));
                    }
                }
            }
            let mut held = Self { outbox, written: Vec::new() };
            held.write(taken);
            held
        }

        fn write(&mut self, bytes: usize) {
            let (mut socket, peer) = pipe(bytes);
            if bytes > 0 {
                self.outbox.write_to(&mut socket, clock::now(), |_, _| {}).unwrap();
                self.written.extend(peer.receive(bytes));
            }
        }

        fn push(&mut self, frame: &'static str, keep: Keep, max: usize) -> Result<u32, PushError> {
            self.outbox.push_shared(frame.into(), 1, keep, max, clock::now())
        }

        /// All that the peer gets.
        fn end(mut self) -> String {
            let bytes = self.outbox.bytes();
            self.write(bytes);
            assert!(self.outbox.is_empty());
            String::from_utf8(self.written).unwrap()
        }
    }

    #[test]
    fn the_oldest_of_a_lane_give_way_and_nothing_else_does() {
        let (one, two) = (Keep::Newest(ONE), Keep::Newest(TWO));
        let frames =
            [("a1 ", one), ("reply ", Keep::All), ("b1 ", two), ("a2 ", one), ("a3 ", one)];
        let mut held = Held::new(&frames, 0);
        assert_eq!(held.push("a4 ", one, 18), Ok(1));
        assert_eq!(held.push("a5-a6 ", one, 18), Ok(2));
        assert_eq!(held.outbox.bytes(), 18);
        assert_eq!(held.end(), "reply b1 a4 a5-a6 ");
    }

    #[test]
    fn what_the_socket_has_begun_to_take_is_finished() {
        let one = Keep::Newest(ONE);
        let mut held = Held::new(&[("a1 ", one), ("a2 ", one), ("a3 ", one)], 1);
        assert_eq!(held.push("a4 ", one, 8), Ok(1));
        assert_eq!(held.end(), "a1 a3 a4 ");
    }

    #[test]
    fn where_a_lane_cannot_make_room_the_new_one_is_refused_and_nothing_is_lost() {
        let mut held = Held::new(&[("reply ", Keep::All), ("a1 ", Keep::Newest(ONE))], 0);
        assert!(held.push("a2-a3-a4 ", Keep::Newest(ONE), 12).is_err());
        assert!(held.push("b1-b2 ", Keep::Newest(TWO), 12).is_err());
        assert!(held.push("c1-c2 ", Keep::Patiently, 12).is_err());
        assert_eq!(held.end(), "reply a1 ");
    }

    #[test]
    fn the_newest_of_each_key_waits() {
        let keyed = |key| Keep::NewestOfKey(ONE, key);
        let frames = [
            ("x1 ", keyed(7)),
            ("reply ", Keep::All),
            ("x2 ", keyed(7)),
            ("y1 ", keyed(8)),
            ("x3 ", keyed(7)),
            ("z1 ", Keep::NewestOfKey(TWO, 7)),
        ];
        let mut held = Held::new(&frames, 1);
        assert_eq!(held.push("y2 ", keyed(8), 22), Ok(2));
        assert_eq!(held.end(), "x1 reply x3 z1 y2 ");
    }

    #[test]
    fn keys_that_leave_too_little_room_are_refused() {
        let keyed = |key| Keep::NewestOfKey(ONE, key);
        let mut held = Held::new(&[("x1 ", keyed(1)), ("y1 ", keyed(2)), ("z1 ", keyed(3))], 0);
        assert!(held.push("q1 ", keyed(4), 11).is_err());
        assert_eq!(held.push("x2 ", keyed(1), 11), Ok(1));
        assert_eq!(held.end(), "y1 z1 x2 ");
    }

    #[test]
    fn the_replies_that_are_traced_end_where_they_end_though_others_give_way() {
        let one = Keep::Newest(ONE);
        let mut held = Held::new(&[("a1 ", one), ("a2 ", one)], 1);
        held.outbox.push_own(b"reply ", 1, 100, clock::now()).unwrap();
        let tracing = crate::trace::Tracing::off();
        held.outbox.trace(tracing.begin(None, true, clock::now()));
        assert_eq!(held.push("a3 ", one, 11), Ok(1));
        assert!(held.outbox.take_traces(7).is_empty());
        assert_eq!(held.outbox.take_traces(1).len(), 1);
    }

    #[test]
    fn who_is_let_be_slow_must_take_something_now_and_then() {
        let (mut outbox, start) = (Outbox::default(), clock::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        outbox.push_shared("a1 ".into(), 1, Keep::Patiently, 100, start).unwrap();
        assert_eq!(outbox.waited(at(5)), Duration::from_secs(5));
        let (mut socket, _peer) = pipe(1);
        outbox.write_to(&mut socket, at(6), |_, _| {}).unwrap();
        assert_eq!(outbox.waited(at(8)), Duration::from_secs(2));
        assert_eq!(outbox.age(at(8)), Duration::from_secs(8));
    }

    #[test]
    fn the_bound_counts_every_byte_that_waits() {
        let mut outbox = Outbox::default();
        let now = clock::now();
        outbox.push_own(b"12345678", 1, 10, now).unwrap();
        let error =
            outbox.push_shared(Bytes::from_static(b"abc"), 1, Keep::All, 10, now).unwrap_err();
        assert_eq!(error, PushError { held: 8, size: 3, max: 10 });
        outbox.push_shared(Bytes::from_static(b"ab"), 1, Keep::All, 10, now).unwrap();
        assert_eq!(outbox.bytes(), 10);
    }
}
