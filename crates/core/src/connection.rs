//! One connection's life once it is open: reads, asks the session, carries its actions out, closes.
//! Holds no policy beyond its limits, and is polled by its worker's table; no task, no timer.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admission::Permit;
use crate::clock::{self, Tick};
use crate::close::CloseReason;
use crate::context::{ConnId, RequestId};
use crate::door::Introduction;
use crate::ends::Owed;
use crate::metrics::{
    ConnectionRecord, Exemplar, MessageRefusal, SiteCells, Stopwatch, WorkerCells,
};
use crate::outbox::Outbox;
use crate::replies::{Replies, Waiting};
use crate::service::{
    Action, Actions, Answer, Message, MessageKind, Opening, Response, Session, Ticket,
};
use crate::site::{Decoder, Site};
use crate::stage::Stage;
use crate::tls::TlsInfo;
use crate::trace::{About, Sampler, Source, Trace, TraceContext, What};
use crate::transport::Transport;
use crate::wire::lines::Plain;
use crate::wire::{FrameError, Step};
use crate::worker::asks::AskSpawner;
use crate::worker::table::Key;

/// Bytes read in one turn of a connection.
pub(crate) const READ_BYTES_MAX: usize = 64 * 1024;
/// Messages handled in one turn of a connection.
pub(crate) const READ_MESSAGES_MAX: u32 = 256;
/// Input discarded from a connection that lingers after its last word.
const LINGER_BYTES_MAX: u32 = 64 * 1024;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Reads and writes.
    Open,
    /// Reads no more messages; replies that are owed are still awaited and written.
    Finishing,
    /// The last bytes are in the outbox.
    Closing,
    /// Our side is shut; input is discarded until the peer's end, for a bounded time.
    Lingering,
}

/// What came of a turn: keep the connection, or take it out of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Keep,
    End(CloseReason),
}

/// The spans of handshakes, of those connections whose handshake was traced.
pub(crate) type Handshakes = HashMap<ConnId, TraceContext>;

/// What a worker lends to a connection for one turn.
pub(crate) struct Lent<'a> {
    pub(crate) key: Key,
    pub(crate) site: &'a Site,
    pub(crate) cells: &'a SiteCells,
    pub(crate) worker: &'a WorkerCells,
    pub(crate) asks: &'a AskSpawner,
    pub(crate) actions: &'a mut Actions,
    pub(crate) scratch: &'a mut [u8],
    pub(crate) now: Instant,
    pub(crate) tick: Tick,
    pub(crate) watch: &'a mut Stopwatch,
    pub(crate) sampler: &'a mut Sampler,
    pub(crate) handshakes: &'a Handshakes,
    /// Time the session at the next message as well: the first one of a batch in sixteen.
    pub(crate) sample: bool,
    /// It may linger: fewer than the bound do.
    pub(crate) may_linger: bool,
}

/// An open connection, small enough that tens of thousands rest in a table.
#[expect(clippy::box_collection, reason = "8 bytes of the table in place of 24")]
pub(crate) struct Connection<S> {
    socket: S,
    session: Box<dyn Session>,
    decoder: Decoder,
    /// Bytes of an unfinished message, or that wait because reading is held back.
    rest: Option<Box<Vec<u8>>>,
    outbox: Option<Box<Outbox>>,
    replies: Option<Box<Replies>>,
    pub(crate) id: ConnId,
    /// A socket address would be 12 bytes larger, for what is of use on links only.
    peer: (IpAddr, u16),
    pub(crate) site: u16,
    permit: Permit,
    record: ConnectionRecord,
    pub(crate) phase: Phase,
    reason: CloseReason,
    /// Why the session wants it closed at `close_at`.
    close_for: CloseReason,
    /// The Close frame to echo: `Some(None)` is one without a code.
    echo: Option<Option<u16>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) opened: Tick,
    /// The last complete message or pong.
    pub(crate) active: Tick,
    /// The first byte of the unfinished message in `rest`.
    partial_since: Tick,
    heartbeat_sent: Tick,
    /// When it is closed: while it is open, when the session wants that, mostly never; while it
    /// lingers, when the peer's end is no longer waited for.
    close_at: Tick,
    lingered: u32,
    /// Messages since the rate's window began.
    window: u32,
    flags: Flags,
}

