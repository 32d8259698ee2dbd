//! The way out of an open connection: drained, finished by either side, closed when nothing is owed.
//! What is written on the way is `writing`'s.

use crate::close::CloseReason;
use crate::connection::{Connection, Fate, Lent, Phase};
use crate::service::Goodbye;
use crate::site::SiteWire;
use crate::transport::Transport;
use crate::wire::lines::Plain;
use crate::wire::websocket;

impl<S: Transport> Connection<S> {
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
                self.say_goodbye(lent);
                self.phase = Phase::Closing;
            }
        }
        Fate::Keep
    }

    /// The last word: the session's, or what the wire has for the reason.
    fn say_goodbye(&mut self, lent: &mut Lent<'_>) {
        let (site, out) = (lent.site, &mut lent.actions.out);
        let peer_closed = self.reason == CloseReason::PeerClosed;
        let goodbye = if peer_closed { Goodbye::Usual } else { self.session.goodbye(self.reason) };
        match goodbye {
            Goodbye::Usual => site.encode_goodbye(self.reason, self.echo, out),
            Goodbye::Close(code, reason) if site.wire == SiteWire::WebSocket => {
                websocket::encode::close(Some(code), &reason, out);
            }
            Goodbye::Close(..) => site.encode_goodbye(self.reason, self.echo, out),
            Goodbye::Message(message, kind) => {
                site.wire.encode(&message, kind, out);
                if site.wire == SiteWire::WebSocket {
                    site.encode_goodbye(self.reason, self.echo, out);
                }
                site.encode_end(out);
            }
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
