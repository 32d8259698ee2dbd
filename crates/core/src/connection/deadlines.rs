//! The once-a-second look at what a connection waits for: timeouts, heartbeats, its age. Decides
//! nothing else, and arms no timer.

use std::time::Duration;

use crate::close::CloseReason;
use crate::connection::{Connection, Fate, Lent, Phase};
use crate::site::SiteWire;
use crate::transport::Transport;

impl<S: Transport> Connection<S> {
    /// The once-a-second look at the deadlines of this connection.
    pub(crate) fn sweep(&mut self, lent: &mut Lent<'_>) -> Fate {
        let timeouts = &lent.site.timeouts;
        if let Some(outbox) = &self.outbox
            && outbox.waited(lent.now) >= timeouts.write
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
        self.window = 0;
        // While we hold the reading back, silence is ours and not the peer's.
        let unread = self.is_held_back(lent.site) || self.flags.undecoded;
        if unread || self.in_flight() > 0 {
            self.active = lent.tick;
            self.partial_since = lent.tick;
            self.heartbeat_sent = lent.tick;
        }
        if !unread && self.wake_at <= lent.tick {
            self.tell_time(lent);
        }
        if std::mem::take(&mut self.flags.wrote) && matches!(lent.site.wire, SiteWire::Stream(_)) {
            // Its peer has nothing to say: it is idle when nobody has.
            self.active = lent.tick;
        }
        let partial = self.is_partial();
        let quiet = lent.tick.since(self.active);
        if self.close_at <= lent.tick {
            self.finish(self.close_for);
        } else if self.flags.ping.is_unanswered()
            && lent.tick.since(self.heartbeat_sent) >= self.pings(lent).1
        {
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

    /// How often it is pinged, if it is, and how long its pong may take.
    fn pings(&self, lent: &Lent<'_>) -> (Option<Duration>, Duration) {
        let timeouts = &lent.site.timeouts;
        let own = if self.flags.ping.are_own() { self.session.pings() } else { None };
        match own {
            Some(pings) => (Some(pings.interval), pings.pong),
            None => (timeouts.ping_interval, timeouts.pong),
        }
    }

    fn heartbeat(&mut self, lent: &mut Lent<'_>) {
        let Some(interval) = self.pings(lent).0 else { return };
        let due =
            lent.tick.since(self.heartbeat_sent) >= interval && !self.flags.ping.is_unanswered();
        if due && self.outbox.is_none() && lent.site.encode_heartbeat(&mut lent.actions.out) {
            self.heartbeat_sent = lent.tick;
            self.flags.ping.set_unanswered(lent.site.expects_pong());
        }
    }
}