/// What is known of the socket, and which queues of the worker hold this connection.
#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    /// An edge said that there is input; it has not been read to the end.
    readable: bool,
    /// The peer ended or cut its side: a short read is not the end.
    hangup: bool,
    /// The socket was full.
    full: bool,
    /// `rest` may hold whole messages.
    undecoded: bool,
    /// A ping has not been answered.
    pinged: bool,
    /// Reading met the peer's end of stream.
    ended: bool,
    in_read_queue: bool,
    in_write_queue: bool,
    drain_told: bool,
    /// Its route looks for a trace context in each message.
    carries_trace: bool,
    /// The session takes no further message for now.
    held: bool,
    /// Its place in the drain has come: nothing more is read, what was read is still answered.
    leaving: bool,
    /// It is leaving because of its age.
    aged: bool,
}

/// What a connection is made of when its handshake is over.
pub(crate) struct NewConnection<S> {
    pub(crate) socket: S,
    /// Its place in the list of sites.
    pub(crate) site: u16,
    pub(crate) id: ConnId,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
    pub(crate) record: ConnectionRecord,
    /// Bytes that came behind the handshake.
    pub(crate) early: Vec<u8>,
    /// The handshake's request id.
    pub(crate) request_id: RequestId,
    /// When the listener accepted it.
    pub(crate) accepted: Instant,
    /// What TLS found out, for the session.
    pub(crate) tls: Option<Arc<TlsInfo>>,
    /// The span of its handshake, when that was traced: the worker keeps it.
    pub(crate) handshake: Option<TraceContext>,
    /// What the handshake leaves for the session.
    pub(crate) introduction: Introduction,
}

impl<S: Transport> Connection<S> {
    pub(crate) fn new(new: NewConnection<S>, site: &Site, tick: Tick) -> Self {
        let session = site.service.open(&Opening {
            conn: new.id,
            peer: new.peer,
            listener: &site.listener,
            carrier: site.carrier(),
            request_id: &new.request_id,
            tls: new.tls.as_ref(),
            principal: new.introduction.principal.as_ref(),
            path: new.introduction.path.as_ref(),
            headers: new.introduction.headers.as_deref(),
        });
        let early = !new.early.is_empty();
        let readable = new.socket.has_unread();
        Self {
            socket: new.socket,
            session,
            decoder: site.decoder(),
            rest: early.then(|| Box::new(new.early)),
            outbox: None,
            replies: None,
            id: new.id,
            peer: (new.peer.ip(), new.peer.port()),
            site: site.index,
            permit: new.permit,
            record: new.record,
            phase: Phase::Open,
            reason: CloseReason::Aborted,
            close_for: CloseReason::Aborted,
            echo: None,
            received: 0,
            sent: 0,
            received_bytes: 0,
            sent_bytes: 0,
            opened: tick,
            active: tick,
            partial_since: tick,
            heartbeat_sent: tick,
            close_at: Tick::NEVER,
            lingered: 0,
            window: 0,
            flags: Flags {
                readable,
                undecoded: early,
                carries_trace: site.service.carries_trace(),
                ..Flags::default()
            },
        }
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// The peer's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer.into()
    }

    /// Bytes that wait in the outbox.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// Messages whose answers are owed.
    pub(crate) fn in_flight(&self) -> usize {
        self.replies.as_ref().map_or(0, |replies| replies.len())
    }

    /// Bytes kept of an unfinished message.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// What the peer is owed.
    pub(crate) fn owed(&self) -> Owed {
        if self.replies.is_some() || self.flags.undecoded {
            Owed::Answers
        } else if self.outbox.is_some() {
            Owed::Bytes
        } else {
            Owed::Nothing
        }
    }

    /// Ends the record; the permit goes back and the socket closes with the drop.
    pub(crate) fn end(mut self, reason: CloseReason) {
        // What still waits is lost: an ordinary end would make a cut message look whole.
        if self.outbox.is_some() {
            self.socket.reset_on_drop();
        }
        let Self { socket, permit, record, .. } = self;
        drop(socket);
        record.close(reason);
        drop(permit);
    }

    /// Notes an edge of the poll.
    pub(crate) fn note(&mut self, readable: bool, writable: bool, hangup: bool) {
        self.flags.readable |= readable || hangup;
        self.flags.hangup |= hangup;
        if writable {
            self.flags.full = false;
        }
    }

