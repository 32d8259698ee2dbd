//! Between the decoder and the session: tells it of messages and answers, and carries out what it
//! wants. Replies leave in the order of their requests; nothing is written here.

use std::sync::Arc;

use crate::clock::{self, Tick};
use crate::connection::{Connection, Fate, Lent};
use crate::context::RequestId;
use crate::replies::Waiting;
use crate::service::{Action, Answer, Message, MessageKind, Response, Ticket};
use crate::site::Decoder;
use crate::stage::Stage;
use crate::trace::{Source, Trace, TraceContext};
use crate::transport::Transport;
use crate::wire::lines::Plain;

impl<S: Transport> Connection<S> {
    #[inline]
    pub(super) fn dispatch(&mut self, message: Message<'_>, lent: &mut Lent<'_>) {
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
            Decoder::Lines(_) | Decoder::Length(_) | Decoder::WebSocket(_) | Decoder::Stream(_) => {
                Plain::default()
            }
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

    /// Carries out what the session asked for. `answered` is the ticket whose slot a reply fills;
    /// `None` is the newest message, which has this trace.
    pub(super) fn carry_out(
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
                Action::AwaitRoom => self.flags.wants_room = true,
                Action::WakeAt(at) => {
                    let left = at.map(|at| at.saturating_duration_since(lent.now));
                    self.wake_at = left.map_or(Tick::NEVER, |left| lent.tick.after(left));
                }
            }
        }
        if let (Some(ticket), Some(replies)) = (owed, &mut self.replies) {
            replies.leave_empty(ticket);
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

    /// Replies whose turn it is join what waits: writes have a turn of their own. They leave their
    /// slots as the outbox has room, so that a peer for whom one slow answer held back many is not
    /// taken for a slow consumer when they are due at once.
    pub(super) fn queue_due(&mut self, lent: &mut Lent<'_>) -> Fate {
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

    pub(super) fn queue_and_shut(&mut self, lent: &mut Lent<'_>) -> Fate {
        match self.queue_out(lent) {
            Fate::Keep => self.shut_when_written(lent),
            end @ Fate::End(_) => end,
        }
    }
}
