//! What happens by itself: pings and pongs, the end of a token's time, and the presence that is kept
//! up. Looked at when the connection's alarm says so, up to 1 s late.

use std::time::{Duration, Instant};

use weir_core::service::Pings;

use super::wanted::Renewal;
use super::{Client, State, Sub, Turn};
use crate::protocol::Reply;
use crate::protocol::codes::{DisconnectCode, UnsubscribeCode};

/// How long a client counts as present without being said to be so again.
pub(crate) const PRESENCE_TTL: Duration = Duration::from_secs(60);
/// How soon it is looked again whether a client that does not keep up can be pinged.
const BACKLOG_LOOK: Duration = Duration::from_secs(1);
/// How often it is said again.
pub(crate) const PRESENCE_INTERVAL: Duration = Duration::from_secs(25);

/// The pings of a WebSocket whose client has asked for them (protocol, section 1.2).
pub(super) const FRAME_PINGS: Pings =
    Pings { interval: Duration::from_secs(25), pong: Duration::from_secs(10) };

/// Pings of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ping {
    /// When the next one leaves, or the pong to the last one is due.
    at: Option<Instant>,
    /// The last one is not answered.
    awaited: bool,
    /// When the client is said to be present again.
    presence_at: Option<Instant>,
}

impl Client {
    /// Begins to ping. The first ping comes after a part of the interval that is the connection's own,
    /// so that those who came together are not pinged together.
    pub(super) fn start_pings(&mut self, turn: &mut Turn<'_>) {
        self.ping.at = self.ping_interval().map(|interval| {
            // The connection's number, spread over the second half of the interval.
            let part = self.conn.raw().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
            turn.now + interval / 2 + interval.mul_f64(part as f64 / 2048.0)
        });
        self.ping.presence_at = Some(turn.now + PRESENCE_INTERVAL);
        self.set_alarm(turn);
    }

    /// How often it is pinged in the protocol.
    pub(super) fn ping_interval(&self) -> Option<Duration> {
        self.policy().options.ping_interval.filter(|_| !self.frame_pings)
    }

    /// An answer to a ping; one that nobody asked for is a mistake.
    pub(super) fn pong(&mut self, turn: &mut Turn<'_>) {
        if !self.ping.awaited {
            return self.end(DisconnectCode::BadRequest, turn);
        }
        self.ping.awaited = false;
        self.ping.at = self.ping_interval().map(|interval| turn.now + interval);
        self.set_alarm(turn);
    }

    /// Has the session told when the first thing is due.
    pub(super) fn set_alarm(&self, turn: &mut Turn<'_>) {
        let delay = self.shared.policy.load().options.expired_close_delay;
        let ends = self.renewal.due(self.expires, delay);
        let subs = self.subs.iter().filter_map(|sub| sub.renewal.due(sub.expires, delay));
        let is_present = self.subs.iter().any(|sub| sub.modes.presence);
        let present = self.ping.presence_at.filter(|_| is_present);
        let first = ends.into_iter().chain(self.ping.at).chain(present).chain(subs).min();
        turn.actions.wake_at(first);
    }

    /// The alarm.
    pub(super) fn time(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Fresh | State::Refused => return self.end(DisconnectCode::Stale, turn),
            // What it waits for has a deadline of its own.
            State::Connecting => return self.opened(turn),
            State::Over => return,
            State::Connected => {}
        }
        let policy = self.policy();
        let delay = policy.options.expired_close_delay;
        if self.renewal.due(self.expires, delay).is_some_and(|at| at <= turn.now) {
            match self.renewal {
                Renewal::Client => return self.end(DisconnectCode::Expired, turn),
                Renewal::Backend | Renewal::Asked => self.ask_to_stay(turn),
            }
        }
        self.end_expired(delay, turn);
        if self.state == State::Over {
            return;
        }
        if self.ping.at.is_some_and(|at| at <= turn.now) && turn.actions.has_backlog() {
            // A ping would come late behind what waits, and its pong later still. Until that has
            // left, `timeouts.write` says whether somebody is there.
            let again = if self.ping.awaited { policy.options.pong_timeout } else { BACKLOG_LOOK };
            self.ping.at = Some(turn.now + again);
        } else if self.ping.at.is_some_and(|at| at <= turn.now) {
            if self.ping.awaited {
                return self.end(DisconnectCode::NoPong, turn);
            }
            self.reply(&Reply::PING, turn);
            self.ping.awaited = true;
            self.ping.at = Some(turn.now + policy.options.pong_timeout);
        }
        if self.ping.presence_at.is_some_and(|at| at <= turn.now) {
            self.ping.presence_at = Some(turn.now + PRESENCE_INTERVAL);
            self.keep_present(turn);
        }
        self.set_alarm(turn);
    }

    /// Ends subscriptions whose time is over, unless the backend is to be asked.
    fn end_expired(&mut self, delay: Duration, turn: &mut Turn<'_>) {
        let now = turn.now;
        let is_over = |sub: &Sub| sub.renewal.due(sub.expires, delay).is_some_and(|at| at <= now);
        let ends = |sub: &Sub| sub.renewal == Renewal::Client && is_over(sub);
        while let Some(at) = self.subs.iter().position(ends) {
            if self.state == State::Over {
                return;
            }
            self.end_expired_one(at, turn);
        }
        for at in 0..self.subs.len() {
            if is_over(&self.subs[at]) {
                self.ask_to_stay_in(at, turn);
            }
        }
    }

    /// Ends a subscription whose time is over; with it the connection, when the server has made it.
    pub(super) fn end_expired_one(&mut self, at: usize, turn: &mut Turn<'_>) {
        if self.subs[at].by_server {
            return self.end(DisconnectCode::SubscriptionExpired, turn);
        }
        self.end_subscription(at, UnsubscribeCode::Expired, turn);
    }
}