    /// Whether this connection has input to handle and may; then it is marked as queued.
    pub(crate) fn enqueue_read(&mut self, site: &Site) -> bool {
        let wants = !self.flags.in_read_queue && self.has_input() && !self.is_held_back(site);
        self.flags.in_read_queue |= wants;
        wants
    }

    /// Whether this connection has output and room for it; then it is marked as queued.
    pub(crate) fn enqueue_write(&mut self) -> bool {
        let wants = !self.flags.in_write_queue && self.outbox.is_some() && !self.flags.full;
        self.flags.in_write_queue |= wants;
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
    fn is_held_back(&self, site: &Site) -> bool {
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

    /// Whether the first byte of a message has come and its last has not.
    fn is_partial(&self) -> bool {
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
                    self.flags.pinged = false;
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

    #[inline]
    fn dispatch(&mut self, message: Message<'_>, lent: &mut Lent<'_>) {
        if self.flags.carries_trace {
            self.dispatch_carrier(message, lent);
        } else if lent.sampler.next(lent.now) {
            self.dispatch_traced(message, None, true, lent);
        } else {
            self.converse(message, lent);
        }
    }

    /// A message that may carry a trace context, which is no part of what the session is told.
    fn dispatch_carrier(&mut self, message: Message<'_>, lent: &mut Lent<'_>) {
        let (found, payload) = lent.site.service.trace(message.payload);
        let message = Message { payload, ..message };
        let tracing = Arc::clone(lent.sampler.tracing());
        let context = tracing.take(Source::Message, found);
        let own = || lent.sampler.next(lent.now);
        let sampled = tracing.decide(context.as_ref(), self.peer.0, lent.now, own);
        if sampled || (context.is_some() && tracing.is_on()) {
            self.dispatch_traced(message, context, sampled, lent);
        } else {
            self.converse(message, lent);
        }
    }

    /// A message that is sampled, or that continues a trace.
    #[cold]
    fn dispatch_traced(
        &mut self,
        message: Message<'_>,
        context: Option<TraceContext>,
        sampled: bool,
        lent: &mut Lent<'_>,
    ) {
        let trace = lent.sampler.tracing().begin(context, sampled, lent.now);
        trace.is_message(self.received + 1, message.payload.len());
        let framed = clock::now();
        trace.stage(Stage::Frame, lent.now, framed);
        lent.actions.begin_trace(Some(Arc::clone(&trace)));
        trace.within(|| self.converse(message, lent));
        trace.stage(Stage::Decode, framed, clock::now());
    }

    /// The reply of a traced message is in what leaves next; or it has none.
    #[cold]
    fn leaves(&self, trace: Arc<Trace>, lent: &mut Lent<'_>) {
        lent.actions.out_traces.push(trace);
    }

    /// Tells the session of a message and carries out what it wants.
    #[inline]
    fn converse(&mut self, message: Message<'_>, lent: &mut Lent<'_>) {
        self.received += 1;
        self.window += 1;
        let seq = self.received;
        let request = RequestId::Message { conn: self.id, seq };
        let begun = std::mem::take(&mut lent.sample).then(clock::now);
        let direct = if self.replies.is_none() { Some(lent.site.wire) } else { None };
        let plain = match &self.decoder {
            Decoder::Lines(decoder) if decoder.is_plain() => Plain::new(message.payload),
            Decoder::Lines(_) | Decoder::Length(_) | Decoder::WebSocket(_) => Plain::default(),
        };
        lent.actions.direct(direct, plain);
        let before = lent.actions.out_messages;
        self.session.on_message(message, &request, lent.now, lent.actions);
        self.sent += u64::from(lent.actions.out_messages - before);
        let trace = lent.actions.take_trace();
        if !lent.actions.list().is_empty() {
            self.carry_out(seq, None, trace, lent);
        } else if let Some(trace) = trace {
            self.leaves(trace, lent);
        }
        if let Some(begun) = begun {
            let took = clock::now().saturating_duration_since(begun);
            lent.worker.stages[Stage::Decode as usize].observe(took, 1);
        }
    }

    /// Carries out what the session asked for. `answered` is the ticket whose slot a reply fills;
    /// `None` is the newest message, which has this trace.
    fn carry_out(
        &mut self,
        seq: u64,
        answered: Option<Ticket>,
        mut trace: Option<Arc<Trace>>,
        lent: &mut Lent<'_>,
    ) {
        let (bytes, mut list) = lent.actions.take();
        let mut owed = answered;
        for action in list.drain(..) {
            match action {
                Action::Reply { payload, kind, .. } => {
                    self.reply(owed.take(), &bytes[payload], kind, &mut trace, lent);
                }
                Action::Ask(ticket, future) => {
                    let guard = lent.asks.spawn(lent.key, ticket, future);
                    let replies = self.replies.get_or_insert_default();
                    match owed.take() {
                        Some(earlier) => replies.ask_again(earlier, ticket, seq, guard),
                        None => {
                            let message = Waiting { begun: lent.now, trace: trace.take() };
                            replies.pending(ticket, seq, guard, message);
                        }
                    }
                }
                Action::Push(message, kind) => self.say(&message, kind, lent),
                Action::Close(reason) => self.finish(reason),
                Action::CloseAt(at) => {
                    self.close_at = Tick::NEVER;
                    if let Some((at, reason)) = at {
                        self.close_at = lent.tick.after(at.saturating_duration_since(lent.now));
                        self.close_for = reason;
                    }
                }
                Action::Hold(hold) => self.flags.held = hold,
            }
        }
        if let (Some(ticket), Some(replies)) = (owed, &mut self.replies) {
            replies.fill(ticket, Vec::new(), 0);
        }
        if let Some(trace) = trace {
            self.leaves(trace, lent);
        }
        lent.actions.restore(bytes, list);
    }

    /// Encodes a message that waits for nothing.
    fn say(&mut self, payload: &[u8], kind: MessageKind, lent: &mut Lent<'_>) {
        self.sent += 1;
        lent.actions.out_messages += 1;
        lent.site.wire.encode(payload, kind, &mut lent.actions.out);
    }

    /// A reply takes its place behind those that are owed before it.
    fn reply(
        &mut self,
        answered: Option<Ticket>,
        payload: &[u8],
        kind: MessageKind,
        trace: &mut Option<Arc<Trace>>,
        lent: &mut Lent<'_>,
    ) {
        let Some(replies) = &mut self.replies else { return self.say(payload, kind, lent) };
        self.sent += 1;
        let mut bytes = Vec::with_capacity(payload.len() + 16);
        lent.site.wire.encode(payload, kind, &mut bytes);
        match answered {
            Some(ticket) => replies.fill(ticket, bytes, 1),
            None => {
                replies.ready(bytes, 1, Waiting { begun: lent.now, trace: trace.take() });
            }
        }
    }

    /// An ask has ended.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer, lent: &mut Lent<'_>) -> Fate {
        let Some(seq) = self.replies.as_ref().and_then(|replies| replies.seq_of(ticket)) else {
            return Fate::Keep;
        };
        let request = RequestId::Message { conn: self.id, seq };
        let trace = self.replies.as_ref().and_then(|replies| replies.trace_of(ticket).cloned());
        if let Some(trace) = &trace {
            trace.ready(clock::now());
            if let Some(fault) = answer.as_ref().map_or_else(|e| Some(e.as_str()), Response::fault)
            {
                trace.fail(fault);
            }
        }
        lent.actions.direct(None, Plain::default());
        lent.actions.begin_trace(trace);
        self.session.on_answer(ticket, answer, &request, lent.now, lent.actions);
        lent.actions.begin_trace(None);
        self.carry_out(seq, Some(ticket), None, lent);
        self.queue_due(lent)
    }

    /// Replies whose turn it is join what waits: writes have a turn of their own. They leave their
    /// slots as the outbox has room, so that a peer for whom one slow answer held back many is not
    /// taken for a slow consumer when they are due at once.
    fn queue_due(&mut self, lent: &mut Lent<'_>) -> Fate {
        if let Some(replies) = &mut self.replies {
            let waiting = self.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
            let room = (lent.site.limits.outbox_bytes_max / 2).saturating_sub(waiting);
            let (now, timed) = (lent.now, lent.watch.is_on());
            let durations = &lent.cells.durations;
            let traces = &mut lent.actions.out_traces;
            let left = |message: Waiting| {
                if timed {
                    durations.observe(now.saturating_duration_since(message.begun), 1);
                }
                traces.extend(message.trace);
            };
            let sent = replies.take_due(&mut lent.actions.out, room, waiting == 0, left);
            lent.actions.out_messages += sent;
            if replies.len() == 0 {
                self.replies = None;
            }
        }
        match self.advance(lent) {
            Fate::Keep => self.queue_and_shut(lent),
            end @ Fate::End(_) => end,
        }
    }

    fn queue_and_shut(&mut self, lent: &mut Lent<'_>) -> Fate {
        match self.queue_out(lent) {
            Fate::Keep => self.shut_when_written(lent),
            end @ Fate::End(_) => end,
        }
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

    /// Stops taking messages; replies that are owed still leave. The first reason stands.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        if self.phase == Phase::Open {
            self.phase = Phase::Finishing;
            self.reason = reason;
        }
    }

    /// Moves a connection that finishes as far as it can go without writing.
    pub(crate) fn advance(&mut self, lent: &mut Lent<'_>) -> Fate {
        if self.flags.leaving && !self.flags.undecoded {
            let aged = self.flags.aged;
            self.finish(if aged { CloseReason::Aged } else { CloseReason::Drained });
        }
        if self.phase == Phase::Finishing {
            self.rest = None;
            if self.replies.is_none() {
                lent.site.encode_goodbye(self.reason, self.echo, &mut lent.actions.out);
                self.phase = Phase::Closing;
            }
        }
        Fate::Keep
    }

    /// Writes what has gathered at once when nothing waits before it.
    pub(crate) fn flush(&mut self, lent: &mut Lent<'_>) -> Fate {
        if !lent.actions.out.is_empty() && self.outbox.is_none() && !self.flags.full {
            let begun = (!lent.actions.out_traces.is_empty()).then(clock::now);
            match self.socket.try_write_vectored(&[IoSlice::new(&lent.actions.out)]) {
                Ok(n) => {
                    self.count_written(n, lent);
                    if n == lent.actions.out.len() {
                        self.count_sent(lent);
                        lent.actions.out.clear();
                        if let Some(begun) = begun {
                            let traces = std::mem::take(&mut lent.actions.out_traces);
                            self.trace_written(traces, begun, lent);
                        }
                    } else {
                        self.flags.full = true;
                        lent.actions.out.drain(..n);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.flags.full = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    lent.actions.out.clear();
                    return Fate::End(CloseReason::PeerReset);
                }
            }
        }
        if self.socket.has_unsent() {
            self.flags.full = true;
            self.outbox.get_or_insert_default().wait_for_unsent(lent.now);
        }
        self.queue_and_shut(lent)
    }

    /// Moves what has gathered to the outbox.
    fn queue_out(&mut self, lent: &mut Lent<'_>) -> Fate {
        if lent.actions.out.is_empty() {
            // What has a trace and no reply ends here.
            for trace in std::mem::take(&mut lent.actions.out_traces) {
                self.trace_ends(&trace, lent.now, lent);
            }
            return Fate::Keep;
        }
        let outbox = self.outbox.get_or_insert_default();
        let messages = lent.actions.out_messages;
        let max = lent.site.limits.outbox_bytes_max;
        // The last word is let past the bound: it is small, and there is one.
        let max = if self.phase == Phase::Closing { max + 256 } else { max };
        let pushed = outbox.push_own(&lent.actions.out, messages, max, lent.now);
        for trace in lent.actions.out_traces.drain(..) {
            outbox.trace(trace);
        }
        self.count_sent(lent);
        lent.actions.out.clear();
        match pushed {
            Ok(()) => Fate::Keep,
            Err(error) => {
                tracing::debug!(conn = %self.id, %error, "slow consumer");
                Fate::End(CloseReason::SlowConsumer)
            }
        }
    }

    /// The replies of these messages were written, beginning at `begun`.
    #[cold]
    fn trace_written(&self, traces: Vec<Arc<Trace>>, begun: Instant, lent: &Lent<'_>) {
        let now = clock::now();
        for trace in traces {
            trace.written(begun, now);
            self.trace_ends(&trace, now, lent);
        }
    }

    /// Ends the traces of messages whose replies will not be written, for `reason`.
    pub(crate) fn abandon_traces(&mut self, reason: CloseReason, lent: &Lent<'_>) {
        let owed = self.replies.as_mut().map(|replies| replies.take_traces()).unwrap_or_default();
        let waiting = self.outbox.as_mut().map(|outbox| outbox.take_traces(usize::MAX));
        for trace in owed.into_iter().chain(waiting.unwrap_or_default()) {
            trace.fail(reason.as_str());
            self.trace_ends(&trace, lent.now, lent);
        }
    }

    /// Hands a trace over, and shows it at the histograms it counts in.
    fn trace_ends(&self, trace: &Trace, now: Instant, lent: &Lent<'_>) {
        let stages = trace.stages();
        let about = || {
            let (seq, bytes) = trace.message();
            About {
                listener: lent.site.listener.clone(),
                route: lent.site.service.route().to_owned(),
                conn: self.id,
                peer: self.peer.into(),
                request: RequestId::Message { conn: self.id, seq },
                handshake: lent.handshakes.get(&self.id).cloned(),
                what: What::Message { carrier: lent.site.carrier(), bytes },
            }
        };
        let Some(exemplar) = lent.sampler.tracing().finish(trace, now, about) else { return };
        if !lent.watch.is_on() {
            return;
        }
        lent.cells.durations.show(exemplar);
        for (stage, value) in stages {
            lent.worker.stages[stage as usize].show(Exemplar { value, ..exemplar });
        }
    }

    fn count_sent(&mut self, lent: &mut Lent<'_>) {
        lent.cells.messages_sent.add(u64::from(lent.actions.out_messages));
        lent.actions.out_messages = 0;
    }

    fn count_written(&mut self, bytes: usize, lent: &Lent<'_>) {
        self.sent_bytes += bytes as u64;
        lent.cells.bytes_sent.add(bytes as u64);
    }

    /// A write turn: one vectored write of what waits.
    pub(crate) fn write_turn(&mut self, lent: &mut Lent<'_>) -> Fate {
        self.flags.in_write_queue = false;
        let Some(outbox) = &mut self.outbox else { return Fate::Keep };
        let begun = outbox.has_traces().then(clock::now);
        let written = match outbox.write_to(&mut self.socket, lent.now) {
            Ok(written) => written,
            Err(_) => return Fate::End(CloseReason::PeerReset),
        };
        let traces = outbox.take_traces(written.bytes);
        self.flags.full = written.full;
        if outbox.is_empty() {
            self.outbox = None;
        }
        self.count_written(written.bytes, lent);
        if let Some(begun) = begun {
            self.trace_written(traces, begun, lent);
        }
        let mut messages = 0;
        for (n, waited) in written.waits {
            messages += u64::from(n);
            if n > 0 {
                lent.worker.stages[Stage::Queue as usize].observe(waited, u64::from(n));
            }
        }
        if let Some(took) = lent.watch.mark()
            && messages > 0
        {
            lent.worker.stages[Stage::Write as usize].observe(took, messages);
        }
        self.queue_due(lent)
    }

    /// Once the last byte is out: shut our side, then linger until the peer's end.
    fn shut_when_written(&mut self, lent: &Lent<'_>) -> Fate {
        if self.phase != Phase::Closing || self.outbox.is_some() {
            return Fate::Keep;
        }
        let done = self.flags.ended || self.socket.shutdown_write().is_err();
        if done || !lent.may_linger {
            return Fate::End(self.reason);
        }
        self.phase = Phase::Lingering;
        self.close_at = lent.tick.after(lent.site.timeouts.close);
        // Input may have come while nobody looked; a spurious look costs one read.
        self.flags.readable = true;
        Fate::Keep
    }

    /// Reads and forgets: closing with unread input would reset what the peer has not read yet.
    fn discard(&mut self, lent: &mut Lent<'_>) -> Fate {
        match self.socket.try_read(lent.scratch) {
            Ok(0) => Fate::End(self.reason),
            Ok(n) => {
                if self.lingered == 0 {
                    lent.cells.refused[MessageRefusal::Closing as usize].add(1);
                }
                self.lingered += n as u32;
                let more = self.flags.hangup || self.socket.has_unread();
                self.flags.readable = n == lent.scratch.len() || more;
                if self.lingered > LINGER_BYTES_MAX { Fate::End(self.reason) } else { Fate::Keep }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.readable = false;
                Fate::Keep
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Fate::Keep,
            Err(_) => Fate::End(self.reason),
        }
    }

    /// The once-a-second look at the deadlines of this connection.
    pub(crate) fn sweep(&mut self, lent: &mut Lent<'_>) -> Fate {
        let timeouts = &lent.site.timeouts;
        self.window = 0;
        if let Some(outbox) = &self.outbox
            && outbox.age(lent.now) >= timeouts.write
        {
            return Fate::End(CloseReason::WriteTimeout);
        }
        match self.phase {
            Phase::Open => self.sweep_open(lent),
            Phase::Lingering if self.close_at <= lent.tick => Fate::End(self.reason),
            Phase::Finishing | Phase::Closing | Phase::Lingering => Fate::Keep,
        }
    }

    fn sweep_open(&mut self, lent: &mut Lent<'_>) -> Fate {
        let timeouts = &lent.site.timeouts;
        // While we hold the reading back, silence is ours and not the peer's.
        let ours = self.is_held_back(lent.site) || self.in_flight() > 0 || self.flags.undecoded;
        if ours {
            self.active = lent.tick;
            self.partial_since = lent.tick;
            self.heartbeat_sent = lent.tick;
        }
        let partial = self.is_partial();
        let quiet = lent.tick.since(self.active);
        if self.close_at <= lent.tick {
            self.finish(self.close_for);
        } else if self.flags.pinged && lent.tick.since(self.heartbeat_sent) >= timeouts.pong {
            self.finish(CloseReason::PongTimeout);
        } else if partial && lent.tick.since(self.partial_since) >= timeouts.read {
            self.finish(CloseReason::ReadTimeout);
        } else if timeouts.idle.is_some_and(|idle| quiet >= idle) {
            self.finish(CloseReason::IdleTimeout);
        } else if self.is_of_age(lent) {
            return self.retire(lent);
        } else {
            self.heartbeat(lent);
        }
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    fn is_of_age(&self, lent: &Lent<'_>) -> bool {
        let age = lent.tick.since(self.opened);
        !self.flags.leaving && lent.site.limits.age_max(self.id).is_some_and(|max| age >= max)
    }

    /// Leaves as in a drain: the session is told, what has arrived is answered, the peer told to go.
    fn retire(&mut self, lent: &mut Lent<'_>) -> Fate {
        self.flags.aged = true;
        match self.tell_drain(lent) {
            Fate::Keep => self.drain(lent),
            end @ Fate::End(_) => end,
        }
    }

    fn heartbeat(&mut self, lent: &mut Lent<'_>) {
        let Some(interval) = lent.site.timeouts.ping_interval else { return };
        let due = lent.tick.since(self.heartbeat_sent) >= interval && !self.flags.pinged;
        if due && self.outbox.is_none() && lent.site.encode_heartbeat(&mut lent.actions.out) {
            self.heartbeat_sent = lent.tick;
            self.flags.pinged = lent.site.expects_pong();
        }
    }

    /// Tells the session that its connection is open.
    pub(crate) fn tell_open(&mut self, lent: &mut Lent<'_>) -> Fate {
        lent.actions.direct(None, Plain::default());
        self.session.on_open(lent.now, lent.actions);
        if lent.actions.list().is_empty() {
            return Fate::Keep;
        }
        self.carry_out(0, None, None, lent);
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    /// Tells the session of the drain, once.
    pub(crate) fn tell_drain(&mut self, lent: &mut Lent<'_>) -> Fate {
        if self.flags.drain_told || self.phase != Phase::Open {
            return Fate::Keep;
        }
        self.flags.drain_told = true;
        lent.actions.direct(None, Plain::default());
        self.session.on_drain(lent.now, lent.actions);
        let seq = self.received;
        self.carry_out(seq, None, None, lent);
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    /// Its place in the drain has come: what has arrived is still answered, then it closes.
    pub(crate) fn drain(&mut self, lent: &mut Lent<'_>) -> Fate {
        if self.phase == Phase::Open {
            // One last look: the kernel may hold a request that was sent before our goodbye.
            self.flags.readable = true;
            let (fate, _) = self.read_turn(lent);
            if let Fate::End(_) = fate {
                return fate;
            }
            self.flags.leaving = true;
        }
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    /// Why it will end, once it is on its way out.
    pub(crate) fn ending(&self) -> Option<CloseReason> {
        (self.phase != Phase::Open).then_some(self.reason)
    }
}
