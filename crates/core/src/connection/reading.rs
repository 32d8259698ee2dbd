//! Bytes in: the bounded read turn, and the decoder's steps until nothing whole is left. What a
//! message means is `talking`'s.

use std::io;
use std::time::Duration;

use crate::close::CloseReason;
use crate::connection::{
    Connection, Fate, LINGER_BYTES_MAX, Lent, Phase, READ_BYTES_MAX, READ_MESSAGES_MAX,
};
use crate::metrics::MessageRefusal;
use crate::service::Message;
use crate::site::{Decoder, Site};
use crate::stage::Stage;
use crate::transport::Transport;
use crate::wire::{FrameError, Step};

impl<S: Transport> Connection<S> {
    /// Whether this connection has input to handle and may; then it is marked as queued.
    pub(crate) fn enqueue_read(&mut self, site: &Site) -> bool {
        let wants = !self.flags.in_read_queue && self.has_input() && !self.is_held_back(site);
        self.flags.in_read_queue |= wants;
        wants
    }

    fn has_input(&self) -> bool {
        match self.phase {
            Phase::Open => (self.flags.readable && !self.flags.leaving) || self.flags.undecoded,
            // The peer's end is looked for, what it sends is not.
            Phase::Lingering => self.flags.readable,
            Phase::Finishing | Phase::Closing => false,
        }
    }

