//! Bytes out: at once when nothing waits before them, or by the outbox in a turn of their own. Knows
//! no message, only how many are in what it writes.

use std::io::{self, IoSlice};

use crate::clock;
use crate::close::CloseReason;
use crate::connection::{Connection, Fate, Lent, Phase};
use crate::stage::Stage;
use crate::transport::Transport;

impl<S: Transport> Connection<S> {
    /// Whether this connection has output, or waits for room for it, and its socket has room; then it
    /// is marked as queued.
    pub(crate) fn enqueue_write(&mut self) -> bool {
        let has_any = self.outbox.is_some() || self.flags.wants_room;
        let wants = !self.flags.in_write_queue && has_any && !self.flags.full;
        self.flags.in_write_queue |= wants;
        wants
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
    pub(super) fn queue_out(&mut self, lent: &mut Lent<'_>) -> Fate {
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

    /// A write turn: one vectored write of what waits.
    pub(crate) fn write_turn(&mut self, lent: &mut Lent<'_>) -> Fate {
        self.flags.in_write_queue = false;
        let Some(outbox) = &mut self.outbox else {
            self.tell_room(lent);
            return match self.advance(lent) {
                Fate::Keep => self.flush(lent),
                end @ Fate::End(_) => end,
            };
        };
        let begun = outbox.has_traces().then(clock::now);
        let mut messages = 0;
        let queued = &lent.worker.stages[Stage::Queue as usize];
        let left = |n, waited| {
            messages += u64::from(n);
            if n > 0 {
                queued.observe(waited, u64::from(n));
            }
        };
        let written = match outbox.write_to(&mut self.socket, lent.now, left) {
            Ok(written) => written,
            Err(_) => return Fate::End(CloseReason::PeerReset),
        };
        let traces = outbox.take_traces(written.bytes);
        self.flags.full = written.full;
        let mut patient = false;
        if outbox.is_empty() {
            patient = outbox.is_patient();
            self.outbox = None;
            self.tell_room(lent);
        }
        self.count_written(written.bytes, lent);
        if let Some(begun) = begun {
            self.trace_written(traces, begun, lent);
        }
        if let Some(took) = lent.watch.mark()
            && messages > 0
        {
            lent.worker.stages[Stage::Write as usize].observe(took, messages);
        }
        let fate = self.queue_due(lent);
        if patient && let Some(outbox) = &mut self.outbox {
            // What is said for there is room is for a peer that is let be slow, too.
            outbox.be_patient();
        }
        fate
    }

    /// Once the last byte is out: shut our side, then linger until the peer's end.
    pub(super) fn shut_when_written(&mut self, lent: &Lent<'_>) -> Fate {
        if self.phase != Phase::Closing || self.outbox.is_some() {
            return Fate::Keep;
        }
        // TLS' own end is a last message: without it the peer cannot tell a close from a cut.
        if self.socket.say_end().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.flags.full = true;
            self.outbox.get_or_insert_default().wait_for_unsent(lent.now);
            return Fate::Keep;
        }
        let done = self.flags.ended || self.socket.shutdown_write().is_err();
        if done || !lent.may_linger {
            return Fate::End(self.reason);
        }
        self.phase = Phase::Lingering;
        self.window = 0;
        self.close_at = lent.tick.after(lent.site.timeouts.close);
        // Input may have come while nobody looked; a spurious look costs one read.
        self.flags.readable = true;
        Fate::Keep
    }

    fn count_sent(&mut self, lent: &mut Lent<'_>) {
        lent.cells.messages_sent.add(u64::from(lent.actions.out_messages));
        lent.actions.out_messages = 0;
    }

    fn count_written(&mut self, bytes: usize, lent: &Lent<'_>) {
        self.sent_bytes += bytes as u64;
        self.flags.wrote |= bytes > 0;
        lent.cells.bytes_sent.add(bytes as u64);
    }
}
