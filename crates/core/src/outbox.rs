//! The bounded queue between a session and a socket that is full, or that has its turn later.
//! Bounded in bytes here, in age by the sweep. Never awaits.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

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

struct Entry {
    frame: Frame,
    since: Instant,
    messages: u32,
}

/// What waits for one socket. Exists only while something waits.
#[derive(Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Bytes of the first entry that are written already.
    head: usize,
    /// Since when the socket has kept what it took and could not send.
    unsent: Option<Instant>,
    /// Sampled messages whose replies are in it, each with the bytes up to its end that wait.
    traces: Vec<(usize, Arc<Trace>)>,
}

/// What a write did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Bytes the socket took.
    pub(crate) bytes: usize,
    /// For each entry that left whole: how many messages, and how long the oldest waited.
    pub(crate) waits: Vec<(u32, Duration)>,
    /// The socket is full: wait until it is writable.
    pub(crate) full: bool,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long the oldest byte has waited, be it here or in the socket.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let oldest = self.unsent.into_iter().chain(self.entries.front().map(|e| e.since)).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
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
        if let Some(Entry { frame: Frame::Own(tail), messages: held, .. }) = self.entries.back_mut()
            && tail.len() + frame.len() <= JOIN_BYTES_MAX
        {
            tail.extend_from_slice(frame);
            *held += messages;
            return Ok(());
        }
        self.entries.push_back(Entry { frame: Frame::Own(frame.to_vec()), since: now, messages });
        Ok(())
    }

    /// Appends one message that is shared with others.
    pub(crate) fn push_shared(
        &mut self,
        frame: Bytes,
        max: usize,
        now: Instant,
    ) -> Result<(), PushError> {
        self.check(frame.len(), max)?;
        self.bytes += frame.len();
        self.entries.push_back(Entry { frame: Frame::Shared(frame), since: now, messages: 1 });
        Ok(())
    }

    /// An empty outbox takes anything: a peer that has kept up is not slow because of the size of
    /// what it is sent next.
    fn check(&self, size: usize, max: usize) -> Result<(), PushError> {
        if self.bytes > 0 && self.bytes + size > max {
            return Err(PushError { held: self.bytes, size, max });
        }
        Ok(())
    }

    /// One vectored write of what has gathered; what the socket holds of earlier ones goes first.
    ///
    /// # Errors
    /// Those of the socket; a full socket is not one of them.
    pub(crate) fn write_to(
        &mut self,
        socket: &mut impl Transport,
        now: Instant,
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
        Ok(Written { bytes, waits: self.advance(bytes, now), full: unsent || bytes < offered })
    }

    fn flush(&mut self, socket: &mut impl Transport) -> io::Result<Written> {
        match socket.try_flush() {
            Ok(()) => {
                self.unsent = None;
                Ok(Written::default())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Written { full: true, ..Written::default() })
            }
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, bytes: usize, now: Instant) -> Vec<(u32, Duration)> {
        let mut waits = Vec::new();
        self.bytes -= bytes;
        self.head += bytes;
        while let Some(front) = self.entries.front()
            && self.head >= front.frame.as_slice().len()
        {
            self.head -= front.frame.as_slice().len();
            waits.push((front.messages, now.saturating_duration_since(front.since)));
            self.entries.pop_front();
        }
        waits
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
        outbox.push_shared(Bytes::from_static(b"two "), 100, now).unwrap();
        outbox.push_own(b"three ", 1, 100, now).unwrap();
        let written = outbox.write_to(&mut socket, now).unwrap();
        assert!(written.full);
        assert_eq!((written.bytes, written.waits.len()), (10, 2));
        assert_eq!(peer.receive(100), b"one two th");
        let written = outbox.write_to(&mut socket, now).unwrap();
        assert!(!written.full);
        assert_eq!(peer.receive(100), b"ree ");
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_bound_counts_every_byte_that_waits() {
        let mut outbox = Outbox::default();
        let now = clock::now();
        outbox.push_own(b"12345678", 1, 10, now).unwrap();
        let error = outbox.push_shared(Bytes::from_static(b"abc"), 10, now).unwrap_err();
        assert_eq!(error, PushError { held: 8, size: 3, max: 10 });
        outbox.push_shared(Bytes::from_static(b"ab"), 10, now).unwrap();
        assert_eq!(outbox.bytes(), 10);
    }
}