    /// The bounds at which a socket is not read: TCP's own back-pressure.
    pub(super) fn is_held_back(&self, site: &Site) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.flags.held
            || self.in_flight() >= site.limits.in_flight_max
            || self.outbox_bytes() > site.limits.outbox_bytes_max / 4
            || site.limits.messages_per_second_max.is_some_and(|max| self.window >= max)
    }

    /// A read turn: at most [`READ_BYTES_MAX`] bytes or [`READ_MESSAGES_MAX`] messages, answered
    /// by one write. Returns the messages handled.
    pub(crate) fn read_turn(&mut self, lent: &mut Lent<'_>) -> (Fate, u32) {
        self.flags.in_read_queue = false;
        if self.phase == Phase::Lingering {
            return (self.discard(lent), 0);
        }
        if self.phase != Phase::Open || self.is_held_back(lent.site) {
            return (Fate::Keep, 0);
        }
        let (before, owed) = (self.received, self.in_flight());
        let fate = self.read_and_decode(lent);
        let messages = (self.received - before) as u32;
        let framed = self.time_read(messages, lent);
        let fate = match fate {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        };
        if let Some(took) = lent.watch.mark()
            && messages > 0
        {
            lent.worker.stages[Stage::Write as usize].observe(took, u64::from(messages));
            // Those that wait for an answer are timed when their replies leave.
            let waiting = self.in_flight().saturating_sub(owed) as u64;
            let answered = u64::from(messages).saturating_sub(waiting);
            if answered > 0 {
                lent.cells.durations.observe(framed + took, answered);
            }
        }
        (fate, messages)
    }

    /// Returns how long reading took; zero while stages are not timed.
    fn time_read(&mut self, messages: u32, lent: &mut Lent<'_>) -> Duration {
        let took = lent.watch.mark().unwrap_or_default();
        if messages > 0 && lent.watch.is_on() {
            lent.worker.stages[Stage::Frame as usize].observe(took, u64::from(messages));
        }
        took
    }

    fn read_and_decode(&mut self, lent: &mut Lent<'_>) -> Fate {
        let mut ended = false;
        let mut read = 0;
        // The scratch buffer is the worker's: taken out for the turn, so that `lent` stays whole.
        let scratch = std::mem::take(&mut lent.scratch);
        if self.flags.readable && !self.flags.undecoded && !self.flags.leaving {
            let room = scratch.len().min(READ_BYTES_MAX);
            match self.socket.try_read(&mut scratch[..room]) {
                Ok(0) => ended = true,
                Ok(n) => {
                    read = n;
                    // A short read ends an edge, unless the peer's end lies behind it.
                    self.flags.readable =
                        n == room || self.flags.hangup || self.socket.has_unread();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flags.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    // TLS without its own end may have been cut: what is unfinished stays so.
                    self.rest = None;
                    ended = true;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Fate::End(CloseReason::ProtocolError);
                }
                Err(_) => return Fate::End(CloseReason::PeerReset),
            }
        }
        self.received_bytes += read as u64;
        lent.cells.bytes_received.add(read as u64);
        let first = lent.site.unless_json.is_some() && self.received_bytes == read as u64;
        if first && self.is_other_wire(&scratch[..read], lent) {
            // It is decoded in its next turn, which is lent what belongs to its site then.
            lent.scratch = scratch;
            return Fate::Keep;
        }
        if read > 0 || self.flags.undecoded {
            let was_partial = self.is_partial();
            let before = self.received;
            match self.rest.take() {
                Some(mut rest) => {
                    rest.extend_from_slice(&scratch[..read]);
                    let taken = self.decode(&mut rest, lent);
                    rest.drain(..taken);
                    self.keep_rest(Some(rest), &[]);
                }
                None => {
                    let taken = self.decode(&mut scratch[..read], lent);
                    self.keep_rest(None, &scratch[taken..read]);
                }
            }
            if !was_partial || self.received > before {
                self.partial_since = lent.tick;
            }
        }
        lent.scratch = scratch;
        if ended { self.peer_ended(lent) } else { self.advance(lent) }
    }

    /// Looks at the first byte, when it is there. True when the connection goes on as another site, with
    /// these bytes among those that wait.
    #[cold]
    fn is_other_wire(&mut self, read: &[u8], lent: &Lent<'_>) -> bool {
        let rest = self.rest.as_ref().and_then(|rest| rest.first());
        let Some(first) = rest.or(read.first()) else { return false };
        let Some((site, wire)) = lent.site.unless_json.filter(|_| *first != b'{') else {
            return false;
        };
        self.rest.get_or_insert_default().extend_from_slice(read);
        self.flags.undecoded = true;
        self.partial_since = lent.tick;
        self.site = site;
        self.decoder = lent.site.decoder_of(wire, None);
        self.session.on_wire(wire);
        true
    }

    /// Whether the first byte of a message has come and its last has not.
    pub(super) fn is_partial(&self) -> bool {
        let gathering = matches!(&self.decoder, Decoder::WebSocket(d) if d.is_gathering());
        self.rest.is_some() || gathering
    }

    /// Keeps what was not decoded; nothing of it when the connection is on its way out.
    #[expect(clippy::box_collection, reason = "as it lies in the connection")]
    fn keep_rest(&mut self, rest: Option<Box<Vec<u8>>>, tail: &[u8]) {
        self.rest = match rest {
            _ if self.phase != Phase::Open => None,
            Some(rest) if !rest.is_empty() => Some(rest),
            None if !tail.is_empty() => Some(Box::new(tail.to_vec())),
            _ => None,
        };
    }

    /// Decodes and dispatches until nothing whole is left or a bound is reached. Returns the bytes
    /// that are done with.
    fn decode(&mut self, buf: &mut [u8], lent: &mut Lent<'_>) -> usize {
        let mut taken = 0;
        let mut messages = 0;
        let before = self.received;
        self.flags.undecoded = false;
        while taken < buf.len() && self.phase == Phase::Open {
            if messages == READ_MESSAGES_MAX || self.is_held_back(lent.site) {
                self.flags.undecoded = true;
                break;
            }
            let tail = &mut buf[taken..];
            let step = match &mut self.decoder {
                Decoder::Lines(decoder) => decoder.step(tail),
                Decoder::Length(decoder) => decoder.step(tail),
                Decoder::WebSocket(decoder) => decoder.step(tail),
                Decoder::Stream(decoder) => decoder.step(tail),
            };
            match step {
                Ok(Step::More { .. }) => break,
                Ok(Step::Message { payload, taken: n, kind }) => {
                    messages += 1;
                    self.dispatch(Message { payload: &tail[payload], kind }, lent);
                    taken += n;
                }
                Ok(Step::Gathered { taken: n, kind }) => {
                    messages += 1;
                    if let Decoder::WebSocket(decoder) = &mut self.decoder {
                        let payload = decoder.take_gathered();
                        self.dispatch(Message { payload: &payload, kind }, lent);
                    }
                    taken += n;
                }
                Ok(Step::Skip { taken: n }) => taken += n,
                Ok(Step::Ping { payload, taken: n }) => {
                    crate::wire::websocket::encode::frame(
                        crate::wire::websocket::encode::Opcode::Pong,
                        &tail[payload],
                        &mut lent.actions.out,
                    );
                    taken += n;
                }
                Ok(Step::Pong { taken: n, .. }) => {
                    self.flags.ping.set_unanswered(false);
                    self.active = lent.tick;
                    taken += n;
                }
                Ok(Step::Close { code, taken: n }) => {
                    self.echo = Some(code);
                    self.finish(CloseReason::PeerClosed);
                    taken += n;
                }
                Err(error) => self.refuse(&error, lent),
            }
        }
        self.count_received(before, lent);
        taken
    }

    /// Counts the messages since there were `before`, ahead of the write that answers them.
    fn count_received(&mut self, before: u64, lent: &Lent<'_>) {
        if self.received > before {
            self.active = lent.tick;
            lent.cells.messages_received.add(self.received - before);
        }
    }

    fn refuse(&mut self, error: &FrameError, lent: &Lent<'_>) {
        let refusal = match error {
            FrameError::TooBig { .. } => MessageRefusal::TooBig,
            FrameError::InvalidUtf8 => MessageRefusal::InvalidUtf8,
            FrameError::Protocol(_) => MessageRefusal::Protocol,
        };
        lent.cells.refused[refusal as usize].add(1);
        tracing::debug!(conn = %self.id, listener = lent.site.listener, %error, "message refused");
        self.finish(CloseReason::from(error));
    }

    fn peer_ended(&mut self, lent: &mut Lent<'_>) -> Fate {
        self.flags.readable = false;
        self.flags.ended = true;
        if self.phase == Phase::Open {
            self.last_line(lent);
            // What cannot be finished any more is not a message.
            self.rest = None;
            self.finish(CloseReason::PeerClosed);
        }
        self.advance(lent)
    }

    /// The last unfinished line at a half-close, when the policy delivers it.
    fn last_line(&mut self, lent: &mut Lent<'_>) {
        let rest = self.rest.take().unwrap_or_default();
        let Decoder::Lines(decoder) = &mut self.decoder else { return };
        match decoder.finish(&rest) {
            Ok(Some((payload, kind))) => {
                let before = self.received;
                self.dispatch(Message { payload: &rest[payload], kind }, lent);
                self.count_received(before, lent);
            }
            Ok(None) => {}
            Err(error) => self.refuse(&error, lent),
        }
    }

    /// Reads and forgets: closing with unread input would reset what the peer has not read yet.
    fn discard(&mut self, lent: &mut Lent<'_>) -> Fate {
        match self.socket.try_read(lent.scratch) {
            Ok(0) => Fate::End(self.reason),
            Ok(n) => {
                if self.window == 0 {
                    lent.cells.refused[MessageRefusal::Closing as usize].add(1);
                }
                self.window += n as u32;
                let more = self.flags.hangup || self.socket.has_unread();
                self.flags.readable = n == lent.scratch.len() || more;
                if self.window > LINGER_BYTES_MAX { Fate::End(self.reason) } else { Fate::Keep }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.readable = false;
                Fate::Keep
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Fate::Keep,
            Err(_) => Fate::End(self.reason),
        }
    }
}
