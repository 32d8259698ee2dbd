//! Between a connection and its worker's `Local`: what is delivered to it, what its session is told
//! of, and the time. Nothing is written here.

use std::time::Instant;

use bytes::Bytes;

use crate::close::CloseReason;
use crate::connection::{Connection, Fate, Lent, Phase};
use crate::local::{Delivery, Keep, Note, Terms};
use crate::service::{Actions, Session};
use crate::site::Site;
use crate::transport::Transport;
use crate::wire::lines::Plain;

impl<S: Transport> Connection<S> {
    /// Queues a frame of `messages` messages that is shared with others.
    pub(crate) fn deliver(
        &mut self,
        frame: &Bytes,
        messages: u32,
        terms: Terms,
        site: &Site,
        now: Instant,
    ) -> Delivery {
        if self.phase != Phase::Open || self.flags.leaving {
            return Delivery::Gone;
        }
        let outbox = self.outbox.get_or_insert_default();
        let max = terms.bytes_max.min(site.limits.outbox_bytes_max);
        let pushed = outbox.push_shared(frame.clone(), messages, terms.keep, max, now);
        match pushed {
            Ok(displaced) => {
                self.sent += u64::from(messages);
                if displaced == 0 { Delivery::Taken } else { Delivery::Displaced(displaced) }
            }
            Err(_) if matches!(terms.keep, Keep::Newest(_)) => Delivery::Dropped,
            Err(_) => {
                self.flags.wants_room = true;
                Delivery::Full
            }
        }
    }

    /// Tells the session what the worker's `Local` has noted for it.
    pub(crate) fn note_to_session(&mut self, note: Note, lent: &mut Lent<'_>) -> Fate {
        if self.phase != Phase::Open {
            return Fate::Keep;
        }
        self.tell(lent, |session, now, actions| session.on_note(note, now, actions));
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    /// Closes for this reason; at once when what waits leaves no room for a last word.
    pub(crate) fn dismiss(&mut self, reason: CloseReason, lent: &mut Lent<'_>) -> Fate {
        if self.flags.wants_room {
            return Fate::End(reason);
        }
        self.finish(reason);
        match self.advance(lent) {
            Fate::Keep => self.flush(lent),
            end @ Fate::End(_) => end,
        }
    }

    /// The time has come that the session wanted to be told of.
    pub(super) fn tell_time(&mut self, lent: &mut Lent<'_>) {
        self.wake_at = crate::clock::Tick::NEVER;
        self.tell(lent, |session, now, actions| session.on_time(now, actions));
    }

    /// Everything has been written: whoever waits for room has it.
    pub(super) fn tell_room(&mut self, lent: &mut Lent<'_>) {
        if std::mem::take(&mut self.flags.wants_room) && self.phase == Phase::Open {
            self.tell(lent, |session, now, actions| session.on_room(now, actions));
        }
    }

    /// The connection has ended; what the session wants done now is forgotten.
    pub(crate) fn tell_close(&mut self, reason: CloseReason, lent: &mut Lent<'_>) {
        lent.actions.direct(None, Plain::default());
        self.session.on_close(reason, lent.now, lent.actions);
        let (bytes, list) = lent.actions.take();
        lent.actions.restore(bytes, list);
    }

    fn tell(
        &mut self,
        lent: &mut Lent<'_>,
        what: impl FnOnce(&mut dyn Session, Instant, &mut Actions),
    ) {
        lent.actions.direct(None, Plain::default());
        lent.actions.set_backlog(self.outbox.is_some());
        what(&mut *self.session, lent.now, lent.actions);
        let seq = self.received;
        self.carry_out(seq, None, None, lent);
    }
}
